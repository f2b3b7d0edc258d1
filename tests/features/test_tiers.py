"""The tiers: their columns, warm-up, bounds, units, weeks and calendar."""

from inspect import isfunction
from itertools import combinations

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from reference import random_vix

from patchscale.bars import PRICES
from patchscale.features import catalogue, indicators, rolling
from patchscale.features.formulas import (
    CALENDAR,
    FORMULAS,
    SHARED,
    Bars,
    compute_tier,
    drop_warm_up,
)
from patchscale.features.tiers import A200, BAR, TIERS, VIX, WARM_UP, Feature, tier_features
from patchscale.study.errors import InputError


def words(text: str) -> list[str]:
    return text.split()


A20_NAMES = words("""
dema_9 dema_10 sma_12 dema_20 dema_25 sma_50 dema_90 sma_100 sma_200
rsi_daily rsi_weekly stochrsi_daily stochrsi_weekly macd_line obv adosc atr_14 adx_14
bb_percent_b vwap_20
""")

A50_NAMES = words("""
return_1d return_5d return_21d return_63d return_252d
qqe_fast qqe_slow qqe_fast_slow_spread stc_value
sharpe_20d sharpe_60d sortino_20d sortino_60d rsi_slope rsi_extreme_dist
price_pct_from_sma_50 price_pct_from_sma_200 sma_50_200_proximity
atr_pct atr_pct_slope bb_width overnight_gap open_to_close_pct volume_ratio_20d
kvo_signal macd_histogram rv_10d rv_21d rv_ratio_10_60 range_pct
""")

A100_NAMES = words("""
return_1d_acceleration return_5d_acceleration qqe_slope qqe_extreme_dist stc_slope
stc_extreme_dist demarker_value stoch_k_14 stoch_d_14 stoch_extreme_dist cci_14 mfi_14
rv_5d rv_slope sharpe_252d sortino_252d sharpe_slope_20d sortino_slope_20d
var_95 var_99 cvar_95 sma_9_50_proximity sma_50_slope_pct sma_200_slope_pct
days_since_sma_50_cross days_since_sma_200_cross ema_12 ema_26
atr_pct_percentile_60d bb_width_percentile_60d parkinson_volatility garman_klass_volatility
vol_of_vol adx_slope di_spread aroon_oscillator price_pct_from_supertrend supertrend_direction
obv_slope volume_price_trend_z kvo_histogram_z accumulation_dist_z expectancy_20d win_rate_20d
buying_pressure_ratio fib_range_position prior_high_20d_dist prior_low_20d_dist
rogers_satchell_volatility yang_zhang_volatility
""")

A200_NAMES = words("""
tema_9 tema_20 tema_50 tema_100 wma_10 wma_20 wma_50 wma_200 kama_10 kama_20 kama_50
hma_9 hma_21 hma_50 vwma_10 vwma_20 vwma_50 tema_20_slope_pct
price_pct_from_tema_50 price_pct_from_kama_20 price_pct_from_ema_9 price_pct_from_ema_50
price_pct_from_sma_5 price_pct_from_sma_21 days_above_sma_9 days_above_sma_50 days_above_sma_200
days_above_tema_20 days_above_kama_20 days_above_vwma_20 bars_since_sma_9_50_cross
bars_since_sma_50_200_cross bars_since_tema_20_sma_50_cross bars_since_kama_20_sma_50_cross
bars_since_sma_9_200_cross bars_since_ema_9_50_cross tema_20_sma_50_proximity
kama_20_sma_50_proximity sma_9_200_proximity sma_63_200_proximity
pct_from_upper_band pct_from_lower_band days_outside_band bb_squeeze bb_squeeze_duration
days_rsi_overbought days_rsi_oversold rsi_percentile_60d rsi_5 rsi_21 zscore_20d zscore_50d
percentile_in_252d_range days_since_252d_high days_since_252d_low consecutive_days
up_days_ratio_20d range_compression_5d
macd_signal macd_histogram_slope days_since_macd_cross volume_trend_5d volume_run
volume_price_confluence high_volume_direction_bias volume_zscore_20d volume_percentile_20d
cmf_20 emv_14 volume_ma_ratio_5_20 up_down_volume_ratio_20d pct_from_vwap_20
autocorr_lag1_20d body_to_range_ratio upper_wick_pct lower_wick_pct range_vs_avg_range
gap_fill_pct inside_day_run day_of_week_sin day_of_week_cos month_sin month_cos
sessions_to_month_end
tenkan_kijun_spread price_vs_cloud cloud_thickness_pct donchian_position donchian_width_pct
keltner_position keltner_width linreg_channel_position
price_rsi_divergence price_obv_divergence permutation_entropy_3 permutation_entropy_4
permutation_entropy_5 hurst_60d atr_regime_percentile_252d adx_percentile_60d
""")

VIX_NAMES = words("""
vix_close vix_sma_10 vix_sma_20 vix_percentile_60d vix_zscore_20d vix_regime vix_change_1d_pct
vix_change_5d_pct vrp_5d vrp_10d vrp_21d vrp_slope implied_vs_realized
""")

BAR_NAMES = [*PRICES, "volume"]
LEVEL = words("""
dema_9 dema_10 sma_12 dema_20 dema_25 sma_50 dema_90 sma_100 sma_200 macd_line obv adosc atr_14
vwap_20 kvo_signal macd_histogram ema_12 ema_26
tema_9 tema_20 tema_50 tema_100 wma_10 wma_20 wma_50 wma_200 kama_10 kama_20 kama_50
hma_9 hma_21 hma_50 vwma_10 vwma_20 vwma_50 macd_signal
""")
COUNTED_IN_SHARES = ["obv", "adosc", "kvo_signal"]
PLAIN = {
    "a20": A20_NAMES,
    "a25": A20_NAMES + BAR_NAMES,
    "a50": A20_NAMES + A50_NAMES,
    "a100": A20_NAMES + A50_NAMES + A100_NAMES,
    "a200": A20_NAMES + A50_NAMES + A100_NAMES + A200_NAMES,
}
COLUMNS = PLAIN | {f"{tier}c": names + VIX_NAMES for tier, names in PLAIN.items()}

EVERY = A200 + BAR + VIX
STATIONARY = [feature.name for feature in A200 if feature.kind == "stationary"]


def every_column(bars: pd.DataFrame) -> pd.DataFrame:
    table = compute_tier(bars, "a200c", vix=random_vix(bars))
    return table.assign(**{name: bars[name] for name in BAR_NAMES})


@pytest.fixture(scope="module")
def long() -> pd.DataFrame:
    return random_bars(4000, seed=2)


@pytest.fixture(scope="module")
def table(long: pd.DataFrame) -> pd.DataFrame:
    return every_column(long)


# columns and names


def test_there_are_ten_tiers() -> None:
    assert set(TIERS) == {
        f"{tier}{c}" for tier in ["a20", "a25", "a50", "a100", "a200"] for c in ["", "c"]
    }


@pytest.mark.parametrize("tier", COLUMNS)
def test_tier_holds_its_dates_and_exactly_its_columns(bars: pd.DataFrame, tier: str) -> None:
    found = compute_tier(bars, tier, vix=random_vix(bars))
    assert list(found.columns) == ["date", *COLUMNS[tier]]
    assert found["date"].tolist() == bars["date"].tolist()
    assert found.drop(columns="date").dtypes.eq(float).all()


@pytest.mark.parametrize("tier", TIERS)
def test_tier_is_as_large_as_its_name(tier: str) -> None:
    names = {feature.name for feature in TIERS[tier]}
    assert len(names) == len(TIERS[tier]) == int(tier.strip("ac")) + 13 * tier.endswith("c")


@pytest.mark.parametrize(
    ("narrow", "wide"), [("a20", "a25"), ("a20", "a50"), ("a50", "a100"), ("a100", "a200")]
)
def test_tier_begins_with_the_narrower_one(narrow: str, wide: str) -> None:
    assert TIERS[wide][: len(TIERS[narrow])] == TIERS[narrow]


@pytest.mark.parametrize("tier", ["a20", "a25", "a50", "a100", "a200"])
def test_tier_with_volatility_index_ends_with_its_13_columns(tier: str) -> None:
    assert TIERS[f"{tier}c"] == TIERS[tier] + VIX
    assert [feature.name for feature in VIX] == VIX_NAMES


def test_column_is_the_same_in_every_tier(bars: pd.DataFrame) -> None:
    vix = random_vix(bars)
    whole = compute_tier(bars, "a200c", vix=vix)
    for tier, names in COLUMNS.items():
        shared = [name for name in names if name in whole]
        found = compute_tier(bars, tier, vix=vix)
        pd.testing.assert_frame_equal(found[shared], whole[shared], check_exact=True)


@pytest.mark.parametrize("name", BAR_NAMES)
def test_bar_columns_are_the_bars(bars: pd.DataFrame, name: str) -> None:
    assert compute_tier(bars, "a25")[name].tolist() == bars[name].tolist()


def test_unknown_tier_is_refused_with_the_known_ones(bars: pd.DataFrame) -> None:
    said = r"features\.tier: 'a30' is unknown; allowed: a20, a25, a50, a100, a200, a20c"
    with pytest.raises(InputError, match=said):
        tier_features("a30")
    with pytest.raises(InputError, match=said):
        compute_tier(bars, "a30")


@pytest.mark.parametrize("tier", ["a20c", "a25c", "a50c", "a100c", "a200c"])
def test_tier_with_volatility_index_is_refused_where_there_is_none(
    bars: pd.DataFrame, tier: str
) -> None:
    with pytest.raises(InputError, match=rf"features\.tier: '{tier}' needs a volatility index"):
        compute_tier(bars, tier)


def test_labels_and_dividends_are_no_features(bars: pd.DataFrame) -> None:
    found = compute_tier(bars.assign(label=1.0), "a200")
    assert not {"label", "dividends", "splits"} & set(found.columns)


def test_computation_changes_neither_the_bars_nor_the_index(bars: pd.DataFrame) -> None:
    before, vix = bars.copy(), random_vix(bars)
    index = vix.copy()
    compute_tier(bars, "a200c", vix=vix)
    pd.testing.assert_frame_equal(bars, before)
    pd.testing.assert_frame_equal(vix, index)


def test_kinds_are_those_of_the_study() -> None:
    levels = [feature.name for feature in A200 if feature.kind == "level"]
    assert levels == LEVEL
    assert {feature.kind for feature in BAR} == {"level"}
    assert {feature.kind for feature in VIX} == {"stationary"}


# the catalogue

FUNCTIONS = {
    name
    for module in (rolling, indicators)
    for name, value in vars(module).items()
    if isfunction(value)
} | set(words("abs sqrt log sin cos minimum maximum where clip last_week"))
INPUTS = {*BAR_NAMES, "vix", "pi", *CALENDAR}


def names_in(formula: str) -> set[str]:
    return set(compile(formula, formula, "eval").co_names)


def test_catalogue_declares_every_name_once() -> None:
    declared = [line.split()[0] for line in catalogue.SHARED.strip().splitlines()]
    declared += [feature.name for feature in A200 + VIX]
    assert sorted(set(declared)) == sorted(declared)
    assert set(declared) == set(FORMULAS)


def test_series_have_no_name_of_a_function_or_an_input() -> None:
    assert set(FORMULAS) & (FUNCTIONS | INPUTS) == set()
    assert not INPUTS & FUNCTIONS


def test_formulas_use_names_that_exist() -> None:
    known = FUNCTIONS | INPUTS | set(FORMULAS)
    unknown = {name: names_in(formula) - known for name, formula in FORMULAS.items()}
    assert {name: names for name, names in unknown.items() if names} == {}


def test_shared_series_and_functions_are_all_used() -> None:
    used = set().union(*(names_in(formula) for formula in FORMULAS.values()))
    assert set(SHARED) - used == set()
    public = {name for name in vars(indicators) if name in FUNCTIONS and not name.startswith("_")}
    assert public - set(vars(rolling)) - used == set()


def test_only_features_of_the_index_read_the_index() -> None:
    def reads(formula: str) -> set[str]:
        direct = names_in(formula)
        return direct.union(*(reads(FORMULAS[name]) for name in direct & set(FORMULAS)))

    assert {name for name, formula in FORMULAS.items() if "vix" in reads(formula)} == set(VIX_NAMES)


# warm-up


@pytest.fixture(scope="module")
def from_monday() -> pd.DataFrame:
    return every_column(random_bars(340, start="2000-01-03"))


@pytest.fixture(scope="module")
def from_friday() -> pd.DataFrame:
    return every_column(random_bars(340, start="2000-01-07"))


@pytest.mark.parametrize("feature", EVERY, ids=lambda feature: feature.name)
def test_declared_warm_up_is_that_of_the_values(
    from_monday: pd.DataFrame, from_friday: pd.DataFrame, feature: Feature
) -> None:
    # weekly features start a week earlier where the first week is one Friday
    early = 5 if "weekly" in feature.name else 0
    for found in (from_monday[feature.name], from_friday[feature.name]):
        known = np.isfinite(found.to_numpy())
        actual = int(known.argmax())
        assert actual <= feature.warm_up <= actual + early
        assert known[actual:].all()
        assert found[:actual].isna().all()


def test_widest_warm_up_is_that_of_tema_100() -> None:
    widest = max(EVERY, key=lambda feature: feature.warm_up)
    assert (widest.name, widest.warm_up) == ("tema_100", 297)
    assert WARM_UP == 297


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_drops_the_same_rows(bars: pd.DataFrame, tier: str) -> None:
    whole = compute_tier(bars, tier, vix=random_vix(bars))
    kept = drop_warm_up(whole)
    assert kept["date"].tolist() == bars["date"].tolist()[297:]
    pd.testing.assert_frame_equal(kept, whole.iloc[297:].reset_index(drop=True))
    assert np.isfinite(kept.drop(columns="date")).all(axis=None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["dema_9", "vwap_20", "implied_vs_realized"])
def test_value_missing_after_the_warm_up_is_refused_with_column_and_date(
    bars: pd.DataFrame, name: str, value: float
) -> None:
    wrong = compute_tier(bars, "a20c", vix=random_vix(bars))
    wrong.loc[[700, 650], name] = value
    day = wrong.loc[650, "date"]
    said = rf"features: {name} has no value on {day:%Y-%m-%d} \(2 of {len(bars) - 297} days\)"
    with pytest.raises(InputError, match=said):
        drop_warm_up(wrong)


@pytest.mark.parametrize("rows", [0, 1, 5, 100, 297])
@pytest.mark.parametrize("tier", ["a20", "a25c", "a100c", "a200c"])
def test_short_history_is_all_warm_up(rows: int, tier: str) -> None:
    bars = random_bars(400).head(rows)
    found = compute_tier(bars, tier, vix=random_vix(bars))
    assert len(found) == rows
    for feature in TIERS[tier]:
        assert found[feature.name].isna().all() or feature.warm_up < rows, feature.name
        assert found[feature.name][feature.warm_up :].notna().all(), feature.name
    kept = drop_warm_up(found)
    assert len(kept) == 0
    assert list(kept.columns) == ["date", *COLUMNS[tier]]


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
def test_stationary_feature_does_not_know_the_price_unit(
    long: pd.DataFrame, grid: str, factor: float
) -> None:
    # on a grid of prices many comparisons tie exactly, and rounding would decide them
    bars = long.copy()
    bars[PRICES] = GRIDS[grid](bars[PRICES])
    assert moved(bars, PRICES, factor) == set()


@pytest.mark.parametrize("factor", [7, 0.37])
def test_stationary_feature_does_not_know_the_unit_of_volume(
    long: pd.DataFrame, factor: float
) -> None:
    assert moved(long, ["volume"], factor) == set()


def test_unit_check_sees_a_price_among_the_stationary_features(
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
    """Return the tables of the bars at seven times the price and at seven times the volume."""
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
    if np.isfinite(high - low):  # a bound far from every value would bound nothing
        assert values.max() - values.min() > 0.05 * (high - low)


@pytest.mark.parametrize("name", COUNTS)
def test_count_is_whole_and_counts_by_one(table: pd.DataFrame, name: str) -> None:
    values = table[name].dropna().to_numpy()
    assert (values == values.round()).all()
    if name == "sessions_to_month_end":
        return
    # a run or an age grows by one or begins anew
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


# twins


def twins(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs that are affine copies; levels by their changes, all follow the price."""
    kept = table.iloc[WARM_UP:].drop(columns="date")
    levels = [name for name in kept if name in [*LEVEL, *BAR_NAMES]]
    kept[levels] = kept[levels].diff()
    same = kept.iloc[1:].corr().abs().to_numpy() > 0.9999
    pairs = combinations(range(len(kept.columns)), 2)
    return [(kept.columns[i], kept.columns[j]) for i, j in pairs if same[i, j]]


def test_no_two_columns_are_twins(table: pd.DataFrame) -> None:
    assert twins(table) == []


def test_twins_are_found(table: pd.DataFrame) -> None:
    doubled = table.assign(
        rsi_ratio=0.5 - table["rsi_daily"] / 50,  # an affine copy
        wma_200=1000 - 2 * table["sma_50"] + np.random.default_rng(0).normal(0, 1e-4, len(table)),
    )
    assert twins(doubled) == [("sma_50", "wma_200"), ("rsi_daily", "rsi_ratio")]


# weeks

WEEKS = {
    # days of one month with their closes, and the last week's close as known on each of them
    "whole weeks": (
        "2001-08-20 2001-08-21 2001-08-24 2001-08-27 2001-08-31 2001-09-10",
        [1, 2, 3, 4, 5, 6],
        [None, None, None, 3, 3, 5],
    ),
    "Monday holiday": (  # Labor Day on 3 September
        "2001-08-30 2001-08-31 2001-09-04 2001-09-05 2001-09-06 2001-09-07 2001-09-10",
        [1, 2, 3, 4, 5, 6, 7],
        [None, None, 2, 2, 2, 2, 6],
    ),
    "Friday holiday": (  # Good Friday on 13 April
        "2001-04-05 2001-04-06 2001-04-09 2001-04-10 2001-04-11 2001-04-12 2001-04-16 2001-04-17",
        [1, 2, 3, 4, 5, 6, 7, 8],
        [None, None, 2, 2, 2, 2, 6, 6],
    ),
    "Friday and Monday holiday": (  # Good Friday on 13, Easter Monday on 16 April
        "2001-04-11 2001-04-12 2001-04-17 2001-04-20 2001-04-23",
        [1, 2, 3, 4, 5],
        [None, None, 2, 2, 4],
    ),
    "week of 2001-09-11": (  # trading on Monday only
        "2001-09-06 2001-09-07 2001-09-10 2001-09-17 2001-09-18 2001-09-21 2001-09-24",
        [1, 2, 3, 4, 5, 6, 7],
        [None, None, 2, 3, 3, 3, 6],
    ),
    "one session on a Wednesday": (
        "2001-09-27 2001-09-28 2001-10-03 2001-10-08 2001-10-12 2001-10-15",
        [1, 2, 3, 4, 5, 6],
        [None, None, 2, 3, 3, 5],
    ),
    "a week without a session": (
        "2001-09-06 2001-09-07 2001-09-17 2001-09-18 2001-09-24",
        [1, 2, 3, 4, 5],
        [None, None, 2, 2, 4],
    ),
    "a session on Saturday and one on Sunday": (
        "2001-09-07 2001-09-08 2001-09-10 2001-09-16 2001-09-17",
        [1, 2, 3, 4, 5],
        [None, None, 2, 2, 4],
    ),
    "over the end of a year": (
        "2001-12-28 2001-12-31 2002-01-02 2002-01-04 2002-01-07",
        [1, 2, 3, 4, 5],
        [None, 1, 1, 1, 4],
    ),
}


def with_closes(days: list[str], closes: list[float]) -> Bars:
    bars = pd.DataFrame({"date": pd.to_datetime(days), "volume": 1.0})
    return Bars(bars.assign(**{name: np.array(closes, dtype=float) for name in PRICES}), "XNYS")


@pytest.mark.parametrize("case", WEEKS)
def test_day_knows_the_last_week_that_closed_before_its_own(case: str) -> None:
    days, closes, expected = WEEKS[case]
    bars = with_closes(days.split(), closes)
    known = bars.last_week(bars["weekly_close"])
    assert [None if np.isnan(value) else value for value in known] == expected


@pytest.mark.parametrize("case", WEEKS)
def test_indicator_of_weeks_is_known_as_the_week_is(case: str) -> None:
    # the change from one weekly close to the next
    days, closes, expected = WEEKS[case]
    bars = with_closes(days.split(), closes)
    known = bars.last_week(rolling.diff(bars["weekly_close"], 1))
    ends = sorted({value for value in expected if value is not None})
    change = dict(zip(ends[1:], np.diff(ends), strict=True))
    assert [None if np.isnan(value) else value for value in known] == [
        change.get(value) for value in expected
    ]


def test_weekly_close_is_that_of_each_weeks_last_session() -> None:
    days, closes, _ = WEEKS["week of 2001-09-11"]
    assert with_closes(days.split(), closes)["weekly_close"].tolist() == [2, 3, 6, 7]


# calendar


def left(days: list[str], calendar: str = "XNYS") -> list[float]:
    bars = random_bars(len(days)).assign(date=pd.to_datetime(days))
    return compute_tier(bars, "a200", calendar)["sessions_to_month_end"].tolist()


@pytest.mark.parametrize(
    ("day", "sessions"),
    [
        ("1997-01-17", 10),  # before Martin Luther King Day was a holiday, 20-24 and 27-31
        ("1998-01-16", 9),  # and since
        ("2001-08-31", 0),
        ("2001-09-04", 18),  # 5-7, 10-14, 17-21, 24-28: the closure of 11-14 was not scheduled
        ("2001-09-10", 14),
        ("2001-09-17", 9),
        ("2001-09-28", 0),
        ("2018-03-28", 1),
        ("2018-03-29", 0),  # Good Friday ends the month
        ("2018-12-03", 19),  # without Christmas; the day of mourning on the 5th was not scheduled
        ("2018-12-24", 4),
        ("2018-12-31", 0),
        ("2020-07-02", 20),  # Independence Day was kept on Friday the 3rd
        ("2021-06-18", 8),  # before Juneteenth was a holiday, 21-25 and 28-30
        ("2021-12-23", 5),  # Christmas was kept on Friday the 24th
        ("2021-12-31", 0),  # and New Year's Day, a Saturday, not at all
        ("2022-06-17", 8),  # 21-24 and 27-30
        ("2023-11-22", 5),  # Thanksgiving
        ("2024-02-28", 1),
        ("2024-03-01", 19),
        ("2024-03-28", 0),  # Good Friday
    ],
)
def test_sessions_to_month_end_are_those_of_the_published_schedule(day: str, sessions: int) -> None:
    assert left([day]) == [sessions]


def test_sessions_to_month_end_count_down_by_one_a_session() -> None:
    days = exchange_calendars.get_calendar("XNYS").sessions_in_range("2009-01-02", "2011-12-30")
    found = np.array(left([f"{day:%Y-%m-%d}" for day in days]))
    ends = np.append(days.month[1:] != days.month[:-1], True)
    assert (found[ends] == 0).all()
    assert (found[:-1][~ends[:-1]] == found[1:][~ends[:-1]] + 1).all()
    assert found.max() == 22


def test_sessions_to_month_end_do_not_depend_on_later_rows() -> None:
    days = ["2001-08-31", "2001-09-04", "2001-09-10", "2001-09-17", "2001-12-31"]
    whole = left(days)
    for rows in range(1, 5):
        assert left(days[:rows]) == whole[:rows]
    assert left(["2001-09-10", "2001-09-17"])[0] == whole[2]


def test_sessions_to_month_end_are_those_of_the_data_sets_exchange() -> None:
    assert left(["2024-12-24"], "XNYS") == [4.0]  # 26, 27, 30, 31
    assert left(["2024-12-24"], "XLON") == [3.0]  # without Boxing Day
    assert left(["2024-12-24"], "24/7") == [7.0]


def test_calendar_features_are_angles_of_the_week_and_the_year() -> None:
    # Monday 2001-01-01 ... Friday, and the first of each month
    days = pd.to_datetime([*pd.bdate_range("2001-01-01", periods=5), pd.Timestamp("2001-04-02")])
    found = compute_tier(random_bars(6).assign(date=days), "a200")
    turn = 2 * np.pi / 5 * np.array([0, 1, 2, 3, 4, 0])
    np.testing.assert_allclose(found["day_of_week_sin"], np.sin(turn), atol=1e-12)
    np.testing.assert_allclose(found["day_of_week_cos"], np.cos(turn), atol=1e-12)
    np.testing.assert_allclose(found["month_sin"], [0] * 5 + [1], atol=1e-12)
    np.testing.assert_allclose(found["month_cos"], [1] * 5 + [0], atol=1e-12)
