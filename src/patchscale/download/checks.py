"""Checks of canonical bars: calendar of the exchange, possible prices, splits and adjustment."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from patchscale.bars import COLUMNS, PRICES
from patchscale.download.calendar import exchange_sessions
from patchscale.download.seams import dividends_count_twice, on_tick_grid, tick_seams
from patchscale.study.errors import InputError, some
from patchscale.study.params import Dataset

MAX_MOVE = 0.35
"""Largest daily return allowed for a price; S&P 500, NASDAQ and SPY never had a larger one."""

MAX_VOLATILITY_MOVE = 2.0
"""Largest daily change allowed for a volatility index; VIX had +1.16 on 2018-02-05."""

SPLITS = {1.5: "3:2"} | {float(n): f"{n}:1" for n in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20)}
SPLITS |= {1 / ratio: ":".join(reversed(name.split(":"))) for ratio, name in SPLITS.items()}

SHOWN = 5
"""Number of dates in an error and of moves in a report."""


def check_dataset(
    series: dict[str, pd.DataFrame], dataset: Dataset, key: str
) -> dict[str, dict[str, Any]]:
    """Check all series of a data set and return a report of each.

    Parameters
    ----------
    series
        Canonical bars by name of the series.
    dataset
        Names the calendar, the first and last session and the allowed exceptions.
    key
        What errors call the data set.

    Raises
    ------
    InputError
        A series is empty or does not cover all sessions, a volatility index has a dividend or
        split, or `check_bars` refuses a series.
    """
    for name, bars in series.items():
        if not len(bars):
            raise InputError(f"{key}: {name}: no bars between {dataset.start} and {dataset.end}")
    _one_range(series, dataset, key)
    volatility = series.get(dataset.volatility)
    if volatility is not None:
        acts = (volatility["dividends"] != 0) | (volatility["splits"] != 0)
        _refuse(
            f"{key}: {dataset.volatility}",
            "a volatility index has a dividend or split",
            volatility["date"][acts],
        )
    return {
        name: check_bars(
            bars,
            dataset,
            f"{key}: {name}",
            MAX_VOLATILITY_MOVE if name == dataset.volatility else MAX_MOVE,
        )
        for name, bars in series.items()
    }


def _one_range(series: dict[str, pd.DataFrame], dataset: Dataset, key: str) -> None:
    """Refuse series that begin after the first session or end before the last one."""
    needed = exchange_sessions(dataset).difference(_excepted(dataset))
    if not len(needed):
        raise InputError(f"{key}: every session is excepted")
    ranges = {name: (bars["date"].min(), bars["date"].max()) for name, bars in series.items()}
    whole = {(first, last) for first, last in ranges.values()}
    if len(whole) == 1 and all(
        first <= needed[0] and last >= needed[-1] for first, last in ranges.values()
    ):
        return
    found = ", ".join(
        f"{name} from {first:%Y-%m-%d} to {last:%Y-%m-%d}" for name, (first, last) in ranges.items()
    )
    raise InputError(
        f"{key}: {found}; every series must run from {needed[0]:%Y-%m-%d} to {needed[-1]:%Y-%m-%d} "
        f"({key}.start and .end)"
    )


def check_bars(
    bars: pd.DataFrame, dataset: Dataset, key: str, max_move: float = MAX_MOVE
) -> dict[str, Any]:
    """Check the canonical bars of a series and return a report.

    Parameters
    ----------
    bars
        Canonical bars, at least one.
    dataset
        Names the calendar, the first and last session and the allowed exceptions.
    key
        What errors call the series.
    max_move
        Largest absolute daily return.

    Raises
    ------
    InputError
        Sessions are missing or extra, dates repeat or go back, a bar is impossible, or prices
        show an unrecorded split or a mix of adjusted and unadjusted bars; the message names
        the dates.
    """
    dates = bars["date"]
    _refuse(key, "dates repeat", dates[dates.duplicated()])
    _refuse(key, "dates go back", dates[dates.diff().dt.days < 0])
    sessions = exchange_sessions(dataset)
    excepted = _excepted(dataset)
    missing = sessions.difference(pd.DatetimeIndex(dates))
    extra = pd.DatetimeIndex(dates).difference(sessions)
    absent, weekend = missing.difference(excepted), extra.day_of_week >= 5
    holiday = extra[~weekend].difference(excepted)
    _refuse(key, f"sessions of {dataset.calendar} are missing", absent, may_be_right=True)
    _refuse(key, "rows of a weekend", extra[weekend].difference(excepted), may_be_right=True)
    _refuse(key, f"rows of a holiday of {dataset.calendar}", holiday, may_be_right=True)

    _check_schema(bars, key)
    returns = bars["close"].pct_change().fillna(0.0)
    strange = _check_moves(bars, returns, max_move, excepted, key)
    seams = tick_seams(bars)
    _refuse(
        key,
        "prices begin or cease to be multiples of a tick (adjusted and unadjusted bars mixed?)",
        seams.difference(excepted),
        may_be_right=True,
    )
    twice = pd.DatetimeIndex(dates[bars["dividends"] != 0])[: dividends_count_twice(bars)]
    _refuse(
        key,
        "prices look adjusted for the dividends beside them, which would count twice (unadjusted "
        "prices are needed, such as yfinance's with auto_adjust=False); the first dividend is",
        twice.difference(excepted),
        may_be_right=True,
    )
    used = excepted.intersection(missing.union(extra).union(strange).union(seams).union(twice))
    largest = returns.abs().nlargest(SHOWN).index
    return {
        "rows": len(bars),
        "first": f"{dates.iloc[0]:%Y-%m-%d}",
        "last": f"{dates.iloc[-1]:%Y-%m-%d}",
        "sessions_missing": [f"{day:%Y-%m-%d}" for day in missing],
        "sessions_extra": [f"{day:%Y-%m-%d}" for day in extra],
        "exceptions": {text: dataset.exceptions[text] for text in used.strftime("%Y-%m-%d")},
        "dividends": int((bars["dividends"] != 0).sum()),
        "splits": {
            f"{dates[row]:%Y-%m-%d}": float(bars["splits"][row])
            for row in bars.index[bars["splits"] != 0]
        },
        "open_equals_previous_close": round(
            float(np.mean(bars["open"].to_numpy()[1:] == bars["close"].to_numpy()[:-1])), 4
        ),
        "on_tick_grid": round(float(on_tick_grid(bars).mean()), 4),
        "largest_moves": {
            f"{dates[row]:%Y-%m-%d}": round(float(returns[row]), 6) for row in sorted(largest)
        },
    }


def _excepted(dataset: Dataset) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(list(dataset.exceptions)))


RULES: dict[str, Callable[[pd.DataFrame], "pd.Series[bool]"]] = {
    "a price is not positive": lambda bars: (bars[PRICES] > 0).all(axis=1),
    "a price is 10^9 or more": lambda bars: (bars[PRICES] < 1e9).all(axis=1),
    "high is below low": lambda bars: bars["high"] >= bars["low"],
    "high is below open or close": lambda bars: bars["high"] >= bars[["open", "close"]].max(axis=1),
    "low is above open or close": lambda bars: bars["low"] <= bars[["open", "close"]].min(axis=1),
    "volume is negative": lambda bars: bars["volume"] >= 0,
    "volume is 2^53 or more": lambda bars: bars["volume"] < 2**53,
    "a split is negative": lambda bars: bars["splits"] >= 0,
    "a dividend is negative or not below the previous close": lambda bars: (
        (bars["dividends"] >= 0)
        & ~(bars["dividends"] * bars["splits"].replace(0.0, 1.0) >= bars["close"].shift(1))
    ),
}


def _check_schema(bars: pd.DataFrame, key: str) -> None:
    """Refuse bars that break one of the rules; the first rule broken is named."""
    import pandera.pandas as pa  # takes half a second

    schema = pa.DataFrameSchema(
        {name: pa.Column(float) for name in COLUMNS[1:]},
        checks=[pa.Check(rule, error=problem) for problem, rule in RULES.items()],
    )
    try:
        schema.validate(bars, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        for column in COLUMNS[1:]:
            empty = cases[(cases["check"] == "not_nullable") & (cases["column"] == column)]
            _refuse(key, f"{column} is not a number", bars["date"][empty["index"]])
        for problem in RULES:
            rows = cases["index"][cases["check"] == problem].unique()
            _refuse(key, problem, bars["date"][rows])
        raise InputError(f"{key}: {' '.join(str(errors).split())[:300]}") from None


def _check_moves(
    bars: pd.DataFrame,
    returns: "pd.Series[float]",
    max_move: float,
    excepted: pd.DatetimeIndex,
    key: str,
) -> pd.DatetimeIndex:
    """Refuse unrecorded splits and moves that are too large; return the days of excepted moves."""
    dates = bars["date"]
    split = bars["splits"] != 0
    held = (1 + returns) * bars["splits"].where(split, 1.0) - 1  # return of a holder
    beyond = held.abs() > max_move
    beyond.iloc[0] = False
    wrong = beyond & ~dates.isin(excepted)
    _refuse(
        key,
        "a split is recorded but prices do not move by it (already split-adjusted?)",
        dates[wrong & split],
        may_be_right=True,
    )
    for ratio, name in SPLITS.items():
        alike = ((1 + returns) * ratio - 1).abs() < 0.05
        problem = f"close moved as by a {name} split that is not recorded"
        _refuse(key, problem, dates[wrong & alike], may_be_right=True)
    _refuse(key, f"close moved by more than {max_move:.0%}", dates[wrong], may_be_right=True)
    return pd.DatetimeIndex(dates[beyond])


def _refuse(key: str, problem: str, dates: Any, *, may_be_right: bool = False) -> None:
    """Refuse days, if there are any; where bars may be right, say how to allow them."""
    if len(dates):
        days = [f"{day:%Y-%m-%d}" for day in dates]
        hint = ""
        if may_be_right:
            table = f"{key.partition(':')[0]}.exceptions"
            entries = ", ".join(f"{day}: why" for day in days)
            hint = f"; if this is right, give the reason: -S '++{table}={{{entries}}}'"
            if len(days) > SHOWN:
                hint = f"; if this is right, give the reason of each day in {table}"
        raise InputError(f"{key}: {problem} on {some(days, SHOWN)}{hint}")
