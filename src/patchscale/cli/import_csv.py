"""Command `patchscale import-csv`: make a vendor's export a data set of the study."""

import argparse
import re
import shlex
from pathlib import Path

import pandas as pd

from patchscale.bars import canonical_csv
from patchscale.download.calendar import exchange_today, exchange_zone
from patchscale.download.checks import MAX_MOVE, MAX_VOLATILITY_MOVE
from patchscale.importing.convert import Imported, convert
from patchscale.importing.export import read_export
from patchscale.importing.periods import propose
from patchscale.importing.problems import problems
from patchscale.study import paths
from patchscale.study.errors import InputError, shown, without_secrets
from patchscale.study.files import write_text
from patchscale.study.params import Dataset, load_params
from patchscale.study.parser import local_file, parser

ORDERS = {"day-first": "day first", "month-first": "month first"}
MARKS = {"comma": ",", "point": "."}
KEY = "datasets.csv"


def main(*words: str) -> None:
    """Read, show, check and write; print the command that runs the study on the bars."""
    options = _options(words)
    params = load_params()
    data = Dataset(
        source="csv",
        series="bars",
        calendar=options.calendar,
        start="1900-01-01",
        end=f"{pd.Timestamp.now():%Y-%m-%d}",
        validation_from="1900-01-02",
        test_from="1900-01-03",
    )
    files = {options.file: options.out or paths.INPUTS / f"{_stem(options.file)}.csv"}
    if options.volatility:
        files[options.volatility] = paths.INPUTS / f"{_stem(options.volatility)}.csv"
        if len(files) < 2:
            raise InputError(f"--volatility: {options.volatility} is the price series itself")
        if len(targets := set(files.values())) < 2:
            raise InputError(f"--volatility: both files would be written to {targets.pop()}")
    read = {file: _read(file, data, options) for file in files}
    found = {file: list(each.problems) for file, each in read.items()}
    with_bars = {file: each for file, each in read.items() if len(each.bars)}
    for file in read.keys() - with_bars.keys():
        found[file] = found[file] or ["no finished bar in the file"]
    if with_bars:
        first, last = _common([each.bars for each in with_bars.values()])
        data = data.model_copy(update={"start": first, "end": last})
        for file, each in with_bars.items():
            within = each.bars["date"].between(pd.Timestamp(first), pd.Timestamp(last))
            each.bars = each.bars[within].reset_index(drop=True)
            limit = MAX_VOLATILITY_MOVE if file == options.volatility else MAX_MOVE
            key = f"{KEY}: {file.name}"
            found[file] += problems(each.bars, data, key, limit, each.unread)
    for file, each in read.items():
        print(without_secrets(_shown(file, each, found[file])))
    if count := sum(map(len, found.values())):
        several = "problems" if count > 1 else "problem"
        raise InputError(f"{count} {several}, listed above; nothing was written")
    try:
        proposal = propose(read[options.file].bars, data, params)
    except InputError as error:
        proposal = {}
        reason = str(error)
    texts = {path: canonical_csv(read[file].bars) for file, path in files.items()}
    for path, text in texts.items():
        _refuse_to_replace(path, text, options.force)
    for path, text in texts.items():
        write_text(path, text)
        print(f"written: {path}, {data.start} to {data.end}")
    if not proposal:
        raise InputError(
            f"no periods can be proposed: {reason}; the study cannot run on the written bars, "
            f"`patchscale predict --csv` may"
        )
    print("\n" + _command(files, proposal, options))


def _options(words: tuple[str, ...]) -> argparse.Namespace:
    command = parser(
        "import-csv",
        "Make a data set of the study from daily bars that a vendor or a spreadsheet exported:\n"
        "recognise the columns, list all problems, write the canonical form, and print the\n"
        "command that runs the study on it. Nothing is written where there is a problem.",
        "~/Downloads/SPY.csv",
        "~/Downloads/SPY.csv --volatility ~/Downloads/VIX_History.csv",
        "kurse.csv --out inputs/dax.csv --calendar XETR",
    )
    command.add_argument("file", type=local_file, metavar="FILE", help="export with daily bars")
    command.add_argument("--out", type=Path, help="file to write (default: inputs/NAME.csv)")
    command.add_argument("--volatility", type=local_file, metavar="FILE", help="a volatility index")
    command.add_argument("--calendar", default="XNYS", help="exchange (default: XNYS)")
    command.add_argument("--dates", choices=ORDERS, help="where the dates cannot tell")
    command.add_argument("--decimal", choices=MARKS, help="where the prices cannot tell")
    command.add_argument("--force", action="store_true", help="replace a file with other content")
    options = command.parse_args(words)
    out = options.out
    if out and (out.parent != paths.INPUTS or out.suffix != ".csv"):
        raise InputError(f"--out: {shown(str(out))} is not allowed; {paths.INPUTS}/NAME.csv")
    return options


def _stem(file: Path) -> str:
    """Return the name of a file as a name of the study, in small letters."""
    return re.sub(r"[^a-z0-9_-]+", "-", file.stem.casefold()).strip("-_")[:32] or "bars"


def _read(file: Path, data: Dataset, options: argparse.Namespace) -> Imported:
    return convert(
        read_export(file),
        exchange_zone(data),
        exchange_today(data),
        order=ORDERS.get(options.dates),
        mark=MARKS.get(options.decimal),
        close_only=file == options.volatility,
    )


def _common(series: list[pd.DataFrame]) -> tuple[str, str]:
    """Return the first and the last day that all series have."""
    first = max(bars["date"].iloc[0] for bars in series)
    last = min(bars["date"].iloc[-1] for bars in series)
    if first >= last:
        raise InputError("the series have no days in common")
    return f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"


def _shown(file: Path, read: Imported, found: list[str]) -> str:
    """Return the mapping of a file, what was decided, and all problems."""
    lines = [f"{file}:"]
    lines += [f"  {name:<10} {column}" for name, column in read.mapping.items()]
    if read.unused:
        lines.append(f"  {'not used':<10} {', '.join(read.unused)}")
    lines += [f"  note: {note}" for note in read.notes]
    lines += [f"  problem: {problem}" for problem in found]
    return "\n".join(lines)


def _refuse_to_replace(path: Path, text: str, force: bool) -> None:
    if path.is_file() and not force and path.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{path}: exists with other content; --force replaces it, --out names another file"
        )


def _command(files: dict[Path, Path], proposal: dict[str, str], options: argparse.Namespace) -> str:
    """Return the command that runs the study on the imported bars."""
    keys = {"path": str(files[options.file]), **proposal}
    if options.calendar != "XNYS":
        keys["calendar"] = options.calendar
    if options.volatility:
        path = files[options.volatility]
        symbol = path.stem.upper() if path.stem != "bars" else "VOLATILITY"
        keys |= {"volatility": symbol, "volatility_path": str(path)}
    words = [f"-S {shlex.quote(f'{KEY}.{key}={value}')}" for key, value in keys.items()]
    lines = ["dvc exp run -S dataset=csv", *words, "headline"]
    head = (
        "Next, the study on these bars; it searches for minutes, -S hpo.trials=0 leaves that out:"
    )
    return f"{head}\n\n" + " \\\n    ".join(lines)
