"""Tables of the feature tiers: columns, order, kinds and warm-up."""

import pytest

from patchscale.features.tiers import A200, BAR, SCALE, TIERS, VIX, WARM_UP, tier_features
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

BAR_NAMES = words("open high low close volume")
SCALE_NAMES = words("log_atr_pct log_rv_21d")
LEVEL = words("""
dema_9 dema_10 sma_12 dema_20 dema_25 sma_50 dema_90 sma_100 sma_200 macd_line obv adosc atr_14
vwap_20 kvo_signal macd_histogram ema_12 ema_26
tema_9 tema_20 tema_50 tema_100 wma_10 wma_20 wma_50 wma_200 kama_10 kama_20 kama_50
hma_9 hma_21 hma_50 vwma_10 vwma_20 vwma_50 macd_signal
""")
PLAIN = {
    "a20": A20_NAMES,
    "a25": A20_NAMES + BAR_NAMES,
    "a50": A20_NAMES + A50_NAMES,
    "a100": A20_NAMES + A50_NAMES + A100_NAMES,
    "a200": A20_NAMES + A50_NAMES + A100_NAMES + A200_NAMES,
}
PLAIN = {tier: SCALE_NAMES + names for tier, names in PLAIN.items()}
COLUMNS = PLAIN | {f"{tier}c": names + VIX_NAMES for tier, names in PLAIN.items()}


@pytest.mark.parametrize("tier", COLUMNS)
def test_tier_has_exactly_its_columns(tier: str) -> None:
    assert [feature.name for feature in TIERS[tier]] == COLUMNS[tier]


def test_there_are_ten_tiers() -> None:
    assert set(TIERS) == {
        f"{tier}{c}" for tier in ["a20", "a25", "a50", "a100", "a200"] for c in ["", "c"]
    }


@pytest.mark.parametrize("tier", TIERS)
def test_tier_is_as_large_as_its_name_and_the_two_of_scale(tier: str) -> None:
    names = {feature.name for feature in TIERS[tier]}
    assert len(names) == len(TIERS[tier]) == 2 + int(tier.strip("ac")) + 13 * tier.endswith("c")


@pytest.mark.parametrize(
    ("narrow", "wide"), [("a20", "a25"), ("a20", "a50"), ("a50", "a100"), ("a100", "a200")]
)
def test_tier_begins_with_the_narrower_one(narrow: str, wide: str) -> None:
    assert TIERS[wide][: len(TIERS[narrow])] == TIERS[narrow]


@pytest.mark.parametrize("tier", ["a20", "a25", "a50", "a100", "a200"])
def test_tier_with_volatility_index_ends_with_its_13_columns(tier: str) -> None:
    assert TIERS[f"{tier}c"] == TIERS[tier] + VIX
    assert [feature.name for feature in VIX] == VIX_NAMES


def test_unknown_tier_is_refused_with_the_known_ones() -> None:
    message = r"features\.tier: 'a30' is unknown; allowed: a20, a25, a50, a100, a200, a20c"
    with pytest.raises(InputError, match=message):
        tier_features("a30")


def test_kinds_are_those_of_the_study() -> None:
    levels = [feature.name for feature in A200 if feature.kind == "level"]
    assert levels == LEVEL
    assert {feature.kind for feature in BAR} == {"level"}
    assert {feature.kind for feature in VIX + SCALE} == {"stationary"}


def test_widest_warm_up_is_that_of_tema_100() -> None:
    widest = max(A200 + BAR + VIX, key=lambda feature: feature.warm_up)
    assert (widest.name, widest.warm_up) == ("tema_100", 297)
    assert WARM_UP == 297
