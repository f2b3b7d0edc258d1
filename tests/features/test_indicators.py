"""Every column against an independent definition in `reference`, and neutral values."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import reference as r
from conftest import random_bars
from reference import Array, change, earlier, percent, percentile, position, rolling, sigma, sma

from patchscale.bars import PRICES
from patchscale.features import indicators
from patchscale.features.formulas import compute_tier
from patchscale.features.tiers import A200, VIX, WARM_UP

Market = SimpleNamespace


def market(bars: pd.DataFrame, vix: pd.DataFrame) -> Market:
    """Return the arrays in which the definitions below are written."""
    m = Market(d=bars["date"].to_numpy(), x=vix["close"].to_numpy())
    m.o, m.h, m.l, m.c, m.v = (
        bars[name].to_numpy() for name in ["open", "high", "low", "close", "volume"]
    )
    m.ret, m.log = m.c / earlier(m.c, 1) - 1, np.log(m.c) - np.log(earlier(m.c, 1))
    m.typical = (m.h + m.l + m.c) / 3
    m.rsi = r.rsi(m.c)
    m.atr_pct = 100 * r.atr(m.h, m.l, m.c, 14) / m.c
    m.range = 100 * (m.h - m.l) / m.c
    m.sma9, m.sma20, m.sma50, m.sma200 = (sma(m.c, n) for n in (9, 20, 50, 200))
    m.ema9, m.ema50 = r.ema(m.c, 9), r.ema(m.c, 50)
    m.tema20, m.kama20 = r.tema(m.c, 20), r.kama(m.c, 20)
    m.band = 2 * rolling(np.std, 20, m.c)
    m.width = 100 * 2 * m.band / m.sma20
    m.qqe = r.ewm(m.rsi, 5)
    m.stc = r.schaff_trend_cycle(m.c)
    m.stoch = sma(100 * position(m.c, m.l, m.h, 14), 3)
    m.macd = r.macd(m.c, 12, 26, 9)
    m.obv = r.on_balance_volume(m.c, m.v)
    m.line = r.accumulation_distribution(m.h, m.l, m.c, m.v)
    m.kvo = r.klinger(m.h, m.l, m.c, m.v)
    m.rv = {n: r.realised_volatility(m.log, n) for n in (5, 10, 21, 60)}
    m.trend, m.side = r.supertrend(m.h, m.l, m.c, 10, 3)
    m.vwap = r.vwma(m.c, m.v, 20)
    m.keltner = r.ema(m.c, 20)
    m.reach = 1.5 * r.atr(m.h, m.l, m.c, 20)
    below_top = m.sma20 + m.band < m.keltner + m.reach
    m.squeeze = shown(below_top & (m.sma20 - m.band > m.keltner - m.reach), m.band + m.reach)
    m.tenkan = (highest(m.h, 9) + lowest(m.l, 9)) / 2
    m.kijun = (highest(m.h, 26) + lowest(m.l, 26)) / 2
    spans = [(m.tenkan + m.kijun) / 2, (highest(m.h, 52) + lowest(m.l, 52)) / 2]
    m.cloud = np.sort([earlier(span, 26) for span in spans], axis=0)
    m.cloud[:, np.isnan(m.cloud).any(axis=0)] = np.nan
    return m


def highest(x: Array, n: int) -> Array:
    return rolling(np.max, n, x)


def lowest(x: Array, n: int) -> Array:
    return rolling(np.min, n, x)


def nearer(x: Array, low: float, high: float) -> Array:
    return np.minimum(np.abs(x - low), np.abs(x - high))


def beyond(x: Array, low: Array, high: Array) -> Array:
    """Return the signed distance to the nearer edge, 0 inside."""
    out = np.where(x > high, x - high, np.where(x < low, x - low, 0.0))
    return np.where(np.isnan(low), np.nan, out)


def shown(mask: Array, known: Array) -> Array:
    """Return a mask as 0 and 1, NaN where its inputs are unknown."""
    return np.where(np.isnan(known), np.nan, mask)


def demarker(high: Array, low: Array) -> Array:
    up, down = np.maximum(change(high), 0), np.maximum(-change(low), 0)
    return sma(up, 14) / (sma(up, 14) + sma(down, 14))


def heavy_bias(returns: Array, volume: Array) -> Array:
    """Return the mean direction of the days with more than their 20-day average volume."""
    heavy = shown(volume > sma(volume, 20), sma(volume, 20))
    return rolling(lambda h, m: np.sign(m[h > 0]).mean(), 20, heavy, returns)


def ease_of_movement(m: Market) -> Array:
    middle = percent((m.h + m.l) / 2, earlier((m.h + m.l) / 2, 1))
    return sma(middle * m.range / (m.v / sma(m.v, 20)), 14)


def weekday(m: Market) -> Array:
    return np.array([pd.Timestamp(day).weekday() for day in m.d])


def month(m: Market) -> Array:
    return np.array([pd.Timestamp(day).month for day in m.d])


def inside_days(high: Array, low: Array) -> Array:
    inside = (high < earlier(high, 1)) & (low > earlier(low, 1))
    return r.signed_run(shown(inside, change(high)))


DEFINITIONS: dict[str, Callable[[Market], Array]] = {
    # a20
    "dema_9": lambda m: r.dema(m.c, 9),
    "dema_10": lambda m: r.dema(m.c, 10),
    "sma_12": lambda m: sma(m.c, 12),
    "dema_20": lambda m: r.dema(m.c, 20),
    "dema_25": lambda m: r.dema(m.c, 25),
    "sma_50": lambda m: m.sma50,
    "dema_90": lambda m: r.dema(m.c, 90),
    "sma_100": lambda m: sma(m.c, 100),
    "sma_200": lambda m: m.sma200,
    "rsi_daily": lambda m: m.rsi,
    "rsi_weekly": lambda m: r.weekly(m.d, m.c, r.rsi),
    "stochrsi_daily": lambda m: r.stochrsi(m.c),
    "stochrsi_weekly": lambda m: r.weekly(m.d, m.c, r.stochrsi),
    "macd_line": lambda m: m.macd[0],
    "obv": lambda m: m.obv,
    "adosc": lambda m: r.chaikin_oscillator(m.line),
    "atr_14": lambda m: r.atr(m.h, m.l, m.c, 14),
    "adx_14": lambda m: r.adx(m.h, m.l, m.c, 14),
    "bb_percent_b": lambda m: (m.c - m.sma20 + m.band) / (2 * m.band),
    "vwap_20": lambda m: m.vwap,
    # a50
    "return_1d": lambda m: percent(m.c, earlier(m.c, 1)),
    "return_5d": lambda m: percent(m.c, earlier(m.c, 5)),
    "return_21d": lambda m: percent(m.c, earlier(m.c, 21)),
    "return_63d": lambda m: percent(m.c, earlier(m.c, 63)),
    "return_252d": lambda m: percent(m.c, earlier(m.c, 252)),
    "qqe_fast": lambda m: m.qqe,
    "qqe_slow": lambda m: r.ewm(m.rsi, 14),
    "qqe_fast_slow_spread": lambda m: m.qqe - r.ewm(m.rsi, 14),
    "stc_value": lambda m: m.stc,
    "sharpe_20d": lambda m: r.sharpe(m.ret, 20),
    "sharpe_60d": lambda m: r.sharpe(m.ret, 60),
    "sortino_20d": lambda m: r.sortino(m.ret, 20),
    "sortino_60d": lambda m: r.sortino(m.ret, 60),
    "rsi_slope": lambda m: change(m.rsi, 5),
    "rsi_extreme_dist": lambda m: nearer(m.rsi, 30, 70),
    "price_pct_from_sma_50": lambda m: percent(m.c, m.sma50),
    "price_pct_from_sma_200": lambda m: percent(m.c, m.sma200),
    "sma_50_200_proximity": lambda m: percent(m.sma50, m.sma200),
    "atr_pct": lambda m: m.atr_pct,
    "atr_pct_slope": lambda m: change(m.atr_pct, 5),
    "bb_width": lambda m: m.width,
    "overnight_gap": lambda m: percent(m.o, earlier(m.c, 1)),
    "open_to_close_pct": lambda m: percent(m.c, m.o),
    "volume_ratio_20d": lambda m: m.v / sma(m.v, 20),
    "kvo_signal": lambda m: r.ewm(m.kvo, 13),
    "macd_histogram": lambda m: m.macd[2],
    "rv_10d": lambda m: m.rv[10],
    "rv_21d": lambda m: m.rv[21],
    "rv_ratio_10_60": lambda m: m.rv[10] / m.rv[60],
    "range_pct": lambda m: m.range,
    # a100
    "return_1d_acceleration": lambda m: change(percent(m.c, earlier(m.c, 1))),
    "return_5d_acceleration": lambda m: change(percent(m.c, earlier(m.c, 5))),
    "qqe_slope": lambda m: change(m.qqe, 5),
    "qqe_extreme_dist": lambda m: nearer(m.qqe, 20, 80),
    "stc_slope": lambda m: change(m.stc, 5),
    "stc_extreme_dist": lambda m: nearer(m.stc, 25, 75),
    "demarker_value": lambda m: demarker(m.h, m.l),
    "stoch_k_14": lambda m: m.stoch,
    "stoch_d_14": lambda m: sma(m.stoch, 3),
    "stoch_extreme_dist": lambda m: nearer(m.stoch, 20, 80),
    "cci_14": lambda m: r.cci(m.typical, 14),
    "mfi_14": lambda m: r.money_flow_index(m.typical, m.v, 14),
    "rv_5d": lambda m: m.rv[5],
    "rv_slope": lambda m: change(m.rv[21]),
    "sharpe_252d": lambda m: r.sharpe(m.ret, 252),
    "sortino_252d": lambda m: r.sortino(m.ret, 252),
    "sharpe_slope_20d": lambda m: change(r.sharpe(m.ret, 20)),
    "sortino_slope_20d": lambda m: change(r.sortino(m.ret, 20)),
    "var_95": lambda m: r.value_at_risk(100 * m.ret, 20, 0.05),
    "var_99": lambda m: r.value_at_risk(100 * m.ret, 20, 0.01),
    "cvar_95": lambda m: r.expected_shortfall(100 * m.ret, 20, 0.05),
    "sma_9_50_proximity": lambda m: percent(m.sma9, m.sma50),
    "sma_50_slope_pct": lambda m: percent(m.sma50, earlier(m.sma50, 5)),
    "sma_200_slope_pct": lambda m: percent(m.sma200, earlier(m.sma200, 5)),
    "days_since_sma_50_cross": lambda m: r.since_cross(m.c - m.sma50),
    "days_since_sma_200_cross": lambda m: r.since_cross(m.c - m.sma200),
    "ema_12": lambda m: r.ema(m.c, 12),
    "ema_26": lambda m: r.ema(m.c, 26),
    "atr_pct_percentile_60d": lambda m: percentile(m.atr_pct, 60),
    "bb_width_percentile_60d": lambda m: percentile(m.width, 60),
    "parkinson_volatility": lambda m: r.parkinson(m.h, m.l, 20),
    "garman_klass_volatility": lambda m: r.garman_klass(m.o, m.h, m.l, m.c, 20),
    "vol_of_vol": lambda m: sigma(m.rv[5], 20),
    "adx_slope": lambda m: change(r.adx(m.h, m.l, m.c, 14), 5),
    "di_spread": lambda m: np.subtract(*r.directional(m.h, m.l, m.c, 14)),
    "aroon_oscillator": lambda m: r.aroon_oscillator(m.h, m.l, 25),
    "price_pct_from_supertrend": lambda m: percent(m.c, m.trend),
    "supertrend_direction": lambda m: m.side,
    "obv_slope": lambda m: change(m.obv, 5) / sigma(change(m.obv, 5), 20),
    "volume_price_trend_z": lambda m: r.zscore(np.nancumsum(m.v * m.ret), 60),
    "kvo_histogram_z": lambda m: r.zscore(m.kvo - r.ewm(m.kvo, 13), 20),
    "accumulation_dist_z": lambda m: r.zscore(m.line, 60),
    "expectancy_20d": lambda m: r.expectancy(100 * m.ret, 20),
    "win_rate_20d": lambda m: rolling(lambda w: 100 * np.mean(w > 0), 20, m.ret),
    "buying_pressure_ratio": lambda m: (m.c - m.l) / (m.h - m.l),
    "fib_range_position": lambda m: position(m.c, m.l, m.h, 44),
    "prior_high_20d_dist": lambda m: percent(m.c, highest(m.h, 20)),
    "prior_low_20d_dist": lambda m: percent(m.c, lowest(m.l, 20)),
    "rogers_satchell_volatility": lambda m: r.rogers_satchell(m.o, m.h, m.l, m.c, 20),
    "yang_zhang_volatility": lambda m: r.yang_zhang(m.o, m.h, m.l, m.c, 20),
    # a200: moving averages
    **{f"tema_{n}": lambda m, n=n: r.tema(m.c, n) for n in (9, 20, 50, 100)},
    **{f"wma_{n}": lambda m, n=n: r.wma(m.c, n) for n in (10, 20, 50, 200)},
    **{f"kama_{n}": lambda m, n=n: r.kama(m.c, n) for n in (10, 20, 50)},
    **{f"hma_{n}": lambda m, n=n: r.hma(m.c, n) for n in (9, 21, 50)},
    **{f"vwma_{n}": lambda m, n=n: r.vwma(m.typical, m.v, n) for n in (10, 20, 50)},
    "tema_20_slope_pct": lambda m: percent(m.tema20, earlier(m.tema20, 5)),
    # a200: distance and duration
    "price_pct_from_tema_50": lambda m: percent(m.c, r.tema(m.c, 50)),
    "price_pct_from_kama_20": lambda m: percent(m.c, m.kama20),
    "price_pct_from_ema_9": lambda m: percent(m.c, m.ema9),
    "price_pct_from_ema_50": lambda m: percent(m.c, m.ema50),
    "price_pct_from_sma_5": lambda m: percent(m.c, sma(m.c, 5)),
    "price_pct_from_sma_21": lambda m: percent(m.c, sma(m.c, 21)),
    "days_above_sma_9": lambda m: r.signed_run(m.c - m.sma9),
    "days_above_sma_50": lambda m: r.signed_run(m.c - m.sma50),
    "days_above_sma_200": lambda m: r.signed_run(m.c - m.sma200),
    "days_above_tema_20": lambda m: r.signed_run(m.c - m.tema20),
    "days_above_kama_20": lambda m: r.signed_run(m.c - m.kama20),
    "days_above_vwma_20": lambda m: r.signed_run(m.c - r.vwma(m.typical, m.v, 20)),
    "bars_since_sma_9_50_cross": lambda m: r.signed_run(m.sma9 - m.sma50),
    "bars_since_sma_50_200_cross": lambda m: r.signed_run(m.sma50 - m.sma200),
    "bars_since_tema_20_sma_50_cross": lambda m: r.signed_run(m.tema20 - m.sma50),
    "bars_since_kama_20_sma_50_cross": lambda m: r.signed_run(m.kama20 - m.sma50),
    "bars_since_sma_9_200_cross": lambda m: r.signed_run(m.sma9 - m.sma200),
    "bars_since_ema_9_50_cross": lambda m: r.signed_run(m.ema9 - m.ema50),
    "tema_20_sma_50_proximity": lambda m: percent(m.tema20, m.sma50),
    "kama_20_sma_50_proximity": lambda m: percent(m.kama20, m.sma50),
    "sma_9_200_proximity": lambda m: percent(m.sma9, m.sma200),
    "sma_63_200_proximity": lambda m: percent(sma(m.c, 63), m.sma200),
    # a200: bands, RSI, mean reversion, runs
    "pct_from_upper_band": lambda m: percent(m.c, m.sma20 + m.band),
    "pct_from_lower_band": lambda m: percent(m.c, m.sma20 - m.band),
    "days_outside_band": lambda m: r.signed_run(beyond(m.c, m.sma20 - m.band, m.sma20 + m.band)),
    "bb_squeeze": lambda m: m.squeeze,
    "bb_squeeze_duration": lambda m: r.signed_run(m.squeeze),
    "days_rsi_overbought": lambda m: r.signed_run(shown(m.rsi > 70, m.rsi)),
    "days_rsi_oversold": lambda m: r.signed_run(shown(m.rsi < 30, m.rsi)),
    "rsi_percentile_60d": lambda m: percentile(m.rsi, 60),
    "rsi_5": lambda m: r.rsi(m.c, 5),
    "rsi_21": lambda m: r.rsi(m.c, 21),
    "zscore_20d": lambda m: r.zscore(m.ret, 20),
    "zscore_50d": lambda m: r.zscore(m.ret, 50),
    "percentile_in_252d_range": lambda m: 100 * position(m.c, m.l, m.h, 252),
    "days_since_252d_high": lambda m: r.sessions_since_high(m.h, 252),
    "days_since_252d_low": lambda m: r.sessions_since_high(-m.l, 252),
    "consecutive_days": lambda m: r.signed_run(m.ret),
    "up_days_ratio_20d": lambda m: rolling(
        lambda w: (w > 0).sum() / max((w < 0).sum(), 1), 20, m.ret
    ),
    "range_compression_5d": lambda m: sma(m.range, 5) / sma(m.range, 20),
    # a200: MACD and volume
    "macd_signal": lambda m: m.macd[1],
    "macd_histogram_slope": lambda m: 100 * change(m.macd[2], 5) / m.c,
    "days_since_macd_cross": lambda m: r.since_cross(m.macd[2]),
    "volume_trend_5d": lambda m: percent(sma(m.v, 5), earlier(sma(m.v, 5), 5)),
    "volume_run": lambda m: r.signed_run(change(m.v)),
    "volume_price_confluence": lambda m: sma(np.sign(m.ret) * np.sign(change(m.v)), 20),
    "high_volume_direction_bias": lambda m: heavy_bias(m.ret, m.v),
    "volume_zscore_20d": lambda m: r.zscore(m.v, 20),
    "volume_percentile_20d": lambda m: percentile(m.v, 20),
    "cmf_20": lambda m: rolling(
        lambda f, v: f.sum() / v.sum(), 20, (2 * m.c - m.l - m.h) / (m.h - m.l) * m.v, m.v
    ),
    "emv_14": ease_of_movement,
    "volume_ma_ratio_5_20": lambda m: sma(m.v, 5) / sma(m.v, 20),
    "up_down_volume_ratio_20d": lambda m: rolling(
        lambda w, v: v[w > 0].sum() / v[w != 0].sum(), 20, m.ret, m.v
    ),
    "pct_from_vwap_20": lambda m: percent(m.c, m.vwap),
    # a200: candle and calendar
    "autocorr_lag1_20d": lambda m: r.autocorrelation(m.ret, 20),
    "body_to_range_ratio": lambda m: np.abs(m.c - m.o) / (m.h - m.l),
    "upper_wick_pct": lambda m: 100 * (m.h - np.maximum(m.o, m.c)) / (m.h - m.l),
    "lower_wick_pct": lambda m: 100 * (np.minimum(m.o, m.c) - m.l) / (m.h - m.l),
    "range_vs_avg_range": lambda m: m.range / sma(m.range, 20),
    "gap_fill_pct": lambda m: r.gap_fill(m.o, m.h, m.l, m.c),
    "inside_day_run": lambda m: inside_days(m.h, m.l),
    "day_of_week_sin": lambda m: np.sin(0.4 * np.pi * weekday(m)),
    "day_of_week_cos": lambda m: np.cos(0.4 * np.pi * weekday(m)),
    "month_sin": lambda m: np.sin(np.pi / 6 * (month(m) - 1)),
    "month_cos": lambda m: np.cos(np.pi / 6 * (month(m) - 1)),
    # a200: channels, divergence, regime
    "tenkan_kijun_spread": lambda m: 100 * (m.tenkan - m.kijun) / m.c,
    "price_vs_cloud": lambda m: 100 * beyond(m.c, m.cloud[0], m.cloud[1]) / m.c,
    "cloud_thickness_pct": lambda m: 100 * (m.cloud[1] - m.cloud[0]) / m.c,
    "donchian_position": lambda m: position(m.c, m.l, m.h, 20),
    "donchian_width_pct": lambda m: 100 * (highest(m.h, 20) - lowest(m.l, 20)) / m.c,
    "keltner_position": lambda m: (m.c - m.keltner + m.reach) / (2 * m.reach),
    "keltner_width": lambda m: 100 * 2 * m.reach / m.keltner,
    "linreg_channel_position": lambda m: r.linreg_channel_position(m.c, 50),
    "price_rsi_divergence": lambda m: percentile(m.c, 20) - percentile(m.rsi, 20),
    "price_obv_divergence": lambda m: percentile(m.c, 20) - percentile(m.obv, 20),
    **{
        f"permutation_entropy_{n}": lambda m, n=n: r.permutation_entropy(m.c, n, 20)
        for n in (3, 4, 5)
    },
    "hurst_60d": lambda m: r.hurst(np.log(m.c), 60),
    "atr_regime_percentile_252d": lambda m: percentile(m.atr_pct, 252),
    "adx_percentile_60d": lambda m: percentile(r.adx(m.h, m.l, m.c, 14), 60),
    # VIX
    "vix_close": lambda m: m.x,
    "vix_sma_10": lambda m: sma(m.x, 10),
    "vix_sma_20": lambda m: sma(m.x, 20),
    "vix_percentile_60d": lambda m: percentile(m.x, 60),
    "vix_zscore_20d": lambda m: r.zscore(m.x, 20),
    "vix_regime": lambda m: np.where(m.x < 15, 0.0, np.where(m.x < 25, 1.0, 2.0)),
    "vix_change_1d_pct": lambda m: percent(m.x, earlier(m.x, 1)),
    "vix_change_5d_pct": lambda m: percent(m.x, earlier(m.x, 5)),
    "vrp_5d": lambda m: m.x - m.rv[5],
    "vrp_10d": lambda m: m.x - m.rv[10],
    "vrp_21d": lambda m: m.x - m.rv[21],
    "vrp_slope": lambda m: change(m.x - m.rv[21]),
    "implied_vs_realized": lambda m: m.x / m.rv[21],
}


@pytest.fixture(scope="module")
def holidays() -> pd.DataFrame:
    """Return bars with a tenth of all days missing, so that weeks begin and end anywhere."""
    bars = random_bars(700)
    keep = np.random.default_rng(3).random(len(bars)) > 0.1
    return bars[keep].reset_index(drop=True)


@pytest.fixture(scope="module")
def table(holidays: pd.DataFrame) -> pd.DataFrame:
    return compute_tier(holidays, "a200c", vix=r.random_vix(holidays))


@pytest.fixture(scope="module")
def defined(holidays: pd.DataFrame) -> Market:
    return market(holidays, r.random_vix(holidays))


def test_every_column_but_the_count_of_sessions_is_written_out() -> None:
    # that one is checked by hand, against the exchange's published holidays
    rest = {feature.name for feature in A200 + VIX} - {"sessions_to_month_end"}
    assert set(DEFINITIONS) == rest


@pytest.mark.parametrize("name", DEFINITIONS)
def test_column_equals_its_definition_written_out(
    table: pd.DataFrame, defined: Market, name: str
) -> None:
    found, expected = table[name].to_numpy(), DEFINITIONS[name](defined)
    assert np.isfinite(found[WARM_UP:]).all()
    # absolute part: differences of large numbers, and values that pass through zero
    scale = np.nanmax(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)


@pytest.fixture(scope="module")
def flat() -> pd.DataFrame:
    """Return a table of bars with one price in rows 400-479 and no volume in rows 420-449."""
    bars = random_bars(600)
    bars[PRICES] *= 128.0 / bars["close"][399]
    bars.loc[400:479, PRICES] = 128.0
    bars.loc[420:449, "volume"] = 0.0
    return compute_tier(bars, "a200c", vix=r.random_vix(bars))


@pytest.fixture(scope="module")
def unsold() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return bars without volume in rows 400-479, and their table."""
    bars = random_bars(600)
    bars.loc[400:479, "volume"] = 0.0
    return bars, compute_tier(bars, "a200")


def test_flat_market_leaves_no_value_out(flat: pd.DataFrame) -> None:
    values = flat.iloc[WARM_UP:].drop(columns="date")
    assert list(values.columns[~np.isfinite(values).all()]) == []


def test_market_without_volume_leaves_no_value_out(
    unsold: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    values = unsold[1].iloc[WARM_UP:].drop(columns="date")
    assert list(values.columns[~np.isfinite(values).all()]) == []


FLAT = {
    0.0: """return_1d return_21d overnight_gap open_to_close_pct range_pct sharpe_20d sharpe_60d
        sortino_20d sortino_60d zscore_20d zscore_50d cci_14 aroon_oscillator var_95 cvar_95
        expectancy_20d win_rate_20d parkinson_volatility garman_klass_volatility obv_slope
        rogers_satchell_volatility volume_price_trend_z accumulation_dist_z cmf_20 emv_14
        high_volume_direction_bias volume_price_confluence autocorr_lag1_20d body_to_range_ratio
        upper_wick_pct lower_wick_pct gap_fill_pct inside_day_run consecutive_days
        days_outside_band days_above_sma_9 days_above_sma_50 days_since_sma_50_cross
        donchian_width_pct tenkan_kijun_spread permutation_entropy_3 permutation_entropy_5
        price_obv_divergence up_days_ratio_20d""",
    0.5: """bb_percent_b buying_pressure_ratio demarker_value fib_range_position donchian_position
        up_down_volume_ratio_20d linreg_channel_position hurst_60d""",
    1.0: "range_compression_5d range_vs_avg_range rv_ratio_10_60 implied_vs_realized bb_squeeze",
    30.0: "stoch_extreme_dist",
    50.0: "stoch_k_14 stoch_d_14 stochrsi_daily stochrsi_weekly",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for value, names in FLAT.items() for name in names.split()],
)
def test_flat_market_gives_the_neutral_value(flat: pd.DataFrame, name: str, value: float) -> None:
    assert flat[name][465:480].tolist() == pytest.approx([value] * 15, abs=1e-9)
    assert flat[name][500:].nunique() > 1


NO_VOLUME = {
    "volume_ratio_20d": 1.0,
    "volume_ma_ratio_5_20": 1.0,
    "volume_trend_5d": 0.0,
    "volume_zscore_20d": 0.0,
    "volume_percentile_20d": 0.0,
    "volume_run": 0.0,
    "volume_price_confluence": 0.0,
    "high_volume_direction_bias": 0.0,
    "cmf_20": 0.0,
    "up_down_volume_ratio_20d": 0.5,
    "obv_slope": 0.0,
    "mfi_14": 0.0,
    "volume_price_trend_z": 0.0,
    "accumulation_dist_z": 0.0,
}


@pytest.mark.parametrize("name", NO_VOLUME)
def test_market_without_volume_gives_the_neutral_value(
    unsold: tuple[pd.DataFrame, pd.DataFrame], name: str
) -> None:
    values = unsold[1][name]
    assert values[465:480].tolist() == pytest.approx([NO_VOLUME[name]] * 15, abs=1e-9)
    assert values[500:].nunique() > 1


def test_market_without_volume_weighs_all_prices_alike(
    unsold: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    bars, table = unsold
    typical = ((bars["high"] + bars["low"] + bars["close"]) / 3).to_numpy()
    for name, prices, n in [
        ("vwap_20", bars["close"].to_numpy(), 20),
        ("vwma_10", typical, 10),
        ("vwma_50", typical, 50),
    ]:
        plain = sma(prices, n)
        np.testing.assert_allclose(table[name][460:480], plain[460:480], rtol=1e-12)
        assert not np.allclose(table[name][500:], plain[500:], rtol=1e-6)


def test_volume_force_is_zero_in_a_flat_market_without_ranges() -> None:
    flat = np.full(30, 100.0)
    force = indicators.volume_force(flat, flat, flat, np.full(30, 1e6))
    assert np.isnan(force[0])
    assert force[1:].tolist() == [0.0] * 29


def test_volume_force_counts_ranges_from_the_turn_of_the_trend() -> None:
    middle = np.array([10.0, 11.0, 12.0, 11.0, 10.0, 11.0])
    reach = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 0.5])  # half of each day's range
    force = indicators.volume_force(middle + reach, middle - reach, middle, np.ones(6))
    # ranges 2 4 2 6 2 1; up, up, down, down, up: cm begins with the range before the turn
    cm = [2 + 4, 2 + 4 + 2, 2 + 6, 2 + 6 + 2, 2 + 1]
    ranges, trend = [4, 2, 6, 2, 1], [1, 1, -1, -1, 1]
    expected = [100 * s * abs(2 * d / c - 1) for s, d, c in zip(trend, ranges, cm, strict=True)]
    np.testing.assert_allclose(force[1:], expected, rtol=1e-12)


def test_linear_channel_is_neutral_on_a_straight_line() -> None:
    for close in (np.full(80, 100.1), np.linspace(80, 90, 80), np.linspace(1300, 900, 80)):
        assert indicators.linreg_place(close, 50)[49:].tolist() == [0.5] * 31


def test_straight_walks_persist_and_zigzags_return() -> None:
    way = np.arange(100.0)
    np.testing.assert_allclose(indicators.hurst(way, 60)[59:], 1.0, rtol=1e-12)
    zigzag = np.where(way % 3 == 0, 1.0, 0.0)
    assert (indicators.hurst(zigzag, 60)[59:] < 0.05).all()


def test_random_walk_has_a_hurst_exponent_of_one_half() -> None:
    walk = np.cumsum(np.random.default_rng(0).standard_normal(8000))
    assert np.nanmean(indicators.hurst(walk, 1000)) == pytest.approx(0.5, abs=0.03)


def test_permutation_entropy_is_that_of_the_patterns() -> None:
    rising = np.arange(30.0)
    assert indicators.permutation_entropy(rising, 3, 20)[19:] == pytest.approx(0.0)
    # up, down, up, down: two patterns of three, nine times each
    zigzag = rising % 2 + rising / 100
    expected = np.log(2) / np.log(6)
    assert indicators.permutation_entropy(zigzag, 3, 20)[19:] == pytest.approx(expected)


def test_supertrend_turns_with_the_first_close_beyond_its_line() -> None:
    close = np.append(np.linspace(100, 130, 31), np.linspace(128, 90, 20))
    line, direction = indicators.supertrend(close + 1, close - 1, close, 10, 3)
    turn = int(np.flatnonzero(direction == -1)[0])
    assert set(direction[10:turn]) == {1.0}
    assert set(direction[turn:]) == {-1.0}
    assert (close[10:turn] >= line[10:turn]).all()
    assert close[turn] < line[turn - 1]
    assert (np.diff(line[10:turn]) >= 0).all()  # below a rising price it never falls
    assert (np.diff(line[turn:]) <= 0).all()


def test_sortino_is_neutral_without_a_loss() -> None:
    for seed in range(8):
        returns = np.random.default_rng(seed).normal(0, 0.01, 200)
        returns[100:160] = np.abs(returns[100:160])
        assert indicators.sortino(returns, 20)[119:160].tolist() == [0.0] * 41


def test_sharpe_is_neutral_where_nothing_moves() -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, 200)
    returns[100:160] = 0.0
    assert indicators.sharpe(returns, 20)[119:160].tolist() == [0.0] * 41


def test_stochrsi_is_neutral_where_the_rsi_is_flat() -> None:
    bars = random_bars(60)
    bars["close"] = 100.0 + np.arange(60)  # gains only: RSI is 100 every day
    found = compute_tier(bars, "a20")
    assert (found["rsi_daily"][14:] == 100).all()
    assert (found["stochrsi_daily"][18:] == 50).all()
