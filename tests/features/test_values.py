"""Values of the features: units, bounds, counts, averages, and no column twice."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from reference import random_vix

from patchscale.bars import PRICES
from patchscale.features.formulas import FORMULAS, compute_tier, drop_warm_up
from patchscale.features.tiers import A200, VIX, WARM_UP

BAR_NAMES = [*PRICES, "volume"]
LEVEL = [feature.name for feature in A200 if feature.kind == "level"]
STATIONARY = [feature.name for feature in A200 if feature.kind == "stationary"]
VIX_NAMES = [feature.name for feature in VIX]
COUNTED_IN_SHARES = ["obv", "adosc", "kvo_signal"]


def words(text: str) -> list[str]:
    return text.split()


def every_column(bars: pd.DataFrame) -> pd.DataFrame:
    table = compute_tier(bars, "a200c", vix=random_vix(bars))
    return table.assign(**{name: bars[name] for name in BAR_NAMES})


@pytest.fixture(scope="module")
def long() -> pd.DataFrame:
    return random_bars(4000, seed=2)


@pytest.fixture(scope="module")
def table(long: pd.DataFrame) -> pd.DataFrame:
    return every_column(long)


# units and bounds

GRIDS = {"none": lambda x: x, "64ths": lambda x: (x * 64).round() / 64}
GRIDS |= {"cents": lambda x: x.round(2), "tenths": lambda x: x.round(1)}


def moved(long: pd.DataFrame, columns: list[str], factor: float) -> set[str]:
    """Return the stationary columns that change when the columns of the bars are rescaled."""
    scaled = long.copy()
    scaled[columns] *= factor
    before, after = (drop_warm_up(compute_tier(bars, "a200")) for bars in (long, scaled))
    worst = (after[STATIONARY] - before[STATIONARY]).abs().max()
    return set(worst.index[worst > 1e-9 * before[STATIONARY].std()])


@pytest.mark.parametrize("factor", [7, 0.37])
@pytest.mark.parametrize("grid", GRIDS)
def test_stationary_feature_does_not_depend_on_the_price_unit(
    long: pd.DataFrame, grid: str, factor: float
) -> None:
    # prices on a grid are often equal, and rounding must not decide comparisons
    bars = long.copy()
    bars[PRICES] = GRIDS[grid](bars[PRICES])
    assert moved(bars, PRICES, factor) == set()


@pytest.mark.parametrize("factor", [7, 0.37])
def test_stationary_feature_does_not_depend_on_the_unit_of_volume(
    long: pd.DataFrame, factor: float
) -> None:
    assert moved(long, ["volume"], factor) == set()


def test_unit_check_detects_a_price_among_the_stationary_features(
    long: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMULAS, "zscore_20d", "diff(close, 1)")
    monkeypatch.setitem(FORMULAS, "cmf_20", "obv")
    assert moved(long, PRICES, 7) == {"zscore_20d"}
    assert moved(long, ["volume"], 7) == {"cmf_20"}


@pytest.mark.parametrize("name", [*LEVEL, *BAR_NAMES])
def test_level_feature_scales_with_its_unit(
    long: pd.DataFrame, sevenfold: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame, name: str
) -> None:
    prices, volumes = sevenfold
    in_shares = name in [*COUNTED_IN_SHARES, "volume"]
    by_price, by_volume = (1, 7) if in_shares else (7, 1)
    tolerance = {"rtol": 1e-9, "atol": 1e-9 * table[name].std()}
    np.testing.assert_allclose(prices[name], by_price * table[name], **tolerance)
    np.testing.assert_allclose(volumes[name], by_volume * table[name], **tolerance)


@pytest.fixture(scope="module")
def sevenfold(long: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of bars with sevenfold prices and of bars with sevenfold volumes."""
    prices, volumes = long.copy(), long.copy()
    prices[PRICES] *= 7
    volumes["volume"] *= 7
    return every_column(prices), every_column(volumes)


def z(n: int) -> tuple[float, float]:
    """Return the bounds of a z-score of n values."""
    return -(n - 1) / n**0.5, (n - 1) / n**0.5


INF = np.inf
BOUNDS: dict[tuple[float, float], str] = {
    (0, 100): """rsi_daily rsi_weekly stochrsi_daily stochrsi_weekly adx_14 qqe_fast qqe_slow
        stc_value stoch_k_14 stoch_d_14 mfi_14 atr_pct_percentile_60d bb_width_percentile_60d
        win_rate_20d rsi_percentile_60d rsi_5 rsi_21 percentile_in_252d_range
        volume_percentile_20d upper_wick_pct lower_wick_pct gap_fill_pct
        atr_regime_percentile_252d adx_percentile_60d vix_percentile_60d""",
    (-100, 100): """qqe_fast_slow_spread rsi_slope qqe_slope stc_slope adx_slope di_spread
        aroon_oscillator price_rsi_divergence price_obv_divergence""",
    (0, 40): "rsi_extreme_dist",
    (0, 30): "qqe_extreme_dist stoch_extreme_dist",
    (0, 25): "stc_extreme_dist",
    (0, 1): """demarker_value buying_pressure_ratio fib_range_position donchian_position
        bb_squeeze body_to_range_ratio up_down_volume_ratio_20d permutation_entropy_3
        permutation_entropy_4 permutation_entropy_5""",
    (-1, 1): """supertrend_direction volume_price_confluence high_volume_direction_bias cmf_20
        autocorr_lag1_20d day_of_week_sin day_of_week_cos month_sin month_cos""",
    (0, 2): "vix_regime",
    (0, 4): "volume_ma_ratio_5_20 range_compression_5d",
    (0, 20): "volume_ratio_20d range_vs_avg_range up_days_ratio_20d",
    (0, 22): "sessions_to_month_end",
    (0, 251): "days_since_252d_high days_since_252d_low",
    z(20): "zscore_20d volume_zscore_20d kvo_histogram_z vix_zscore_20d",
    z(50): "zscore_50d",
    z(60): "volume_price_trend_z accumulation_dist_z",
    (0.5 - 19**0.5 / 4, 0.5 + 19**0.5 / 4): "bb_percent_b",
    (0.5 - 49**0.5 / 4, 0.5 + 49**0.5 / 4): "linreg_channel_position",
    (-INF, 0): "prior_high_20d_dist",
    (0, INF): """prior_low_20d_dist atr_pct bb_width rv_5d rv_10d rv_21d rv_ratio_10_60 range_pct
        parkinson_volatility garman_klass_volatility rogers_satchell_volatility
        yang_zhang_volatility vol_of_vol days_since_sma_50_cross days_since_sma_200_cross
        days_since_macd_cross bb_squeeze_duration days_rsi_overbought days_rsi_oversold
        inside_day_run cloud_thickness_pct donchian_width_pct keltner_width
        vix_close vix_sma_10 vix_sma_20 implied_vs_realized""",
    (-100, INF): """return_1d return_5d return_21d return_63d return_252d var_95 var_99 cvar_95
        expectancy_20d overnight_gap open_to_close_pct price_pct_from_sma_50
        price_pct_from_sma_200 sma_50_200_proximity sma_9_50_proximity sma_50_slope_pct
        sma_200_slope_pct price_pct_from_supertrend tema_20_slope_pct price_pct_from_tema_50
        price_pct_from_kama_20 price_pct_from_ema_9 price_pct_from_ema_50 price_pct_from_sma_5
        price_pct_from_sma_21 tema_20_sma_50_proximity kama_20_sma_50_proximity
        sma_9_200_proximity sma_63_200_proximity pct_from_upper_band pct_from_lower_band
        pct_from_vwap_20 volume_trend_5d vix_change_1d_pct vix_change_5d_pct""",
}
UNBOUNDED = words("""sharpe_20d sharpe_60d sortino_20d sortino_60d sharpe_252d sortino_252d
    sharpe_slope_20d sortino_slope_20d return_1d_acceleration return_5d_acceleration
    atr_pct_slope cci_14 rv_slope obv_slope macd_histogram_slope emv_14 tenkan_kijun_spread
    price_vs_cloud keltner_position hurst_60d vrp_5d vrp_10d vrp_21d vrp_slope
    days_above_sma_9 days_above_sma_50 days_above_sma_200 days_above_tema_20 days_above_kama_20
    days_above_vwma_20 bars_since_sma_9_50_cross bars_since_sma_50_200_cross
    bars_since_tema_20_sma_50_cross bars_since_kama_20_sma_50_cross bars_since_sma_9_200_cross
    bars_since_ema_9_50_cross days_outside_band consecutive_days volume_run""")
BOUNDED = {name: bounds for bounds, names in BOUNDS.items() for name in names.split()}
COUNTS = [
    *[name for name in UNBOUNDED if name.startswith(("days_", "bars_"))],
    *[name for name in BOUNDED if name.startswith("days_")],
    *words("consecutive_days volume_run bb_squeeze_duration inside_day_run sessions_to_month_end"),
]


def test_every_stationary_feature_has_its_bounds_or_none() -> None:
    assert sorted([*BOUNDED, *UNBOUNDED]) == sorted([*STATIONARY, *VIX_NAMES])


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_feature_stays_within_its_bounds(table: pd.DataFrame, name: str) -> None:
    low, high = BOUNDED[name]
    values = table[name].dropna()
    assert values.min() >= low - 1e-9
    assert values.max() <= high + 1e-9


@pytest.mark.parametrize("name", [*STATIONARY, *VIX_NAMES])
def test_feature_moves(table: pd.DataFrame, name: str) -> None:
    low, high = BOUNDED.get(name, (-INF, INF))
    values = table[name].dropna()
    assert values.nunique() > 1
    if np.isfinite(high - low):  # bounds far from all values would test nothing
        assert values.max() - values.min() > 0.05 * (high - low)


@pytest.mark.parametrize("name", COUNTS)
def test_count_is_whole_and_counts_by_one(table: pd.DataFrame, name: str) -> None:
    values = table[name].dropna().to_numpy()
    assert (values == values.round()).all()
    if name == "sessions_to_month_end":
        return
    # a count grows by one or begins again
    longer = np.abs(values[1:]) > np.abs(values[:-1])
    grown = np.abs(values[1:]) == np.abs(values[:-1]) + 1
    begun = np.abs(values[1:]) <= 1
    older = name.startswith("days_since_252d") | begun | grown
    assert (older | ~longer).all()
    assert longer.any()


@pytest.mark.parametrize(
    ("name", "values"),
    [("supertrend_direction", {-1, 1}), ("vix_regime", {0, 1, 2}), ("bb_squeeze", {0, 1})],
)
def test_feature_has_only_these_values(table: pd.DataFrame, name: str, values: set[int]) -> None:
    assert set(table[name].dropna()) == values


@pytest.mark.parametrize("vix", [14.99, 15.0, 24.99, 25.0])
def test_regime_begins_at_15_and_at_25(vix: float) -> None:
    bars = random_bars(1)
    index = pd.DataFrame({"date": bars["date"], "close": [vix]})
    expected = {14.99: 0.0, 15.0: 1.0, 24.99: 1.0, 25.0: 2.0}[vix]
    assert compute_tier(bars, "a20c", vix=index)["vix_regime"].tolist() == [expected]


AVERAGES = {
    "sma_12": 12,
    "sma_50": 50,
    "sma_100": 100,
    "sma_200": 200,
    "vwap_20": 20,
    "wma_10": 10,
    "wma_20": 20,
    "wma_50": 50,
    "wma_200": 200,
}


@pytest.mark.parametrize("name", AVERAGES)
def test_average_stays_within_the_closes_it_averages(
    long: pd.DataFrame, table: pd.DataFrame, name: str
) -> None:
    closes = long["close"].rolling(AVERAGES[name])
    known = table[name].notna()
    assert (table[name] >= closes.min() - 1e-9)[known].all()
    assert (table[name] <= closes.max() + 1e-9)[known].all()


# copies


def copies(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return pairs of affine copies; levels, which all follow the price, by their changes."""
    kept = table.iloc[WARM_UP:].drop(columns="date")
    levels = [name for name in kept if name in [*LEVEL, *BAR_NAMES]]
    kept[levels] = kept[levels].diff()
    same = kept.iloc[1:].corr().abs().to_numpy() > 0.9999
    pairs = combinations(range(len(kept.columns)), 2)
    return [(kept.columns[i], kept.columns[j]) for i, j in pairs if same[i, j]]


def test_no_column_is_an_affine_copy_of_another(table: pd.DataFrame) -> None:
    assert copies(table) == []


def test_affine_copies_are_found(table: pd.DataFrame) -> None:
    doubled = table.assign(
        rsi_ratio=0.5 - table["rsi_daily"] / 50,  # an affine copy
        wma_200=1000 - 2 * table["sma_50"] + np.random.default_rng(0).normal(0, 1e-4, len(table)),
    )
    assert copies(doubled) == [("sma_50", "wma_200"), ("rsi_daily", "rsi_ratio")]
