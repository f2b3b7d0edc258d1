"""Check canonical bars against their exchange's calendar and against arithmetic."""

from typing import Any

import numpy as np
import pandas as pd

from patchscale.config import Dataset
from patchscale.errors import InputError
from patchscale.market import PRICES

MAX_RETURN = 0.35  # no session of the S&P 500, the NASDAQ or SPY has moved more
SHOWN = 5


def check_bars(bars: pd.DataFrame, dataset: Dataset, key: str) -> dict[str, Any]:
    """Return the validation report of canonical bars.

    Parameters
    ----------
    bars
        Canonical bars.
    dataset
        Names the calendar, the first and last session and the allowed exceptions.
    key
        What errors call the data set.

    Raises
    ------
    InputError
        Sessions are missing or extra, dates repeat or go back, or a bar is impossible; the
        line names the dates.
    """
    dates = bars["date"]
    if not len(bars):
        raise InputError(f"{key}: no bars between {dataset.start} and {dataset.end}")
    _refuse(key, "dates repeat or go back", dates[~(dates.diff().dt.days.fillna(1) > 0)])
    sessions = exchange_sessions(dataset)
    missing = sessions.difference(pd.DatetimeIndex(dates))
    extra = pd.DatetimeIndex(dates).difference(sessions)
    allowed = pd.DatetimeIndex(pd.to_datetime(dataset.allowed_gaps))
    _refuse(key, f"sessions of {dataset.calendar} are missing", missing.difference(allowed))
    _refuse(key, f"days are no sessions of {dataset.calendar}", extra)

    prices = bars[PRICES]
    body_high, body_low = (
        prices[["open", "close"]].max(axis=1),
        prices[["open", "close"]].min(axis=1),
    )
    returns = bars["close"].pct_change().fillna(0.0)
    for problem, wrong in {
        "a price is not positive": (prices <= 0).any(axis=1),
        "high is below open or close": bars["high"] < body_high,
        "low is above open or close": bars["low"] > body_low,
        "volume is negative": bars["volume"] < 0,
        "a split is negative": bars["splits"] < 0,
        "a dividend is negative or not below the previous close": (bars["dividends"] < 0)
        | (bars["dividends"] * bars["splits"].replace(0.0, 1.0) >= bars["close"].shift(1)),
        f"close moved by more than {MAX_RETURN:.0%}": (returns.abs() > MAX_RETURN)
        & (bars["splits"] == 0),
    }.items():
        _refuse(key, problem, dates[wrong])

    largest = returns.abs().nlargest(SHOWN).index
    return {
        "rows": len(bars),
        "first": f"{dates.iloc[0]:%Y-%m-%d}",
        "last": f"{dates.iloc[-1]:%Y-%m-%d}",
        "sessions_missing_allowed": [f"{day:%Y-%m-%d}" for day in missing],
        "dividends": int((bars["dividends"] != 0).sum()),
        "splits": int((bars["splits"] != 0).sum()),
        "open_equals_previous_close": round(
            float(np.mean(bars["open"].to_numpy()[1:] == bars["close"].to_numpy()[:-1])), 4
        ),
        "largest_moves": {
            f"{dates[row]:%Y-%m-%d}": round(float(returns[row]), 6) for row in sorted(largest)
        },
    }


def exchange_sessions(dataset: Dataset) -> pd.DatetimeIndex:
    """Return the sessions of the data set's exchange from `start` to `end`."""
    import exchange_calendars  # 1 s: only the download needs it

    try:
        calendar = exchange_calendars.get_calendar(
            dataset.calendar, start=dataset.start, end=dataset.end
        )
    except exchange_calendars.errors.InvalidCalendarName:
        raise InputError(
            f"calendar {dataset.calendar!r} is unknown; allowed are the names of "
            f"exchange_calendars, such as XNYS"
        ) from None
    return pd.DatetimeIndex(calendar.sessions_in_range(dataset.start, dataset.end))


def _refuse(key: str, problem: str, dates: Any) -> None:
    if len(dates):
        days = ", ".join(f"{day:%Y-%m-%d}" for day in list(dates)[:SHOWN])
        more = f" and {len(dates) - SHOWN} more" if len(dates) > SHOWN else ""
        raise InputError(f"{key}: {problem} on {days}{more}")
