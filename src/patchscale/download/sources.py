"""Sources of bars: the package arch, Yahoo, or the user's own files."""

import importlib.util
import zlib
from pathlib import Path

import pandas as pd

from patchscale.bars import COLUMNS, as_written, read_bars
from patchscale.download import yahoo
from patchscale.download.calendar import exchange_today, exchange_zone
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset


def fetch(dataset: Dataset) -> dict[str, pd.DataFrame]:
    """Return the canonical bars of every series of a data set from `start` to `end`.

    Raises
    ------
    InputError
        A source is missing or damaged, lacks a column, or has bars of today or later; or the
        session of `end` is not over.
    Stopped
        The source cannot be reached.
    """
    if dataset.source == "arch":
        whole = {dataset.series: read_arch(_arch_file(dataset.series))}
    else:
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
            zone = exchange_zone(dataset)
            whole = {
                name: yahoo.daily_bars(name, dataset.start, today, zone)
                for name in dataset.all_series
            }
    first, last = pd.Timestamp(dataset.start), pd.Timestamp(dataset.end)
    return {
        name: as_written(bars[bars["date"].between(first, last)].reset_index(drop=True))
        for name, bars in whole.items()
    }


def _arch_file(series: str) -> Path:
    # located without importing arch, which takes seconds
    spec = importlib.util.find_spec("arch")
    if spec is None or spec.origin is None:
        raise InputError("package arch: not installed; the data sets gspc and ixic are part of it")
    return Path(spec.origin).parent / "data" / series / f"{series}.csv.gz"


def read_arch(path: Path) -> pd.DataFrame:
    """Return the canonical bars of an index from a file of the package arch."""
    if not path.is_file():
        raise InputError(f"{path}: missing; arch has the series sp500 and nasdaq")
    try:
        frame = pd.read_csv(path)
        frame.columns = frame.columns.str.lower()
        frame["date"] = pd.to_datetime(frame["date"], format="%m/%d/%Y")
        bars = frame.assign(dividends=0.0, splits=0.0)[COLUMNS]  # an index has neither
        return bars.astype({name: float for name in COLUMNS[1:]})
    except (ValueError, KeyError, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no table of daily bars ({reason})") from None


def read_past_bars(path: Path, today: pd.Timestamp) -> pd.DataFrame:
    """Read a canonical CSV; raise InputError if it has a bar of today or later."""
    bars = read_bars(path)
    future = bars["date"][bars["date"] > today]
    if len(future):
        raise InputError(f"{path}: {future.iloc[0]:%Y-%m-%d} lies in the future")
    if (bars["date"] == today).any():
        raise InputError(f"{path}: the bar of {today:%Y-%m-%d}, today, is unfinished; remove it")
    return bars
