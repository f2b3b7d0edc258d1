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


def fetch(dataset: Dataset) -> pd.DataFrame:
    """Return the canonical bars of a data set from `start` to `end`, both included.

    Raises
    ------
    InputError
        The source is missing, damaged or lacks a column.
    """
    if dataset.source == "arch":
        bars = read_bars(_arch_file(dataset.series), "%m/%d/%Y")
    else:
        bars = read_bars(Path(dataset.path))
    within = bars["date"].between(pd.Timestamp(dataset.start), pd.Timestamp(dataset.end))
    return bars[within].reset_index(drop=True)


def _arch_file(series: str) -> Path:
    # Found, not imported: the file ships inside arch, importing arch takes seconds.
    spec = importlib.util.find_spec("arch")
    if spec is None or spec.origin is None:
        raise InputError("package arch: not installed; it ships the offline data sets")
    return Path(spec.origin).parent / "data" / series / f"{series}.csv.gz"


def read_bars(path: Path, date_format: str = "%Y-%m-%d") -> pd.DataFrame:
    """Read a CSV of bars (plain or gzip, canonical or Yahoo's column names) as canonical bars."""
    if not path.is_file():
        raise InputError(f"{path}: missing; a CSV with the columns {','.join(COLUMNS)} is needed")
    try:
        frame = pd.read_csv(path)
    except (ValueError, TypeError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not readable as CSV ({str(error).splitlines()[0]})") from None
    frame.columns = frame.columns.str.lower()
    for name in ("dividends", "splits"):
        if name not in frame:
            frame[name] = 0.0  # an index pays none; a source that has them has the column
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; needed: {','.join(COLUMNS)}")
    frame = frame[COLUMNS]
    dates = pd.to_datetime(frame["date"], format=date_format, errors="coerce")
    if dates.isna().any():
        bad = frame["date"][dates.isna()].iloc[0]
        raise InputError(f"{path}: date {bad!r} is not of the form {date_format}")
    frame["date"] = dates
    for name in COLUMNS[1:]:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = ~np.isfinite(numbers)
        if wrong.any():
            day, value = frame.loc[wrong, "date"].iloc[0], frame.loc[wrong, name].iloc[0]
            raise InputError(f"{path}: {name} of {day:%Y-%m-%d} is {str(value)!r}, no number")
        frame[name] = numbers.astype(float)
    return frame


def canonical_csv(bars: pd.DataFrame) -> str:
    """Return the canonical CSV text: six decimals, whole volumes, LF line ends."""
    text: str = bars.assign(volume=bars["volume"].round().astype("int64")).to_csv(
        index=False, float_format="%.6f", lineterminator="\n", date_format="%Y-%m-%d"
    )
    return text
