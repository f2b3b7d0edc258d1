"""Download a data set anew and compare it with what dvc.lock and the workspace hold.

Nothing is written. Two readers who get the same hash have the same bars to the last digit.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.bars import COLUMNS, canonical_csv, parse_bars, read_bars
from patchscale.download import checks, sources
from patchscale.download.seams import ratio_seams
from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.lock import dvc_md5, folder_md5, locked_stages, md5_of
from patchscale.study.params import load_params
from patchscale.study.parser import parser
from patchscale.study.stage import run

SHOWN = 3


def compare(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[tuple[str, pd.Index, str]]:
    """Yield what differs between two versions of a series: kind, dates and largest change.

    Parameters
    ----------
    old, new
        Canonical bars, as read back from their text.
    """
    before, after = old.set_index("date"), new.set_index("date")
    for kind, dates in (
        ("row added", after.index.difference(before.index)),
        ("row removed", before.index.difference(after.index)),
    ):
        if len(dates):
            yield kind, dates, ""
    both = before.index.intersection(after.index)
    before, after = before.loc[both], after.loc[both]
    for column in COLUMNS[1:]:
        gap = (after[column] - before[column]).abs()
        if (gap > 0).any():
            largest = (gap / before[column].abs()).max()
            size = f"{largest:.2g} of the old value" if largest < np.inf else "from 0"
            yield column, both[gap > 0], f"largest change {size}"
    seams = ratio_seams(both.to_series(), before["close"].to_numpy(), after["close"].to_numpy())
    if len(seams):
        yield "seam", seams, "one version has been adjusted: the ratio of the closes steps"


def locked_md5(dataset: str, root: Path) -> str | None:
    """Return the hash that dvc.lock holds of a data set's folder, None where it has none."""
    folder = paths.bars(dataset).as_posix()
    outs = locked_stages(root / paths.LOCK).get("download", {}).get("outs", [])
    return next((out["md5"] for out in outs if out["path"] == folder), None)


def differences(texts: dict[Path, str], root: Path) -> Iterator[str]:
    """Yield a line for every difference between a fresh download and the workspace."""
    for path, text in texts.items():
        if not (root / path).is_file():
            yield f"{path}: not in the workspace, cannot be compared row by row"
            continue
        old = read_bars(root / path)
        for kind, dates, remark in compare(old, parse_bars(text, str(path))):
            days = [f"{day:%Y-%m-%d}" for day in dates]
            shown = ", ".join(days) if len(days) <= SHOWN else f"{days[0]} to {days[-1]}"
            yield f"{path}: {kind:<11} {len(days):>5}  {shown}  {remark}".rstrip()
    folder = root / next(iter(texts)).parent
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.relative_to(root) not in texts:
            yield f"{file.relative_to(root)}: in the workspace, but no series of the data set"


def main(*words: str) -> None:
    """Print the comparison; exit 1 where the download differs from dvc.lock."""
    command = parser(
        "refresh",
        "Download a data set anew, compare it with dvc.lock and write nothing. Exit code 0: same;\n"
        "1: differs; 75: the source cannot be reached, try later.",
        "spy",
    )
    command.add_argument("dataset", nargs="?", help="key of `datasets` (default: `dataset`)")
    chosen = command.parse_args(words).dataset
    params = load_params()
    name = chosen or params.dataset
    if name not in params.datasets:
        allowed = ", ".join(params.datasets)
        raise InputError(f"data set {shown(name)} is unknown; allowed: {allowed}")
    data, root = params.datasets[name], Path.cwd()
    bars = sources.fetch(data)
    checks.check_dataset(bars, data, f"datasets.{name}")
    texts = {paths.raw(name, series): canonical_csv(bars[series]) for series in bars}
    md5 = folder_md5({path.name: md5_of(text.encode()) for path, text in texts.items()})
    print(f"{name}: {', '.join(bars)}, {data.start} to {data.end}, md5 {md5}")
    locked, folder = locked_md5(name, root), root / next(iter(texts)).parent
    if locked == md5:
        print(f"{name}: same as dvc.lock")
        return
    if locked is None:
        print(f"{name}: dvc.lock has no entry for it; compare the md5 with another reader's")
    else:
        print(f"{name}: differs from dvc.lock, which has {locked}")
        if folder.is_dir() and dvc_md5(folder) != locked:
            print(f"{name}: the workspace, compared below, is not what dvc.lock has either")
    if folder.is_dir():
        print("\n".join(differences(texts, root)) or f"{name}: same as the workspace")
    if locked is not None:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
