"""Intervals from resampled blocks of days; the same draws for everything judged on the same days.

A draw is kept as how often it holds each day. A statistic is a function of such counts, so that
the figure (every day once) and its interval come from one formula, and two forecasts of the same
days are compared draw by draw.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

DRAWS = 10_000
CHUNK = 1_000  # draws in memory at once: they stay in the processor's cache
LEVEL = 0.95
SEED = 0

Statistics = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps counts, shape (draws, n), to named figures, each of shape (draws,), NaN where undefined."""


def block_length(horizon: int) -> int:
    """Return the mean block in sessions: labels overlap over H, volatility lasts for weeks."""
    return max(20, 4 * horizon)


@lru_cache(maxsize=4)
def counts(n: int, block: int) -> tuple[np.ndarray, ...]:
    """Return how often each stationary-bootstrap draw holds each day.

    Blocks of geometric length wrap around the end. The draws are those of
    `arch.bootstrap.StationaryBootstrap(block, ..., seed=0)`, whose import takes seconds in each of
    21 stages.

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
    where = np.flatnonzero(begins)  # of every block, in the flat (draw, place) order
    first = day.ravel()[where] + where // n * 2 * n  # on a line of two rounds for each draw
    past = first + np.diff(where, append=CHUNK * n)
    edges = np.bincount(first, minlength=CHUNK * 2 * n + 1)
    edges -= np.bincount(past, minlength=len(edges))
    rounds = np.cumsum(edges[:-1]).reshape(CHUNK, 2, n)
    chunk: np.ndarray = rounds.sum(axis=1, dtype=np.float32)
    chunk.flags.writeable = False
    return chunk


def drawn(statistics: Statistics, n: int, horizon: int) -> dict[str, np.ndarray]:
    """Return each figure of every draw, shape (10000,)."""
    parts = [statistics(chunk) for chunk in counts(n, block_length(horizon))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def total(days: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sum of daily values over each draw; `(draws, n), (n,) -> (draws,)`.

    Not a BLAS product, whose last bits depend on the number of threads.
    """
    sums: np.ndarray = np.einsum("bn,n->b", days, values.astype(days.dtype))
    return sums


def mean(days: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of daily values over each draw; `(draws, n), (n,) -> (draws,)`."""
    averages: np.ndarray = total(days, values) / len(values)
    return averages


def interval(draws: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % percentile interval, or None if more than 5 % of the draws are undefined."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < LEVEL * len(draws):
        return None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(finite, [tail, 100 - tail])
    return float(low), float(high)


def estimates(statistics: Statistics, n: int, horizon: int) -> dict[str, float | None]:
    """Return each figure with its interval as `name`, `name_low`, `name_high`.

    None stands where a figure is undefined, and at an interval's ends where it is in more than 5 %
    of the draws.

    Parameters
    ----------
    statistics
        What to compute.
    n
        Number of consecutive days.
    horizon
        Sessions looked ahead; sets the mean block.
    """
    whole = statistics(np.ones((1, n)))
    resampled = drawn(statistics, n, horizon)
    row: dict[str, float | None] = {}
    for name, value in whole.items():
        defined = np.isfinite(value[0])
        low, high = (interval(resampled[name]) if defined else None) or (None, None)
        row |= {name: float(value[0]) if defined else None}
        row |= {f"{name}_low": low, f"{name}_high": high}
    return row


def mean_with_interval(daily: np.ndarray, horizon: int, name: str) -> dict[str, float | None]:
    """Return a daily series' mean and interval as `name`, `name_low`, `name_high`."""
    return estimates(lambda days: {name: mean(days, daily)}, len(daily), horizon)


def p_value(draws: np.ndarray) -> float:
    """Return the two-sided p of zero: twice the share of draws on the rarer side, with its own."""
    rarer = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
