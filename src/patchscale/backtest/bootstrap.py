"""Bootstrap intervals over blocks of days.

A draw is represented by how often it contains each day. A statistic is a function of these
counts, so that an estimate (each day once) and its interval come from one formula. Equal numbers of
days and equal mean block lengths have equal draws, so that a comparison is made draw by draw.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS = 10_000
CHUNK = 1_000  # draws in memory at once, few enough to stay in the processor's cache
CONFIDENCE = 0.95
SEED = 0

Statistics = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Function from counts, shape (draws, n), to named statistics, each (draws,), NaN if undefined."""


@dataclass(frozen=True)
class Estimate:
    """Statistic of a sample with the ends of its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: np.ndarray) -> "Estimate":
        """Return a statistic with the percentile interval of its draws, shape (10000,)."""
        return cls(float(value), *interval(draws)) if math.isfinite(value) else UNDEFINED


UNDEFINED = Estimate(math.nan, math.nan, math.nan)


def block_length(series: np.ndarray, horizon: int) -> int:
    """Return the mean block length in sessions for a daily series.

    It is the optimal length, rounded up to whole sessions. It is never shorter than the horizon,
    over which labels overlap.

    Parameters
    ----------
    series
        Values of consecutive days, shape (n,).
    horizon
        Sessions looked ahead.
    """
    return max(horizon, math.ceil(optimal_length(series)))


def optimal_length(series: np.ndarray) -> float:
    """Return the block length with which the bootstrap estimates the error of a mean best.

    Autocovariances count up to twice the lag m from which the autocorrelations of five successive
    lags are insignificant. The length is at most n / 3 and 3 sqrt(n); it is 1 for a constant
    series. It equals that of `arch.bootstrap.optimal_block_length`, whose import takes seconds.

    Parameters
    ----------
    series
        Values of consecutive days, shape (n,).

    References
    ----------
    Politis and White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap",
    Econometric Reviews 23. Patton, Politis and White (2009), its correction, Econometric Reviews
    28.
    """
    n = len(series)
    if n < 3 or np.ptp(series) == 0:
        return 1.0
    gap = series - series.mean()
    in_row = max(5, int(math.log10(n)))
    last = min(math.ceil(math.sqrt(n)) + in_row, n - 2)
    lags = np.arange(last + 1)
    products = np.correlate(gap, gap, "full")[n - 1 : n + last]
    squares = np.append(0.0, np.cumsum(gap**2))
    scale = np.sqrt(squares[n - 1 - lags] * (squares[n] - squares[lags + 1]))
    small = abs(products[:last]) < 2 * math.sqrt(math.log10(n) / n) * scale[:last]
    runs = np.flatnonzero(np.convolve(small, np.ones(in_row), "valid") == in_row)
    m = min(2 * int(runs[0]), last) if len(runs) else last
    k = lags[1 : m + 1]
    weighted = np.minimum(1, 2 * (1 - k / m)) * products[k]
    variance = products[0] + 2 * weighted.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        length = (n * (2 * (k * weighted).sum() / variance) ** 2) ** (1 / 3)
    return float(min(math.ceil(min(3 * math.sqrt(n), n / 3)), length))  # also if it is NaN


@lru_cache(maxsize=8)
def counts(n: int, block: int) -> tuple[np.ndarray, ...]:
    """Return how often each draw of the stationary bootstrap contains each day.

    Blocks have geometric lengths and wrap around the end. The draws equal those of
    `arch.bootstrap.StationaryBootstrap(block, ..., seed=0)`, which is not used because its import
    takes seconds in every stage.

    Parameters
    ----------
    n
        Number of consecutive days.
    block
        Mean block length in days.

    Returns
    -------
    Read-only chunks of shape (1000, n), float32.

    References
    ----------
    Politis and Romano (1994), "The Stationary Bootstrap", JASA 89.
    """
    random = np.random.default_rng(SEED)
    return tuple(_chunk(random, n, block) for _ in range(DRAWS // CHUNK))


def _chunk(random: np.random.Generator, n: int, block: int) -> np.ndarray:
    day = np.empty((CHUNK, n), dtype=np.int32)
    begins = np.empty((CHUNK, n), dtype=bool)
    for draw in range(CHUNK):
        day[draw] = random.integers(n, size=n)
        begins[draw] = random.random(n) <= 1 / block
    begins[:, 0] = True
    where = np.flatnonzero(begins)  # first position of each block, in the flat (draw, day) order
    first = day.ravel()[where] + where // n * 2 * n  # each draw has 2 n places, so blocks can wrap
    past = first + np.diff(where, append=CHUNK * n)
    edges = np.bincount(first, minlength=CHUNK * 2 * n + 1)
    edges -= np.bincount(past, minlength=len(edges))
    rounds = np.cumsum(edges[:-1]).reshape(CHUNK, 2, n)
    chunk: np.ndarray = rounds.sum(axis=1, dtype=np.float32)
    chunk.flags.writeable = False
    return chunk


def drawn(statistics: Statistics, n: int, block: int) -> dict[str, np.ndarray]:
    """Return each statistic of every draw, shape (10000,)."""
    parts = [statistics(chunk) for chunk in counts(n, block)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def total(days: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sum of daily values over each draw; `(draws, n), (n,) -> (draws,)`.

    A BLAS product is avoided: its last bits depend on the number of threads.
    """
    sums: np.ndarray = np.einsum("bn,n->b", days, values.astype(days.dtype))
    return sums


def mean(days: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of daily values over each draw; `(draws, n), (n,) -> (draws,)`."""
    averages: np.ndarray = total(days, values) / len(values)
    return averages


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval, NaN if more than 5 % of the draws are undefined."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < CONFIDENCE * len(draws):
        return math.nan, math.nan
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(finite, [tail, 100 - tail])
    return float(low), float(high)


def estimates(statistics: Statistics, n: int, block: int) -> dict[str, Estimate]:
    """Return each statistic with its interval.

    Parameters
    ----------
    statistics
        Function of the counts of days.
    n
        Number of consecutive days.
    block
        Mean block length in days.
    """
    whole = statistics(np.ones((1, n)))
    resampled = drawn(statistics, n, block)
    return {name: Estimate.of(value[0], resampled[name]) for name, value in whole.items()}


def mean_with_interval(daily: np.ndarray, horizon: int) -> Estimate:
    """Return the mean of a daily series with its interval, from blocks of its own length."""
    block = block_length(daily, horizon)
    return estimates(lambda days: {"mean": mean(days, daily)}, len(daily), block)["mean"]


def p_value(draws: np.ndarray) -> float:
    """Return the two-sided p-value of zero: twice the share of draws on the rarer side of it.

    The sample itself counts as one draw on that side.
    """
    rarer = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
