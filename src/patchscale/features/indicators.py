"""Technical indicators for the catalogue's formulas.

As in `rolling`, arrays have shape (T,), row t depends on rows up to t, and rows of the warm-up are
NaN. The citation at the end of a docstring is printed in docs/features.md.
"""

import math

import numpy as np
import pandas as pd
import talib

from patchscale.features.rolling import (
    Array,
    after,
    diff,
    lag,
    ratio,
    sign,
    sma,
    std,
    total,
    windows,
)

YEAR = 252


def volatility(log_return: Array, n: int) -> Array:
    """Return the annualised standard deviation of n log returns, percent."""
    return 100 * math.sqrt(YEAR) * std(log_return, n)


def sharpe(day_return: Array, n: int) -> Array:
    """Return the annualised mean / deviation of n returns; 0 if all are equal (Sharpe 1994)."""
    return math.sqrt(YEAR) * ratio(sma(day_return, n), std(day_return, n), 0.0)


def sortino(day_return: Array, n: int) -> Array:
    """Return the annualised mean of n returns / deviation of losses (Sortino & Price 1994).

    A gain is a loss of 0. Without any loss the ratio is 0.
    """
    losses = std(np.minimum(day_return, 0.0), n)
    return math.sqrt(YEAR) * ratio(sma(day_return, n), losses, 0.0)


def parkinson(high: Array, low: Array, n: int) -> Array:
    """Return the annualised volatility from n high-low ranges, percent (Parkinson 1980)."""
    return _annual(sma(np.log(high / low) ** 2, n) / (4 * math.log(2)))


def garman_klass(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    """Return the annualised volatility from n bars, percent (Garman & Klass 1980)."""
    body = (2 * math.log(2) - 1) * np.log(close / open_) ** 2
    return _annual(sma(np.log(high / low) ** 2 / 2 - body, n))


def rogers_satchell(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    """Return the annualised volatility without drift, percent (Rogers & Satchell 1991)."""
    return _annual(_rogers_satchell(open_, high, low, close, n))


def yang_zhang(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    """Return the annualised volatility with overnight gaps, percent (Yang & Zhang 2000)."""
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    overnight = std(np.log(open_ / lag(close, 1)), n) ** 2
    day = std(np.log(close / open_), n) ** 2
    return _annual(overnight + k * day + (1 - k) * _rogers_satchell(open_, high, low, close, n))


def ema(x: Array, n: int) -> Array:
    """Return the exponential average that begins as the mean of n values (TA-Lib EMA)."""
    return np.asarray(talib.EMA(x, n))


def dema(x: Array, n: int) -> Array:
    """Return the double exponential average (Mulloy 1994; TA-Lib DEMA)."""
    return np.asarray(talib.DEMA(x, n))


def tema(x: Array, n: int) -> Array:
    """Return the triple exponential average (Mulloy 1994; TA-Lib TEMA)."""
    return np.asarray(talib.TEMA(x, n))


def wma(x: Array, n: int) -> Array:
    """Return the linearly weighted average (TA-Lib WMA)."""
    return np.asarray(talib.WMA(x, n))


def kama(x: Array, n: int) -> Array:
    """Return the adaptive average with constants 2 and 30 (Kaufman 1995; TA-Lib KAMA)."""
    return np.asarray(talib.KAMA(x, n))


def hma(x: Array, n: int) -> Array:
    """Return the WMA over sqrt(n) of 2 WMA(n / 2) - WMA(n), spans rounded down (Hull 2005)."""
    return wma(2 * wma(x, n // 2) - wma(x, n), math.isqrt(n))


def vwma(x: Array, volume: Array, n: int) -> Array:
    """Return the average of n values weighted by volume; unweighted if there is no volume."""
    weights = total(volume, n)
    return np.where(weights == 0, sma(x, n), ratio(total(x * volume, n), weights, 0.0))


def rsi(x: Array, n: int) -> Array:
    """Return the relative strength index, 0 to 100 (Wilder 1978; TA-Lib RSI)."""
    return np.asarray(talib.RSI(x, n))


def macd(x: Array, fast: int, slow: int, signal: int) -> tuple[Array, Array, Array]:
    """Return MACD line, signal and histogram (Appel 2005; TA-Lib MACD)."""
    line, average, histogram = talib.MACD(x, fast, slow, signal)
    return line, average, histogram


def atr(high: Array, low: Array, close: Array, n: int) -> Array:
    """Return the average true range, price units (Wilder 1978; TA-Lib ATR)."""
    return np.asarray(talib.ATR(high, low, close, n))


def adx(high: Array, low: Array, close: Array, n: int) -> Array:
    """Return the average directional index, 0 to 100 (Wilder 1978)."""
    plus, minus = _directional(high, low, close, n)
    index = 100 * ratio(np.abs(plus - minus), plus + minus, 0.0)
    if len(index) < 2 * n:
        return np.full(len(index), np.nan)
    return after(index, _wilder(np.append(index[n : 2 * n].mean(), index[2 * n :]), n))


def di(high: Array, low: Array, close: Array, n: int) -> Array:
    """Return +DI - -DI, -100 to 100 (Wilder 1978)."""
    plus, minus = _directional(high, low, close, n)
    return plus - minus


def cci(high: Array, low: Array, close: Array, n: int) -> Array:
    """Return the commodity channel index (Lambert 1980; TA-Lib CCI)."""
    return np.asarray(talib.CCI(high, low, close, n))


def mfi(high: Array, low: Array, close: Array, volume: Array, n: int) -> Array:
    """Return the money flow index, 0 to 100 (Quong & Soudack 1989; TA-Lib MFI)."""
    return np.asarray(talib.MFI(high, low, close, volume, n))


def aroon(high: Array, low: Array, n: int) -> Array:
    """Return the Aroon oscillator, -100 to 100 (Chande 1995; TA-Lib AROONOSC)."""
    return np.asarray(talib.AROONOSC(high, low, n))


def on_balance_volume(close: Array, volume: Array) -> Array:
    """Return volume cumulated with the sign of the day's change (Granville 1963; TA-Lib OBV)."""
    return np.asarray(talib.OBV(close, volume))


def accumulation(high: Array, low: Array, close: Array, volume: Array) -> Array:
    """Return the accumulation / distribution line (Chaikin; TA-Lib AD)."""
    return np.asarray(talib.AD(high, low, close, volume))


def ad_oscillator(
    high: Array, low: Array, close: Array, volume: Array, fast: int, slow: int
) -> Array:
    """Return the difference of two EMAs of the A/D line (Chaikin; TA-Lib ADOSC)."""
    return np.asarray(talib.ADOSC(high, low, close, volume, fast, slow))


def volume_force(high: Array, low: Array, close: Array, volume: Array) -> Array:
    """Return volume x |2 dm / cm - 1| x trend x 100; 0 if cm is 0 (Klinger 1997).

    trend is the sign of the change of high + low + close, dm the day's range, and cm the sum of
    ranges since the session before the trend last changed.
    """
    trend = np.where(sign(diff(high + low + close, 1)) > 0, 1.0, -1.0)
    dm = high - low
    row = np.arange(len(close))
    turns = np.append([True, True], trend[2:] != trend[1:-1])[: len(close)]
    begin = np.maximum.accumulate(np.where(turns, row, 0))
    before = np.append([0.0, 0.0], np.cumsum(dm))  # before[t] sums up to session t - 2
    cm = np.cumsum(dm) - before[begin]
    force = 100 * volume * trend * np.abs(2 * ratio(dm, cm, 0.5) - 1)
    force[:1] = np.nan
    return force


def supertrend(high: Array, low: Array, close: Array, n: int, width: float) -> tuple[Array, Array]:
    """Return the trailing band at width x ATR(n), and 1 below or -1 above price (Seban 2009)."""
    spread, middle = width * atr(high, low, close, n), (high + low) / 2
    line, direction = np.full(len(close), np.nan), np.full(len(close), np.nan)
    upper, lower, up = math.inf, -math.inf, True
    rows = zip((middle + spread).tolist(), (middle - spread).tolist(), close.tolist(), strict=True)
    before = math.nan
    for row, (top, bottom, price) in enumerate(rows):
        if not math.isnan(top):
            upper = top if top < upper or before > upper else upper
            lower = bottom if bottom > lower or before < lower else lower
            up = price >= lower if up else price > upper
            line[row], direction[row] = (lower, 1.0) if up else (upper, -1.0)
        before = price
    return line, direction


def linreg_place(x: Array, n: int) -> Array:
    """Return the position of x in its regression channel of n sessions, +-2 residual deviations."""
    variance = talib.VAR(x, n) - talib.LINEARREG_SLOPE(x, n) ** 2 * (n * n - 1) / 12
    spread = 4 * np.sqrt(np.where(variance < 1e-12 * x * x, 0.0, variance))
    return 0.5 + ratio(x - talib.LINEARREG(x, n), spread, 0.0)


def permutation_entropy(x: Array, order: int, n: int) -> Array:
    """Return the entropy of ordinal patterns in the last n values, 0 to 1 (Bandt & Pompe 2002)."""
    shapes = windows(x, order).argsort(axis=1, kind="stable") @ (order ** np.arange(order))
    patterns = windows(shapes, n - order + 1)
    same = (patterns[:, :, None] == patterns[:, None, :]).mean(axis=2)
    return after(x, -np.log(same).mean(axis=1) / math.log(math.factorial(order)))


def hurst(x: Array, n: int) -> Array:
    """Return the generalised Hurst exponent (q = 1, lags 1 to 16) of n values; 0.5 if all equal.

    Slope of log mean |x[t] - x[t - lag]| on log lag (Di Matteo, Aste & Dacorogna 2005).
    """
    lags = np.array([1, 2, 4, 8, 16])
    moves = np.array([sma(np.abs(diff(x, int(k))), n - int(k)) for k in lags])
    flat = (moves == 0).any(axis=0)
    scale = np.log(lags) - np.log(lags).mean()
    slope = (scale[:, None] * np.log(np.where(moves == 0, 1.0, moves))).sum(axis=0)
    return np.where(flat, 0.5, slope / (scale**2).sum())


def _directional(high: Array, low: Array, close: Array, n: int) -> tuple[Array, Array]:
    # as in TA-Lib, except that moves that differ by rounding only count as equal
    up, down, before = diff(high, 1), -diff(low, 1), lag(close, 1)
    plus = np.where((sign(up - down) > 0) & (up > 0), up, 0.0)
    minus = np.where((sign(down - up) > 0) & (down > 0), down, 0.0)
    ranges = _wilder_total(np.maximum(high, before) - np.minimum(low, before), n)
    indices = [100 * ratio(_wilder_total(move, n), ranges, 0.0) for move in (plus, minus)]
    return indices[0], indices[1]


def _wilder_total(x: Array, n: int) -> Array:
    """Return Wilder's running sum, n times his average; the first sum has n - 1 days."""
    if len(x) <= n:
        return np.full(len(x), np.nan)
    return after(x, _wilder(np.append(x[1:n].sum(), n * x[n:]), n)[1:])


def _wilder(x: Array, n: int) -> Array:
    return pd.Series(x).ewm(alpha=1 / n, adjust=False).mean().to_numpy()


def _annual(variance: Array) -> Array:
    percent: Array = 100 * np.sqrt(YEAR * np.maximum(variance, 0.0))
    return percent


def _rogers_satchell(open_: Array, high: Array, low: Array, close: Array, n: int) -> Array:
    up = np.log(high / close) * np.log(high / open_)
    return sma(up + np.log(low / close) * np.log(low / open_), n)
