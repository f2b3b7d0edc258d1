"""Computation of a feature tier: the catalogue's formulas evaluated on adjusted bars."""

import math
from inspect import isfunction
from types import CodeType
from typing import Any

import numpy as np
import pandas as pd

from patchscale.features import catalogue
from patchscale.features.tiers import A200, SCALE, VIX, WARM_UP, tier_features
from patchscale.study.errors import InputError

SHARED = dict(line.split(None, 1) for line in catalogue.SHARED.strip().splitlines())
FORMULAS = SHARED | {feature.name: feature.formula for feature in A200 + SCALE + VIX}
"""Formulas of the shared series and of all features by name."""
NUMPY = ("abs", "sqrt", "log", "sin", "cos", "minimum", "maximum", "where", "clip")
BAR_NAMES = ("open", "high", "low", "close", "volume")


class Namespace(dict[str, Any]):
    """Names that formulas use; a series is computed when it is first named, and kept.

    Parameters
    ----------
    bars
        Adjusted bars, ascending.
    calendar
        Name of the exchange, for its schedule of sessions.
    vix
        Bars of the volatility index on the same dates; without them the name `vix` is missing.
    """

    def __init__(self, bars: pd.DataFrame, calendar: str, vix: pd.DataFrame | None = None) -> None:
        from patchscale.features import indicators, rolling  # TA-Lib is 27 MB

        super().__init__(pi=math.pi)
        for module in (rolling, indicators):
            self |= {name: value for name, value in vars(module).items() if isfunction(value)}
        for name in NUMPY:
            self[name] = getattr(np, name)
        for name in BAR_NAMES:
            self[name] = bars[name].to_numpy(dtype=float)
        if vix is not None:
            self["vix"] = vix["close"].to_numpy(dtype=float)
        self.dates, self.calendar = pd.DatetimeIndex(bars["date"]), calendar
        self["last_week"] = self.last_week

    def __missing__(self, name: str) -> Any:
        """Compute a series of the catalogue or of the calendar."""
        if name not in FORMULAS:
            self[name] = CALENDAR[name](self)
        else:
            code: CodeType = compile(FORMULAS[name], name, "eval")
            self[name] = eval(code, {"__builtins__": {}}, self)
        return self[name]

    @property
    def week(self) -> np.ndarray:
        """Index of each session's week, Monday to Sunday, from 0."""
        monday = (self.dates - pd.to_timedelta(self.dates.day_of_week, unit="D")).to_numpy()
        weeks: np.ndarray = np.unique(monday, return_inverse=True)[1]
        return weeks

    def day_of_week(self) -> np.ndarray:
        """Return the day of the week, 0 for Monday to 4 for Friday."""
        return self.dates.day_of_week.to_numpy(dtype=float)

    def month(self) -> np.ndarray:
        """Return the month, 1 to 12."""
        return self.dates.month.to_numpy(dtype=float)

    def weekly_close(self) -> np.ndarray:
        """Return the close of each week's last session, one value per week."""
        last = np.append(np.diff(self.week) > 0, True)
        weekly: np.ndarray = self["close"][last[: len(self.dates)]]
        return weekly

    def last_week(self, weekly: np.ndarray) -> np.ndarray:
        """Return a weekly series as known on each day: the value of the last week before its own.

        A week is complete only when its last session is over, wherever holidays fall.
        """
        known: np.ndarray = np.append(np.nan, weekly)[self.week]
        return known

    def sessions_left_in_month(self) -> np.ndarray:
        """Return the number of scheduled sessions after each day in its month.

        Regular holidays of the exchange are no sessions. Closures that were not known in advance
        (2001-09-11) count as sessions.
        """
        import exchange_calendars  # takes 1 s

        if self.dates.empty:
            return np.empty(0)
        exchange = exchange_calendars.get_calendar(self.calendar)
        days = self.dates.to_numpy().astype("datetime64[D]")
        next_month = (days.astype("datetime64[M]") + 1).astype("datetime64[D]")
        rules, last = exchange.regular_holidays, pd.Timestamp(next_month.max())
        holidays = [] if rules is None else rules.holidays(self.dates[0], last)
        closed = np.asarray(holidays, dtype="datetime64[D]")
        left = np.busday_count(days + 1, next_month, exchange.weekmask, closed)
        return left.astype(float)


CALENDAR = {
    "weekly_close": Namespace.weekly_close,
    "day_of_week": Namespace.day_of_week,
    "month": Namespace.month,
    "sessions_left_in_month": Namespace.sessions_left_in_month,
}
"""Series that are computed from the dates, by name."""


def compute_tier(
    bars: pd.DataFrame, tier: str, calendar: str = "XNYS", vix: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return `date` and the columns of a tier, NaN during the warm-up of each.

    Parameters
    ----------
    bars, calendar, vix
        As for `Namespace`.
    tier
        Key of `TIERS`.

    Raises
    ------
    InputError
        The tier is unknown, or needs a volatility index and there is none.
    """
    features = tier_features(tier)
    if vix is None and any(feature in VIX for feature in features):
        raise InputError(f"features.tier: {tier!r} needs a volatility index; the data set has none")
    names = Namespace(bars, calendar, vix)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {feature.name: names[feature.name] for feature in features}
    return pd.DataFrame({"date": bars["date"].to_numpy(), **columns})


def drop_warm_up(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows after the longest warm-up.

    Raises
    ------
    InputError
        A value is NaN or infinite after the warm-up; the message names the column and a date.
    """
    kept = table.iloc[WARM_UP:].reset_index(drop=True)
    wrong = ~np.isfinite(kept.drop(columns="date").to_numpy())
    if wrong.any():
        first = int(wrong.any(axis=0).argmax())
        column, days = kept.columns[1 + first], kept.loc[wrong[:, first], "date"]
        raise InputError(
            f"features: {column} has no value on {days.iloc[0]:%Y-%m-%d} "
            f"({len(days)} of {len(kept)} days)"
        )
    return kept
