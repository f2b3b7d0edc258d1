"""Functions of a series and of its last n values, for the catalogue's formulas.

Every function maps arrays of shape (T,) to an array of shape (T,). Row t depends on rows up to t.
Rows of the warm-up are NaN.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
NOISE = 1e-9
"""Differences below this count as zero, so that results do not depend on the price unit."""


def windows(x: npt.NDArray[np.generic], n: int) -> npt.NDArray[np.float64]:
    """Return all windows of n consecutive values: (T,) -> (T - n + 1, n); none if T < n."""
    if len(x) < n:
        return np.empty((0, n))
    return np.lib.stride_tricks.sliding_window_view(x, n)


def after(x: Array, values: Array) -> Array:
    """Return an array as long as x that ends with the values and begins with NaN."""
    return np.concatenate([np.full(len(x) - len(values), np.nan), values])


def lag(x: Array, n: int) -> Array:
    """Return the value n sessions earlier."""
    out = np.full(len(x), np.nan)
    out[n:] = x[: max(0, len(x) - n)]
    return out


def diff(x: Array, n: int) -> Array:
    """Return the change over n sessions."""
    return x - lag(x, n)


def pct(x: Array, n: int) -> Array:
    """Return the change over n sessions in percent; 0 if the earlier value is 0."""
    return 100 * (ratio(x, lag(x, n), 1.0) - 1)


def pct_from(x: Array, base: Array) -> Array:
    """Return the distance of x from a base in percent of the base."""
    return 100 * (x - base) / base


def sign(x: Array) -> Array:
    """Return the sign, -1, 0 or 1; 0 for absolute values below 1e-9, which are rounding."""
    return np.where(np.abs(x) < NOISE, 0.0, np.sign(x))


def ratio(x: Array, y: Array, neutral: float) -> Array:
    """Return x / y, or the neutral value if y is zero."""
    out = np.full(len(x), float(neutral))
    np.divide(x, y, out=out, where=y != 0)
    return np.where(np.isnan(x), np.nan, out)


def between(x: Array, low: Array, high: Array) -> Array:
    """Return the position of x from low (0) to high (1); 0.5 if they differ by less than 1e-9."""
    span = high - low
    return ratio(x - low, np.where(span < NOISE, 0.0, span), 0.5)


def dist(x: Array, low: float, high: float) -> Array:
    """Return the distance of x to the nearer of two levels."""
    return np.minimum(np.abs(x - low), np.abs(x - high))


def outside(x: Array, low: Array, high: Array) -> Array:
    """Return the distance of x above high, or below low as a negative number; 0 between."""
    return np.maximum(x - high, 0.0) + np.minimum(x - low, 0.0)


def cumulate(x: Array) -> Array:
    """Return the sum of all values up to each row."""
    return np.nancumsum(x)


def total(x: Array, n: int) -> Array:
    """Return the sum of the last n values."""
    return pd.Series(x).rolling(n).sum().to_numpy()


def sma(x: Array, n: int) -> Array:
    """Return the simple average of the last n values."""
    return pd.Series(x).rolling(n).mean().to_numpy()


def std(x: Array, n: int) -> Array:
    """Return the sample standard deviation of the last n values; 0 if all are equal."""
    flat = highest(x, n) == lowest(x, n)  # pandas' running sums keep an error of 1e-8
    return np.where(flat, 0.0, pd.Series(x).rolling(n).std().to_numpy())


def ewm(x: Array, n: int) -> Array:
    """Return the exponential average with span n that begins at the first value."""
    return pd.Series(x).ewm(span=n, adjust=False, min_periods=n).mean().to_numpy()


def lowest(x: Array, n: int) -> Array:
    """Return the lowest of the last n values."""
    return pd.Series(x).rolling(n).min().to_numpy()


def highest(x: Array, n: int) -> Array:
    """Return the highest of the last n values."""
    return pd.Series(x).rolling(n).max().to_numpy()


def quantile(x: Array, n: int, q: float) -> Array:
    """Return the q-quantile of the last n values, interpolated linearly."""
    return pd.Series(x).rolling(n).quantile(q).to_numpy()


def tail_mean(x: Array, n: int, q: float) -> Array:
    """Return the mean of the values at or below the q-quantile among the last n."""
    recent, bound = windows(x, n), quantile(x, n, q)[n - 1 :, None]
    inside = recent <= bound
    count = np.where(np.isnan(bound[:, 0]), np.nan, inside.sum(axis=1))
    return after(x, np.where(inside, recent, 0.0).sum(axis=1) / count)


def zscore(x: Array, n: int) -> Array:
    """Return (x - mean) / sample deviation of the last n values; 0 if all are equal."""
    return ratio(x - sma(x, n), std(x, n), 0.0)


def rank_below(x: Array, n: int) -> Array:
    """Return the percentage of the last n values below the current one, compared at 9 decimals."""
    ranks = pd.Series(np.round(x, 9)).rolling(n).rank(method="min").to_numpy()
    return 100 * (ranks - 1) / n


def place(x: Array, low: Array, high: Array, n: int) -> Array:
    """Return the position of x in the range of n sessions, 0 to 1; 0.5 if the range is zero."""
    return between(x, lowest(low, n), highest(high, n))


def stoch(x: Array, n: int) -> Array:
    """Return the position of x in its own range of n values, percent; 50 if all are equal."""
    return 100 * place(x, x, x, n)


def since(x: Array, n: int) -> Array:
    """Return the number of sessions since the highest of n values; of equal ones, the latest."""
    return after(x, windows(x, n)[:, ::-1].argmax(axis=1).astype(float))


def run(x: Array) -> Array:
    """Return the number of sessions with the current sign of x, times that sign; 0 if x is 0."""
    signs, row = sign(x), np.arange(len(x))
    begins = np.append(True, signs[1:] != signs[:-1])[: len(x)]
    begin: Array = np.maximum.accumulate(np.where(begins, row, 0))
    signed: Array = (row - begin + 1) * signs
    return signed


def days_since_cross(x: Array) -> Array:
    """Return the number of sessions since x changed its sign, or since the first value."""
    since_first: Array = np.maximum(np.abs(run(x)) - 1, 0.0)
    return since_first


def correlation(x: Array, y: Array, n: int) -> Array:
    """Return Pearson's correlation of the last n pairs; 0 if either series is constant."""
    a, b = (windows(v, n) - windows(v, n).mean(axis=1, keepdims=True) for v in (x, y))
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return after(x, ratio((a * b).sum(axis=1), spread, 0.0))
