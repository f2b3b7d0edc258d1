"""Sources of daily bars, brought into the canonical form.

Canonical bars: `date,open,high,low,close,volume,dividends,splits`, unadjusted, ascending, one row
per exchange session. `splits` is the ratio on the day it takes effect, 0 on all other days.
"""

import importlib.util
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.config import Dataset
from patchscale.errors import InputError

PRICES = ["open", "high", "low", "close"]
COLUMNS = ["date", *PRICES, "volume", "dividends", "splits"]
HEADER = ",".join(COLUMNS)


def fetch(dataset: Dataset) -> dict[str, pd.DataFrame]:
    """Return the canonical bars of every series of a data set from `start` to `end`.

    Raises
    ------
    InputError
        A source is missing, damaged, lacks a column or holds bars of today or later; or `end`
        is not over yet.
    Stopped
        The source cannot be reached now.
    """
    if dataset.source == "arch":
        whole = {dataset.series: read_arch(_arch_file(dataset.series))}
    else:
        from patchscale.exchange import exchange_today, exchange_zone

        today = exchange_today(dataset)
        if pd.Timestamp(dataset.end) >= today:
            raise InputError(
                f"end {dataset.end} is not over at the exchange; the last day allowed is "
                f"{today - pd.Timedelta(days=1):%Y-%m-%d}"
            )
        if dataset.source == "csv":
            files = zip(dataset.all_series, (dataset.path, dataset.volatility_path), strict=False)
            whole = {name: read_past_bars(Path(path), today) for name, path in files}
        else:
            from patchscale import yahoo

            zone = exchange_zone(dataset)
            whole = {
                name: yahoo.daily_bars(name, dataset.start, today, zone)
                for name in dataset.all_series
            }
    first, last = pd.Timestamp(dataset.start), pd.Timestamp(dataset.end)
    return {
        name: bars[bars["date"].between(first, last)].reset_index(drop=True)
        for name, bars in whole.items()
    }


def _arch_file(series: str) -> Path:
    # Found, not imported: the file ships inside arch, importing arch takes seconds.
    spec = importlib.util.find_spec("arch")
    if spec is None or spec.origin is None:
        raise InputError("package arch: not installed; it ships the offline data sets")
    return Path(spec.origin).parent / "data" / series / f"{series}.csv.gz"


def read_arch(path: Path) -> pd.DataFrame:
    """Return the canonical bars of an index file that ships inside the package arch."""
    if not path.is_file():
        raise InputError(f"{path}: missing; arch ships the series sp500 and nasdaq")
    try:
        frame = pd.read_csv(path)
        frame.columns = frame.columns.str.lower()
        frame["date"] = pd.to_datetime(frame["date"], format="%m/%d/%Y")
        bars = frame.assign(dividends=0.0, splits=0.0)[COLUMNS]  # an index pays none
        return bars.astype({name: float for name in COLUMNS[1:]})
    except (ValueError, KeyError, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no table of daily bars ({reason})") from None


def read_past_bars(path: Path, today: pd.Timestamp) -> pd.DataFrame:
    """Read a canonical CSV of which every bar must be finished."""
    bars = read_bars(path)
    future = bars["date"][bars["date"] > today]
    if len(future):
        raise InputError(f"{path}: {future.iloc[0]:%Y-%m-%d} lies in the future")
    if (bars["date"] == today).any():
        raise InputError(f"{path}: the bar of {today:%Y-%m-%d}, today, is unfinished; remove it")
    return bars


def read_bars(path: Path) -> pd.DataFrame:
    """Read a canonical CSV; raise InputError as `parse_bars` does."""
    if not path.is_file():
        raise InputError(f"{path}: missing; a CSV with the columns {HEADER} is needed")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); needed: {HEADER}") from None
    if text.startswith("\ufeff"):
        raise InputError(
            f"{path}: begins with a byte order mark; "
            rf"`sed -i '1s/^\xEF\xBB\xBF//' {path}` removes it"
        )
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        raise InputError(
            f"{path}: CRLF line ends, first on line {line}; "
            rf"`sed -i 's/\r$//' {path}` makes them LF"
        )
    return parse_bars(text, str(path))


def parse_bars(text: str, name: str) -> pd.DataFrame:
    """Return canonical text as bars.

    Raises
    ------
    InputError
        The text is empty or truncated, has another header, or a field is no date or no finite
        number; the line says where.
    """
    if not text.strip():
        raise InputError(f"{name}: empty; needed is the header {HEADER} and a row per session")
    header, *rows = text.split("\n")
    if header != HEADER:
        raise InputError(f"{name}: the header is {header[:120]!r}; needed: {HEADER}")
    if not any(rows):
        raise InputError(f"{name}: no rows below the header")
    ended = rows[-1] == ""
    fields = [row.split(",") for row in (rows[:-1] if ended else rows)]
    for line, found in enumerate(fields, start=2):
        if found == [""]:
            raise InputError(f"{name}: line {line} is empty")
        if len(found) != len(COLUMNS):
            cut = len(found) < len(COLUMNS) and line == len(fields) + 1
            raise InputError(
                f"{name}: line {line} has {len(found)} fields, needed are {len(COLUMNS)}"
                + ("; the file is truncated" if cut else "")
            )
    if not ended:
        raise InputError(
            f"{name}: line {len(fields) + 1}, the last, has no line end; the file is truncated"
        )
    frame = pd.DataFrame(fields, columns=COLUMNS)
    dates = pd.to_datetime(frame["date"], format="%Y-%m-%d", errors="coerce")
    _refuse_first(name, "date", frame["date"], dates.isna(), "no day of the form 2018-12-31")
    for column in COLUMNS[1:]:
        numbers = pd.to_numeric(frame[column], errors="coerce").astype(float)
        label = column + " of " + frame["date"]
        finite = numbers.abs() < np.inf
        _refuse_first(name, label, frame[column], ~finite, "no number")
        frame[column] = numbers
    return frame.assign(date=dates)


def _refuse_first(
    name: str, what: "str | pd.Series[str]", fields: pd.Series, wrong: pd.Series, why: str
) -> None:
    if wrong.any():
        row, more = int(wrong.to_numpy().argmax()), int(wrong.sum()) - 1
        label = what if isinstance(what, str) else what.iloc[row]
        rest = f" (and {more} more)" if more else ""
        raise InputError(f"{name}: line {row + 2}: {label} is {fields.iloc[row]!r}, {why}{rest}")


def canonical_csv(bars: pd.DataFrame) -> str:
    """Return the canonical CSV text: six decimals, whole volumes, LF line ends."""
    text: str = bars.assign(volume=bars["volume"].round().astype("int64")).to_csv(
        index=False, float_format="%.6f", lineterminator="\n", date_format="%Y-%m-%d"
    )
    return text
