"""The feature catalogue, and its computation from adjusted bars.

Declared as data: one line per feature with name, kind, family, warm-up and expression. An
expression reads adjusted bars and shared series through `Bars`; TA-Lib supplies the indicators.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from patchscale.errors import InputError

Kind = Literal["level", "stationary"]


class Bars:
    """Adjusted bars as arrays, with the series that several features share."""

    def __init__(self, bars: pd.DataFrame) -> None:
        import talib  # 27 MB: only the computation needs it, not the catalogue

        self.ta: Any = talib
        self.dates = pd.DatetimeIndex(bars["date"])
        self.open, self.high, self.low, self.close, self.volume = (
            bars[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close", "volume")
        )

    @cached_property
    def rsi_14(self) -> np.ndarray:
        """RSI(14) of daily closes."""
        rsi: np.ndarray = self.ta.RSI(self.close, 14)
        return rsi

    @cached_property
    def bands(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Upper, middle and lower Bollinger band (20, 2 population sigma)."""
        upper, middle, lower = self.ta.BBANDS(self.close, 20, 2.0, 2.0)
        return upper, middle, lower

    @cached_property
    def week(self) -> np.ndarray:
        """Number of each session's Monday-to-Sunday week, counted from 0."""
        monday = (self.dates - pd.to_timedelta(self.dates.day_of_week, unit="D")).to_numpy()
        weeks: np.ndarray = np.unique(monday, return_inverse=True)[1]
        return weeks

    def weekly(self, indicator: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return `indicator` of weekly closes as known on each day.

        On day t that is the value of the last week that closed before t's week: a week's own
        bar is not known until its last session is over, wherever holidays fall.
        """
        last = np.flatnonzero(np.append(np.diff(self.week) > 0, True))
        of_week = np.concatenate([[np.nan], indicator(self.close[last])])
        known: np.ndarray = of_week[self.week]
        return known


def _share(part: np.ndarray, whole: np.ndarray, neutral: float) -> np.ndarray:
    """Return part / whole, `neutral` where whole is zero."""
    out = np.full(len(whole), neutral)
    np.divide(part, whole, out=out, where=whole != 0)
    return out


def _stochrsi(ta: Any, close: np.ndarray) -> np.ndarray:
    # TA-Lib rounds a zero range to noise; ours is exact: fast-K of RSI 14 over 5, flat -> 50.
    rsi = pd.Series(ta.RSI(close, 14))
    low, high = rsi.rolling(5).min().to_numpy(), rsi.rolling(5).max().to_numpy()
    return 100 * _share(rsi.to_numpy() - low, high - low, 0.5)


def _rolling_sum(values: np.ndarray, window: int) -> np.ndarray:
    return pd.Series(values).rolling(window).sum().to_numpy()


@dataclass(frozen=True)
class Feature:
    """One column of a tier."""

    name: str
    kind: Kind
    family: str
    warm_up: int
    """Number of leading sessions without a value."""
    compute: Callable[[Bars], np.ndarray]


LEVEL: Kind = "level"
STATIONARY: Kind = "stationary"

A20 = (
    Feature("dema_9", LEVEL, "average", 16, lambda b: b.ta.DEMA(b.close, 9)),
    Feature("dema_10", LEVEL, "average", 18, lambda b: b.ta.DEMA(b.close, 10)),
    Feature("sma_12", LEVEL, "average", 11, lambda b: b.ta.SMA(b.close, 12)),
    Feature("dema_20", LEVEL, "average", 38, lambda b: b.ta.DEMA(b.close, 20)),
    Feature("dema_25", LEVEL, "average", 48, lambda b: b.ta.DEMA(b.close, 25)),
    Feature("sma_50", LEVEL, "average", 49, lambda b: b.ta.SMA(b.close, 50)),
    Feature("dema_90", LEVEL, "average", 178, lambda b: b.ta.DEMA(b.close, 90)),
    Feature("sma_100", LEVEL, "average", 99, lambda b: b.ta.SMA(b.close, 100)),
    Feature("sma_200", LEVEL, "average", 199, lambda b: b.ta.SMA(b.close, 200)),
    Feature("rsi_daily", STATIONARY, "oscillator", 14, lambda b: b.rsi_14),
    Feature(
        "rsi_weekly", STATIONARY, "oscillator", 75, lambda b: b.weekly(lambda c: b.ta.RSI(c, 14))
    ),
    Feature("stochrsi_daily", STATIONARY, "oscillator", 18, lambda b: _stochrsi(b.ta, b.close)),
    Feature(
        "stochrsi_weekly",
        STATIONARY,
        "oscillator",
        95,
        lambda b: b.weekly(lambda c: _stochrsi(b.ta, c)),
    ),
    Feature("macd_line", LEVEL, "momentum", 33, lambda b: b.ta.MACD(b.close, 12, 26, 9)[0]),
    Feature("obv", LEVEL, "volume", 0, lambda b: b.ta.OBV(b.close, b.volume)),
    Feature(
        "adosc", LEVEL, "volume", 9, lambda b: b.ta.ADOSC(b.high, b.low, b.close, b.volume, 3, 10)
    ),
    Feature("atr_14", LEVEL, "volatility", 14, lambda b: b.ta.ATR(b.high, b.low, b.close, 14)),
    Feature("adx_14", STATIONARY, "trend", 27, lambda b: b.ta.ADX(b.high, b.low, b.close, 14)),
    Feature(
        "bb_percent_b",
        STATIONARY,
        "bands",
        19,
        lambda b: _share(b.close - b.bands[2], b.bands[0] - b.bands[2], 0.5),
    ),
    Feature(
        "vwap_20",
        LEVEL,
        "volume",
        19,
        lambda b: _rolling_sum(b.close * b.volume, 20) / _rolling_sum(b.volume, 20),
    ),
)
BAR_COLUMNS = (
    Feature("open", LEVEL, "bar", 0, lambda b: b.open),
    Feature("high", LEVEL, "bar", 0, lambda b: b.high),
    Feature("low", LEVEL, "bar", 0, lambda b: b.low),
    Feature("close", LEVEL, "bar", 0, lambda b: b.close),
    Feature("volume", LEVEL, "bar", 0, lambda b: b.volume),
)
TIERS = {"a20": A20, "a25": A20 + BAR_COLUMNS}
WARM_UP = max(feature.warm_up for tier in TIERS.values() for feature in tier)
"""Sessions dropped from every tier: the widest warm-up, so that all tiers share their dates."""


def tier_features(tier: str) -> tuple[Feature, ...]:
    """Return the features of a tier; raise InputError for an unknown one."""
    if tier not in TIERS:
        raise InputError(f"features.tier: {tier!r} is unknown; allowed: {', '.join(TIERS)}")
    return TIERS[tier]


def compute_tier(bars: pd.DataFrame, tier: str) -> pd.DataFrame:
    """Return `date` and exactly the tier's columns, with NaN where a feature warms up.

    Parameters
    ----------
    bars
        Adjusted bars, ascending.
    tier
        Key of `TIERS`.
    """
    shared = Bars(bars)
    columns = {feature.name: feature.compute(shared) for feature in tier_features(tier)}
    return pd.DataFrame({"date": bars["date"].to_numpy(), **columns})


def drop_warm_up(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows after the widest warm-up.

    Raises
    ------
    InputError
        A value is still NaN or infinite; the line names columns and dates.
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
