from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from patchscale.errors import InputError
from patchscale.features import (
    A20,
    TIERS,
    WARM_UP,
    Feature,
    compute_tier,
    drop_warm_up,
    tier_features,
)
from patchscale.market import PRICES

MakeBars = Callable[..., pd.DataFrame]

A20_NAMES = [
    "dema_9",
    "dema_10",
    "sma_12",
    "dema_20",
    "dema_25",
    "sma_50",
    "dema_90",
    "sma_100",
    "sma_200",
    "rsi_daily",
    "rsi_weekly",
    "stochrsi_daily",
    "stochrsi_weekly",
    "macd_line",
    "obv",
    "adosc",
    "atr_14",
    "adx_14",
    "bb_percent_b",
    "vwap_20",
]
EVERY = TIERS["a25"]
STATIONARY = [feature.name for feature in A20 if feature.kind == "stationary"]


@pytest.fixture(scope="module")
def table(bars: pd.DataFrame) -> pd.DataFrame:
    return compute_tier(bars, "a25")


@pytest.fixture(scope="module")
def holidays(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars with a tenth of all days missing, so that weeks begin and end anywhere."""
    keep = np.random.default_rng(3).random(len(bars)) > 0.1
    return bars[keep].reset_index(drop=True)


# An independent reference: the classic recursions, written out, without TA-Lib.


def ema(values: np.ndarray, period: int, first: int | None = None) -> np.ndarray:
    """Return the EMA that starts as the mean of the `period` values up to row `first`."""
    start = (period - 1 + int(np.isnan(values).sum())) if first is None else first
    out = np.full(len(values), np.nan)
    out[start] = values[start - period + 1 : start + 1].mean()
    for row in range(start + 1, len(values)):
        out[row] = out[row - 1] + (values[row] - out[row - 1]) * 2 / (period + 1)
    return out


def wilder(values: np.ndarray, period: int, first: int) -> np.ndarray:
    """Return Wilder's average that starts as the mean of the `period` values up to `first`."""
    out = np.full(len(values), np.nan)
    out[first] = values[first - period + 1 : first + 1].mean()
    for row in range(first + 1, len(values)):
        out[row] = (out[row - 1] * (period - 1) + values[row]) / period
    return out


def dema(close: np.ndarray, period: int) -> np.ndarray:
    once = ema(close, period)
    return 2 * once - ema(once, period)


def sma(values: np.ndarray, period: int) -> np.ndarray:
    out = np.full(len(values), np.nan)
    for row in range(period - 1, len(values)):
        out[row] = values[row - period + 1 : row + 1].mean()
    return out


def rsi(close: np.ndarray, period: int = 14) -> np.ndarray:
    change = np.append(np.nan, np.diff(close))
    gain = wilder(np.where(change > 0, change, 0.0), period, period)
    loss = wilder(np.where(change < 0, -change, 0.0), period, period)
    return 100 - 100 / (1 + gain / loss)


def stochrsi(close: np.ndarray) -> np.ndarray:
    values = rsi(close)
    out = np.full(len(close), np.nan)
    for row in range(18, len(close)):
        window = values[row - 4 : row + 1]
        out[row] = 100 * (values[row] - window.min()) / (window.max() - window.min())
    return out


def weekly(bars: pd.DataFrame, indicator: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    weeks = bars["date"].dt.to_period("W-SUN")
    closes = bars["close"].groupby(weeks).last()
    known = pd.Series(indicator(closes.to_numpy()), index=closes.index).shift(1)
    return weeks.map(known).to_numpy(dtype=float)


def macd_line(close: np.ndarray) -> np.ndarray:
    line = ema(close, 12, first=25) - ema(close, 26, first=25)  # both start where the slow can
    line[:33] = np.nan  # until the signal line, the EMA(9) of the line, exists
    return line


def obv(close: np.ndarray, volume: np.ndarray) -> np.ndarray:
    return volume[0] + np.cumsum(np.append(0.0, np.sign(np.diff(close)) * volume[1:]))


def adosc(bars: pd.DataFrame) -> np.ndarray:
    spread = bars["high"] - bars["low"]
    place = (2 * bars["close"] - bars["low"] - bars["high"]) / spread
    line = (place * bars["volume"]).cumsum()
    fast, slow = (line.ewm(span=span, adjust=False).mean() for span in (3, 10))
    return (fast - slow).where(line.index >= 9).to_numpy()


def true_range(bars: pd.DataFrame) -> np.ndarray:
    before = bars["close"].shift(1)
    ranges = [bars["high"] - bars["low"], bars["high"] - before, bars["low"] - before]
    out = pd.concat(ranges, axis=1).abs().max(axis=1).to_numpy().copy()
    out[0] = np.nan  # there is no close before
    return out


def adx(bars: pd.DataFrame, period: int = 14) -> np.ndarray:
    up = bars["high"].diff().to_numpy()
    down = -bars["low"].diff().to_numpy()
    moves = [
        np.where((up > down) & (up > 0), up, 0.0),
        np.where((down > up) & (down > 0), down, 0.0),
        true_range(bars),
    ]
    # Wilder's running sums; the first holds one day less than the period
    sums = []
    for move in moves:
        total = np.full(len(bars), np.nan)
        total[period - 1] = move[1:period].sum()
        for row in range(period, len(bars)):
            total[row] = total[row - 1] * (period - 1) / period + move[row]
        sums.append(total)
    plus, minus = sums[0] / sums[2], sums[1] / sums[2]
    index = 100 * np.abs(plus - minus) / (plus + minus)
    return wilder(index, period, 2 * period - 1)


def percent_b(close: np.ndarray) -> np.ndarray:
    out = np.full(len(close), np.nan)
    for row in range(19, len(close)):
        window = close[row - 19 : row + 1]
        middle, sigma = window.mean(), window.std(ddof=0)
        lower, upper = middle - 2 * sigma, middle + 2 * sigma
        out[row] = (close[row] - lower) / (upper - lower)
    return out


def vwap(bars: pd.DataFrame) -> np.ndarray:
    close, volume = bars["close"].to_numpy(), bars["volume"].to_numpy()
    out = np.full(len(bars), np.nan)
    for row in range(19, len(bars)):
        window = slice(row - 19, row + 1)
        out[row] = (close[window] * volume[window]).sum() / volume[window].sum()
    return out


def close_of(bars: pd.DataFrame) -> np.ndarray:
    return bars["close"].to_numpy()


REFERENCE: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "dema_9": lambda b: dema(close_of(b), 9),
    "dema_10": lambda b: dema(close_of(b), 10),
    "sma_12": lambda b: sma(close_of(b), 12),
    "dema_20": lambda b: dema(close_of(b), 20),
    "dema_25": lambda b: dema(close_of(b), 25),
    "sma_50": lambda b: sma(close_of(b), 50),
    "dema_90": lambda b: dema(close_of(b), 90),
    "sma_100": lambda b: sma(close_of(b), 100),
    "sma_200": lambda b: sma(close_of(b), 200),
    "rsi_daily": lambda b: rsi(close_of(b)),
    "rsi_weekly": lambda b: weekly(b, rsi),
    "stochrsi_daily": lambda b: stochrsi(close_of(b)),
    "stochrsi_weekly": lambda b: weekly(b, stochrsi),
    "macd_line": lambda b: macd_line(close_of(b)),
    "obv": lambda b: obv(close_of(b), b["volume"].to_numpy()),
    "adosc": adosc,
    "atr_14": lambda b: wilder(true_range(b), 14, 14),
    "adx_14": adx,
    "bb_percent_b": lambda b: percent_b(close_of(b)),
    "vwap_20": vwap,
}


@pytest.mark.parametrize("name", A20_NAMES)
def test_feature_equals_its_definition_written_out(holidays: pd.DataFrame, name: str) -> None:
    found = compute_tier(holidays, "a20")[name].to_numpy()
    expected = REFERENCE[name](holidays)
    assert np.isfinite(found[WARM_UP:]).all()
    # absolute part: differences of large numbers, and oscillators that pass through zero
    scale = np.nanmax(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("name", [*PRICES, "volume"])
def test_bar_columns_are_the_bars(bars: pd.DataFrame, table: pd.DataFrame, name: str) -> None:
    assert table[name].tolist() == bars[name].tolist()


def test_tiers_are_as_large_as_their_names_and_nested() -> None:
    assert [feature.name for feature in TIERS["a20"]] == A20_NAMES
    assert [feature.name for feature in TIERS["a25"]] == [*A20_NAMES, *PRICES, "volume"]
    for tier, features in TIERS.items():
        assert len({feature.name for feature in features}) == len(features) == int(tier[1:])


def test_tier_holds_its_dates_and_exactly_its_columns(bars: pd.DataFrame) -> None:
    for tier, features in TIERS.items():
        found = compute_tier(bars, tier)
        assert list(found.columns) == ["date", *(feature.name for feature in features)]
        assert found["date"].tolist() == bars["date"].tolist()


def test_unknown_tier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"features\.tier: 'a30' is unknown; allowed: a20, a25"):
        tier_features("a30")


def test_labels_and_dividends_are_no_features(bars: pd.DataFrame) -> None:
    found = compute_tier(bars.assign(label=1.0), "a25")
    assert not {"label", "dividends", "splits"} & set(found.columns)


def test_computation_does_not_change_the_bars(bars: pd.DataFrame) -> None:
    before = bars.copy()
    compute_tier(bars, "a25")
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize("feature", EVERY, ids=lambda feature: feature.name)
@pytest.mark.parametrize("first_day", ["2000-01-03", "2000-01-07"])
def test_declared_warm_up_is_that_of_the_values(
    make_bars: MakeBars, feature: Feature, first_day: str
) -> None:
    # weekly features start a week earlier where the first week is one Friday
    found = compute_tier(make_bars(300, start=first_day), "a25")[feature.name]
    actual = int(found.notna().to_numpy().argmax())
    assert actual <= feature.warm_up <= actual + 5
    assert found.iloc[actual:].notna().all()


def test_every_tier_drops_the_widest_warm_up(bars: pd.DataFrame) -> None:
    assert max(feature.warm_up for feature in EVERY) == WARM_UP == 199
    for tier in TIERS:
        whole = compute_tier(bars, tier)
        kept = drop_warm_up(whole)
        assert kept["date"].tolist() == bars["date"].tolist()[WARM_UP:]
        pd.testing.assert_frame_equal(kept, whole.iloc[WARM_UP:].reset_index(drop=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["dema_9", "vwap_20", "volume"])
def test_value_missing_after_the_warm_up_is_refused_with_column_and_date(
    table: pd.DataFrame, name: str, value: float
) -> None:
    wrong = table.copy()
    wrong.loc[[700, 650], name] = value
    day = table.loc[650, "date"]
    said = rf"features: {name} has no value on {day:%Y-%m-%d} \(2 of {len(table) - WARM_UP} days\)"
    with pytest.raises(InputError, match=said):
        drop_warm_up(wrong)


def test_no_two_columns_are_twins(table: pd.DataFrame) -> None:
    kept = drop_warm_up(table).drop(columns="date")
    changes = kept.diff().iloc[1:].corr().abs()
    twins = [
        (first, second)
        for first, second in combinations(A20_NAMES, 2)
        if changes.loc[first, second] > 0.9999
    ]
    assert twins == []


@pytest.mark.parametrize("name", STATIONARY)
def test_stationary_feature_does_not_know_the_price_level(
    bars: pd.DataFrame, table: pd.DataFrame, name: str
) -> None:
    scaled = bars.copy()
    scaled[PRICES] *= 7
    found = compute_tier(scaled, "a20")[name]
    np.testing.assert_allclose(found, table[name], rtol=1e-9, atol=1e-9)


def test_price_features_move_with_the_price_level(bars: pd.DataFrame, table: pd.DataFrame) -> None:
    scaled = bars.copy()
    scaled[PRICES] *= 8  # a power of two: no rounding
    found = compute_tier(scaled, "a20")
    for feature in A20:
        if feature.kind == "level" and feature.name not in ("obv", "adosc"):
            np.testing.assert_allclose(found[feature.name], 8 * table[feature.name], rtol=1e-12)


def test_kinds_are_those_of_the_study() -> None:
    oscillators = ["rsi_daily", "rsi_weekly", "stochrsi_daily", "stochrsi_weekly"]
    stationary = [feature.name for feature in A20 if feature.kind == "stationary"]
    assert stationary == [*oscillators, "adx_14", "bb_percent_b"]
    assert {feature.kind for feature in EVERY} == {"level", "stationary"}


@pytest.mark.parametrize(
    "name", ["rsi_daily", "rsi_weekly", "stochrsi_daily", "stochrsi_weekly", "adx_14"]
)
def test_oscillator_stays_between_0_and_100(table: pd.DataFrame, name: str) -> None:
    values = table[name].dropna()
    assert values.between(0, 100).all()
    assert values.max() - values.min() > 20


def test_averages_stay_within_the_closes_they_average(
    bars: pd.DataFrame, table: pd.DataFrame
) -> None:
    for name, window in (("sma_12", 12), ("sma_50", 50), ("sma_200", 200), ("vwap_20", 20)):
        closes = bars["close"].rolling(window)
        known = table[name].notna()
        assert (table[name] >= closes.min() - 1e-9)[known].all()
        assert (table[name] <= closes.max() + 1e-9)[known].all()
    assert (table["atr_14"].dropna() > 0).all()


def test_percent_b_is_neutral_where_the_bands_meet(bars: pd.DataFrame) -> None:
    flat = bars.copy()
    flat.loc[400:460, PRICES] = 128.0
    found = compute_tier(flat, "a20")["bb_percent_b"]
    assert (found[420:460] == 0.5).all()


def test_stochrsi_is_neutral_where_the_rsi_is_flat(bars: pd.DataFrame) -> None:
    rising = bars.copy()
    rising["close"] = 100.0 + np.arange(len(bars))  # gains only: RSI is 100 every day
    found = compute_tier(rising, "a20")
    assert (found["rsi_daily"][14:] == 100).all()
    assert (found["stochrsi_daily"][18:] == 50).all()
