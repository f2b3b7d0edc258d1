"""The features, declared as data: name, kind, warm-up and formula, in families.

A formula is an expression of functions of `rolling` and `indicators` and of names: the adjusted bar
(`open`, `high`, `low`, `close`, `volume`), `vix`, the calendar's series (`formulas.CALENDAR`), the
shared series below and other features. Formulas are evaluated by `formulas` and printed in
docs/features.md.

Kind L, `level`: moves with prices or volumes, or accumulates. Kind S, `stationary`: bounded, a
ratio, a percentage, a count or a z-score. The number is the warm-up in sessions. A line that ends
in a colon begins a family. A citation after # is printed together with those in the docstrings of
the functions used.
"""

SHARED = """
typical            (high + low + close) / 3
day_return         close / lag(close, 1) - 1
log_return         log(close / lag(close, 1))
up                 maximum(sign(day_return), 0)
down               maximum(-sign(day_return), 0)
gap                open - lag(close, 1)
gap_filled         where(gap > 0, open - low, high - open)
location           2 * between(close, low, high) - 1  # Chaikin
ease               pct(high + low, 1) * range_pct  # Arms 1989
volume_sma_20      sma(volume, 20)
heavy              sign(maximum(volume - volume_sma_20, 0))
heavy_move         heavy * sign(day_return)
up_volume          up * volume
moved_volume       (up + down) * volume
sma_5              sma(close, 5)
sma_9              sma(close, 9)
sma_20             sma(close, 20)
sma_21             sma(close, 21)
sma_63             sma(close, 63)
ema_9              ema(close, 9)
ema_50             ema(close, 50)
rsi_of_weeks       rsi(weekly_close, 14)
bb_sigma           sqrt(19 / 20) * std(close, 20)  # Bollinger 2001
bb_lower           sma_20 - 2 * bb_sigma
bb_upper           sma_20 + 2 * bb_sigma
keltner_middle     ema(close, 20)  # Keltner 1960
keltner_bottom     keltner_middle - 1.5 * atr(high, low, close, 20)
keltner_top        keltner_middle + 1.5 * atr(high, low, close, 20)
squeeze            minimum(keltner_top - bb_upper, bb_lower - keltner_bottom)
stc_macd           macd(close, 23, 50, 10)[0]
stc_first          ewm(stoch(stc_macd, 10), 3)  # Schaff 1999
demarker_up        sma(maximum(diff(high, 1), 0), 14)  # DeMark 1994
demarker_down      sma(maximum(-diff(low, 1), 0), 14)
kvo_force          volume_force(high, low, close, volume)
kvo                ewm(kvo_force, 34) - ewm(kvo_force, 55)
obv_change         diff(obv, 5)
tenkan             (highest(high, 9) + lowest(low, 9)) / 2  # Hosoda 1969
kijun              (highest(high, 26) + lowest(low, 26)) / 2
cloud_a            lag((tenkan + kijun) / 2, 26)
cloud_b            lag((highest(high, 52) + lowest(low, 52)) / 2, 26)
cloud_top          maximum(cloud_a, cloud_b)
cloud_bottom       minimum(cloud_a, cloud_b)
"""

A20 = """
average:
dema_9                          L  16  dema(close, 9)
dema_10                         L  18  dema(close, 10)
sma_12                          L  11  sma(close, 12)
dema_20                         L  38  dema(close, 20)
dema_25                         L  48  dema(close, 25)
sma_50                          L  49  sma(close, 50)
dema_90                         L 178  dema(close, 90)
sma_100                         L  99  sma(close, 100)
sma_200                         L 199  sma(close, 200)
oscillator:
rsi_daily                       S  14  rsi(close, 14)
rsi_weekly                      S  75  last_week(rsi_of_weeks)
stochrsi_daily                  S  18  stoch(rsi_daily, 5)
stochrsi_weekly                 S  95  last_week(stoch(rsi_of_weeks, 5))
momentum:
macd_line                       L  33  macd(close, 12, 26, 9)[0]
volume:
obv                             L   0  on_balance_volume(close, volume)
adosc                           L   9  ad_oscillator(high, low, close, volume, 3, 10)
volatility:
atr_14                          L  14  atr(high, low, close, 14)
trend:
adx_14                          S  27  adx(high, low, close, 14)
bands:
bb_percent_b                    S  19  between(close, bb_lower, bb_upper)
volume:
vwap_20                         L  19  vwma(close, volume, 20)
"""

SCALE = """
scale:
log_atr_pct                     S  14  log(maximum(atr_pct, 0.001))
log_rv_21d                      S  21  log(maximum(rv_21d, 0.001))
"""

BAR = """
bar:
open                            L   0  open
high                            L   0  high
low                             L   0  low
close                           L   0  close
volume                          L   0  volume
"""

A50 = """
return:
return_1d                       S   1  pct(close, 1)
return_5d                       S   5  pct(close, 5)
return_21d                      S  21  pct(close, 21)
return_63d                      S  63  pct(close, 63)
return_252d                     S 252  pct(close, 252)
oscillator:
qqe_fast                        S  18  ewm(rsi_daily, 5)
qqe_slow                        S  27  ewm(rsi_daily, 14)
qqe_fast_slow_spread            S  27  qqe_fast - qqe_slow
stc_value                       S  80  clip(ewm(stoch(stc_first, 10), 3), 0, 100)
risk:
sharpe_20d                      S  20  sharpe(day_return, 20)
sharpe_60d                      S  60  sharpe(day_return, 60)
sortino_20d                     S  20  sortino(day_return, 20)
sortino_60d                     S  60  sortino(day_return, 60)
oscillator:
rsi_slope                       S  19  diff(rsi_daily, 5)
rsi_extreme_dist                S  14  dist(rsi_daily, 30, 70)
distance:
price_pct_from_sma_50           S  49  pct_from(close, sma_50)
price_pct_from_sma_200          S 199  pct_from(close, sma_200)
sma_50_200_proximity            S 199  pct_from(sma_50, sma_200)
volatility:
atr_pct                         S  14  100 * atr_14 / close
atr_pct_slope                   S  19  diff(atr_pct, 5)
bands:
bb_width                        S  19  100 * (bb_upper - bb_lower) / sma_20
candle:
overnight_gap                   S   1  100 * gap / lag(close, 1)
open_to_close_pct               S   0  100 * (close - open) / open
volume:
volume_ratio_20d                S  19  ratio(volume, volume_sma_20, 1)
kvo_signal                      L  67  ewm(kvo, 13)
momentum:
macd_histogram                  L  33  macd(close, 12, 26, 9)[2]  # Aspray 1986
volatility:
rv_10d                          S  10  volatility(log_return, 10)
rv_21d                          S  21  volatility(log_return, 21)
rv_ratio_10_60                  S  60  ratio(rv_10d, volatility(log_return, 60), 1)
candle:
range_pct                       S   0  100 * (high - low) / close
"""

A100 = """
return:
return_1d_acceleration          S   2  diff(return_1d, 1)
return_5d_acceleration          S   6  diff(return_5d, 1)
oscillator:
qqe_slope                       S  23  diff(qqe_fast, 5)
qqe_extreme_dist                S  18  dist(qqe_fast, 20, 80)
stc_slope                       S  85  diff(stc_value, 5)
stc_extreme_dist                S  80  dist(stc_value, 25, 75)
demarker_value                  S  14  ratio(demarker_up, demarker_up + demarker_down, 0.5)
stoch_k_14                      S  15  sma(100 * place(close, low, high, 14), 3)  # Lane 1984
stoch_d_14                      S  17  sma(stoch_k_14, 3)
stoch_extreme_dist              S  15  dist(stoch_k_14, 20, 80)
cci_14                          S  13  cci(high, low, close, 14)
volume:
mfi_14                          S  14  mfi(high, low, close, volume, 14)
volatility:
rv_5d                           S   5  volatility(log_return, 5)
rv_slope                        S  22  diff(rv_21d, 1)
risk:
sharpe_252d                     S 252  sharpe(day_return, 252)
sortino_252d                    S 252  sortino(day_return, 252)
sharpe_slope_20d                S  21  diff(sharpe_20d, 1)
sortino_slope_20d               S  21  diff(sortino_20d, 1)
var_95                          S  20  quantile(return_1d, 20, 0.05)  # Jorion 1997
var_99                          S  20  quantile(return_1d, 20, 0.01)
cvar_95                         S  20  tail_mean(return_1d, 20, 0.05)  # Rockafellar & Uryasev 2000
distance:
sma_9_50_proximity              S  49  pct_from(sma_9, sma_50)
trend:
sma_50_slope_pct                S  54  pct(sma_50, 5)
sma_200_slope_pct               S 204  pct(sma_200, 5)
duration:
days_since_sma_50_cross         S  49  days_since_cross(close - sma_50)
days_since_sma_200_cross        S 199  days_since_cross(close - sma_200)
average:
ema_12                          L  11  ema(close, 12)
ema_26                          L  25  ema(close, 26)
volatility:
atr_pct_percentile_60d          S  73  rank_below(atr_pct, 60)
bands:
bb_width_percentile_60d         S  78  rank_below(bb_width, 60)
volatility:
parkinson_volatility            S  19  parkinson(high, low, 20)
garman_klass_volatility         S  19  garman_klass(open, high, low, close, 20)
vol_of_vol                      S  24  std(rv_5d, 20)
trend:
adx_slope                       S  32  diff(adx_14, 5)
di_spread                       S  14  di(high, low, close, 14)
aroon_oscillator                S  25  aroon(high, low, 25)
price_pct_from_supertrend       S  10  pct_from(close, supertrend(high, low, close, 10, 3)[0])
supertrend_direction            S  10  supertrend(high, low, close, 10, 3)[1]
volume:
obv_slope                       S  24  ratio(obv_change, std(obv_change, 20), 0)
volume_price_trend_z            S  59  zscore(cumulate(volume * return_1d), 60)
kvo_histogram_z                 S  86  zscore(kvo - kvo_signal, 20)
accumulation_dist_z             S  59  zscore(accumulation(high, low, close, volume), 60)
risk:
expectancy_20d                  S  20  sma(return_1d, 20)
win_rate_20d                    S  20  100 * sma(up, 20)
candle:
buying_pressure_ratio           S   0  between(close, low, high)
distance:
fib_range_position              S  43  place(close, low, high, 44)
prior_high_20d_dist             S  19  pct_from(close, highest(high, 20))
prior_low_20d_dist              S  19  pct_from(close, lowest(low, 20))
volatility:
rogers_satchell_volatility      S  19  rogers_satchell(open, high, low, close, 20)
yang_zhang_volatility           S  20  yang_zhang(open, high, low, close, 20)
"""

A200 = """
average:
tema_9                          L  24  tema(close, 9)
tema_20                         L  57  tema(close, 20)
tema_50                         L 147  tema(close, 50)
tema_100                        L 297  tema(close, 100)
wma_10                          L   9  wma(close, 10)
wma_20                          L  19  wma(close, 20)
wma_50                          L  49  wma(close, 50)
wma_200                         L 199  wma(close, 200)
kama_10                         L  10  kama(close, 10)
kama_20                         L  20  kama(close, 20)
kama_50                         L  50  kama(close, 50)
hma_9                           L  10  hma(close, 9)
hma_21                          L  23  hma(close, 21)
hma_50                          L  55  hma(close, 50)
vwma_10                         L   9  vwma(typical, volume, 10)
vwma_20                         L  19  vwma(typical, volume, 20)
vwma_50                         L  49  vwma(typical, volume, 50)
trend:
tema_20_slope_pct               S  62  pct(tema_20, 5)
distance:
price_pct_from_tema_50          S 147  pct_from(close, tema_50)
price_pct_from_kama_20          S  20  pct_from(close, kama_20)
price_pct_from_ema_9            S   8  pct_from(close, ema_9)
price_pct_from_ema_50           S  49  pct_from(close, ema_50)
price_pct_from_sma_5            S   4  pct_from(close, sma_5)
price_pct_from_sma_21           S  20  pct_from(close, sma_21)
duration:
days_above_sma_9                S   8  run(close - sma_9)
days_above_sma_50               S  49  run(close - sma_50)
days_above_sma_200              S 199  run(close - sma_200)
days_above_tema_20              S  57  run(close - tema_20)
days_above_kama_20              S  20  run(close - kama_20)
days_above_vwma_20              S  19  run(close - vwma_20)
bars_since_sma_9_50_cross       S  49  run(sma_9 - sma_50)
bars_since_sma_50_200_cross     S 199  run(sma_50 - sma_200)
bars_since_tema_20_sma_50_cross S  57  run(tema_20 - sma_50)
bars_since_kama_20_sma_50_cross S  49  run(kama_20 - sma_50)
bars_since_sma_9_200_cross      S 199  run(sma_9 - sma_200)
bars_since_ema_9_50_cross       S  49  run(ema_9 - ema_50)
distance:
tema_20_sma_50_proximity        S  57  pct_from(tema_20, sma_50)
kama_20_sma_50_proximity        S  49  pct_from(kama_20, sma_50)
sma_9_200_proximity             S 199  pct_from(sma_9, sma_200)
sma_63_200_proximity            S 199  pct_from(sma_63, sma_200)
bands:
pct_from_upper_band             S  19  pct_from(close, bb_upper)
pct_from_lower_band             S  19  pct_from(close, bb_lower)
duration:
days_outside_band               S  19  run(outside(close, bb_lower, bb_upper))
bands:
bb_squeeze                      S  20  sign(maximum(squeeze, 0))
duration:
bb_squeeze_duration             S  20  run(bb_squeeze)
days_rsi_overbought             S  14  run(maximum(rsi_daily - 70, 0))
days_rsi_oversold               S  14  run(maximum(30 - rsi_daily, 0))
oscillator:
rsi_percentile_60d              S  73  rank_below(rsi_daily, 60)
rsi_5                           S   5  rsi(close, 5)
rsi_21                          S  21  rsi(close, 21)
return:
zscore_20d                      S  20  zscore(day_return, 20)
zscore_50d                      S  50  zscore(day_return, 50)
distance:
percentile_in_252d_range        S 251  100 * place(close, low, high, 252)
duration:
days_since_252d_high            S 251  since(high, 252)
days_since_252d_low             S 251  since(-low, 252)
consecutive_days                S   1  run(day_return)
return:
up_days_ratio_20d               S  20  total(up, 20) / maximum(total(down, 20), 1)
volatility:
range_compression_5d            S  19  ratio(sma(range_pct, 5), sma(range_pct, 20), 1)
momentum:
macd_signal                     L  33  macd(close, 12, 26, 9)[1]
macd_histogram_slope            S  38  100 * diff(macd_histogram, 5) / close
duration:
days_since_macd_cross           S  33  days_since_cross(macd_histogram)
volume:
volume_trend_5d                 S   9  pct(sma(volume, 5), 5)
duration:
volume_run                      S   1  run(diff(volume, 1))
volume:
volume_price_confluence         S  20  sma(sign(day_return) * sign(diff(volume, 1)), 20)
high_volume_direction_bias      S  38  ratio(total(heavy_move, 20), total(heavy, 20), 0)
volume_zscore_20d               S  19  zscore(volume, 20)
volume_percentile_20d           S  19  rank_below(volume, 20)
cmf_20                          S  19  ratio(total(location * volume, 20), total(volume, 20), 0)
emv_14                          S  32  sma(ratio(ease, volume_ratio_20d, 0), 14)
volume_ma_ratio_5_20            S  19  ratio(sma(volume, 5), volume_sma_20, 1)
up_down_volume_ratio_20d        S  20  ratio(total(up_volume, 20), total(moved_volume, 20), 0.5)
pct_from_vwap_20                S  19  pct_from(close, vwap_20)
return:
autocorr_lag1_20d               S  21  correlation(day_return, lag(day_return, 1), 20)
candle:
body_to_range_ratio             S   0  ratio(abs(close - open), high - low, 0)
upper_wick_pct                  S   0  100 * ratio(high - maximum(open, close), high - low, 0)
lower_wick_pct                  S   0  100 * ratio(minimum(open, close) - low, high - low, 0)
range_vs_avg_range              S  19  ratio(range_pct, sma(range_pct, 20), 1)
gap_fill_pct                    S   1  100 * clip(ratio(gap_filled, abs(gap), 0), 0, 1)
duration:
inside_day_run                  S   1  run(maximum(minimum(-diff(high, 1), diff(low, 1)), 0))
calendar:
day_of_week_sin                 S   0  sin(2 * pi * day_of_week / 5)
day_of_week_cos                 S   0  cos(2 * pi * day_of_week / 5)
month_sin                       S   0  sin(2 * pi * (month - 1) / 12)
month_cos                       S   0  cos(2 * pi * (month - 1) / 12)
sessions_to_month_end           S   0  sessions_left_in_month
channel:
tenkan_kijun_spread             S  25  100 * (tenkan - kijun) / close
price_vs_cloud                  S  77  100 * outside(close, cloud_bottom, cloud_top) / close
cloud_thickness_pct             S  77  100 * (cloud_top - cloud_bottom) / close
donchian_position               S  19  place(close, low, high, 20)  # Donchian 1960
donchian_width_pct              S  19  100 * (highest(high, 20) - lowest(low, 20)) / close
keltner_position                S  20  between(close, keltner_bottom, keltner_top)
keltner_width                   S  20  100 * (keltner_top - keltner_bottom) / keltner_middle
linreg_channel_position         S  49  linreg_place(close, 50)
divergence:
price_rsi_divergence            S  33  rank_below(close, 20) - rank_below(rsi_daily, 20)
price_obv_divergence            S  19  rank_below(close, 20) - rank_below(obv, 20)
regime:
permutation_entropy_3           S  19  permutation_entropy(close, 3, 20)
permutation_entropy_4           S  19  permutation_entropy(close, 4, 20)
permutation_entropy_5           S  19  permutation_entropy(close, 5, 20)
hurst_60d                       S  59  hurst(log(close), 60)
atr_regime_percentile_252d      S 265  rank_below(atr_pct, 252)
adx_percentile_60d              S  86  rank_below(adx_14, 60)
"""

VIX = """
vix:
vix_close                       S   0  vix
vix_sma_10                      S   9  sma(vix, 10)
vix_sma_20                      S  19  sma(vix, 20)
vix_percentile_60d              S  59  rank_below(vix, 60)
vix_zscore_20d                  S  19  zscore(vix, 20)
vix_regime                      S   0  1.0 * (vix >= 15) + (vix >= 25)
vix_change_1d_pct               S   1  pct(vix, 1)
vix_change_5d_pct               S   5  pct(vix, 5)
vrp_5d                          S   5  vix - rv_5d  # Carr & Wu 2009
vrp_10d                         S  10  vix - rv_10d  # Carr & Wu 2009
vrp_21d                         S  21  vix - rv_21d  # Carr & Wu 2009
vrp_slope                       S  22  diff(vrp_21d, 1)
implied_vs_realized             S  21  ratio(vix, rv_21d, 1)  # Carr & Wu 2009
"""
