"""Bootstrap intervals over blocks of days.

A draw is represented by how often it contains each day. A statistic is a function of these
counts, so that an estimate (each day once) and its interval come from one formula. All forecasts
of the same days use the same draws, so that two of them are compared draw by draw.
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


def block_length(horizon: int) -> int:
    """Return the mean block length in sessions.

    Labels overlap over the horizon, and volatility is correlated over weeks.
    """
    return max(20, 4 * horizon)


@lru_cache(maxsize=4)
def counts(n: int, block: int) -> tuple[np.ndarray, ...]:
    """Return how often each draw of the stationary bootstrap contains each day.

    Blocks have geometric lengths and wrap around the end. The draws equal those of
    `arch.bootstrap.StationaryBootstrap(block, ..., seed=0)`, which is not used because its import
    takes seconds in each of 21 stages.

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


def drawn(statistics: Statistics, n: int, horizon: int) -> dict[str, np.ndarray]:
    """Return each statistic of every draw, shape (10000,)."""
    parts = [statistics(chunk) for chunk in counts(n, block_length(horizon))]
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


def estimates(statistics: Statistics, n: int, horizon: int) -> dict[str, Estimate]:
    """Return each statistic with its interval.

    Parameters
    ----------
    statistics
        Function of the counts of days.
    n
        Number of consecutive days.
    horizon
        Sessions looked ahead; sets the mean block length.
    """
    whole = statistics(np.ones((1, n)))
    resampled = drawn(statistics, n, horizon)
    return {name: Estimate.of(value[0], resampled[name]) for name, value in whole.items()}


def mean_with_interval(daily: np.ndarray, horizon: int) -> Estimate:
    """Return the mean of a daily series with its interval."""
    return estimates(lambda days: {"mean": mean(days, daily)}, len(daily), horizon)["mean"]


def p_value(draws: np.ndarray) -> float:
    """Return the two-sided p-value of zero: twice the share of draws on the rarer side of it.

    The sample itself counts as one draw on that side.
    """
    rarer = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
