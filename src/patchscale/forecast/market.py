"""Bars to forecast from: those of a data set or of a file, checked, and not stale."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from patchscale.bars import read_bars
from patchscale.download.calendar import exchange_sessions, exchange_today
from patchscale.download.checks import check_dataset
from patchscale.download.sources import read_past_bars
from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.params import Dataset, Params

AHEAD = 120
"""Calendar days after the last bar among which the next sessions are looked up."""


@dataclass(frozen=True)
class Market:
    """Checked bars up to a close, and the sessions that follow it."""

    name: str
    bars: pd.DataFrame
    """Canonical bars, not adjusted, up to `as_of`."""
    vix: pd.DataFrame | None
    calendar: str
    following: pd.DatetimeIndex
    """Sessions after `as_of`."""

    @property
    def as_of(self) -> pd.Timestamp:
        """Day of the last close."""
        day: pd.Timestamp = self.bars["date"].iloc[-1]
        return day


def read_market(
    params: Params,
    *,
    dataset: str | None = None,
    csv: Path | None = None,
    volatility: Path | None = None,
    calendar: str | None = None,
    as_of: str | None = None,
    root: Path = Path(),
) -> Market:
    """Read and check bars.

    Parameters
    ----------
    params
        Parameters of the study.
    dataset
        Key of `datasets`; by default the selected data set.
    csv, volatility, calendar
        A canonical file instead, with its volatility index and its exchange, by default that of
        the selected data set.
    as_of
        The close to forecast from, an ISO 8601 date; by default the last, which then must be that
        of the exchange's last finished session.
    root
        Folder of the study.

    Raises
    ------
    InputError
        A file is missing or not canonical, the checks of stage download refuse the bars, they are
        stale, or have no bar of `as_of`.
    """
    data = params.datasets[dataset or params.dataset]
    if csv:
        data = Dataset(
            source="csv",
            series="bars",
            volatility="VIX" if volatility else "",
            calendar=calendar or params.data.calendar,
            exceptions=params.datasets["csv"].exceptions if "csv" in params.datasets else {},
            **params.data.model_dump(include={"start", "end", "validation_from", "test_from"}),
        )
        name, key = str(csv), "datasets.csv"
        given = dict(zip(data.all_series, (csv, volatility), strict=False))
        today = exchange_today(data)
        series = {each: _canonical(path, today) for each, path in given.items() if path}
    else:
        name = dataset or params.dataset
        key = f"datasets.{name}"
        today = exchange_today(data)
        series = {each: read_bars(root / paths.raw(name, each)) for each in data.all_series}
    first = max(bars["date"].min() for bars in series.values())
    series = {
        each: bars[bars["date"] >= first].reset_index(drop=True) for each, bars in series.items()
    }
    close = _close(as_of, series[data.series], name)
    series = {each: bars[bars["date"] <= close] for each, bars in series.items()}
    whole = data.model_copy(update={"start": f"{first:%Y-%m-%d}", "end": f"{close:%Y-%m-%d}"})
    check_dataset(series, whole, key)
    end = max(close, today) + pd.Timedelta(days=AHEAD)
    later = whole.model_copy(update={"end": f"{end:%Y-%m-%d}"})
    sessions = exchange_sessions(later)
    newest = sessions[sessions < today][-1]
    if as_of is None and close < newest:
        raise InputError(
            f"{name}: the bars end with {close:%Y-%m-%d}, and the last finished session is "
            f"{newest:%Y-%m-%d}; newer bars are needed, or --as-of {close:%Y-%m-%d}"
        )
    return Market(
        name,
        series[data.series],
        series.get(data.volatility),
        data.calendar,
        sessions[sessions > close],
    )


def _canonical(path: Path, today: pd.Timestamp) -> pd.DataFrame:
    try:
        return read_past_bars(path, today)
    except InputError as error:
        raise InputError(f"{error}; `patchscale import-csv {path}` reads other forms") from None


def _close(as_of: str | None, bars: pd.DataFrame, name: str) -> pd.Timestamp:
    """Return the day of the close to forecast from."""
    last: pd.Timestamp = bars["date"].iloc[-1]
    if as_of is None:
        return last
    day = pd.to_datetime(as_of, format="%Y-%m-%d", errors="coerce")
    if str(day)[:10] != as_of or not (bars["date"] == day).any():
        raise InputError(
            f"--as-of: {shown(as_of)} is not allowed; a day with a bar of {name} is needed, "
            f"written as {last:%Y-%m-%d}, which is the last"
        )
    return pd.Timestamp(as_of)
