"""Power of the sign-flip test: the mean that it would have seen."""

import math
from functools import lru_cache

import numpy as np

from patchscale.verdict.sign_flip import ends, set_means

POWER = 0.8
DRAWS = 2_000
"""Studies drawn; the factor is known to about one percent, with 20 years to three."""
WORK = 2**27
"""Most means of sets that are made, some seconds; beyond 16 years it allows fewer draws."""
AT_ONCE = 2**22
"""Means in memory at once."""
SEED = 0


@lru_cache(maxsize=1)
def visible_in_sd(years: int) -> float:
    """Return the mean seen with 80 % power, in standard deviations between years.

    Values of years are drawn from a normal distribution of mean zero. Adding a mean to all of them
    moves the interval by that mean, so the test finds a mean above zero exactly if the mean exceeds
    the distance from the lower end of the interval to zero. The mean that 80 % of the draws find is
    the 80 % quantile of these distances. By symmetry the upper end gives a second distance a draw.
    That a draw has the wrong sign is left out, which at this power hardly ever happens.

    Parameters
    ----------
    years
        Number of years; NaN is returned for fewer than six, with which no mean is seen.
    """
    random = np.random.default_rng(SEED)
    draws, rows = min(DRAWS, WORK >> years), max(1, AT_ONCE >> years)
    distances = []
    for first in range(0, draws, rows):
        low, high = ends(set_means(random.standard_normal((min(rows, draws - first), years))))
        distances += [-low, high]
    return float(np.quantile(np.concatenate(distances), POWER))


def visible(values: np.ndarray) -> float | None:
    """Return the mean that the test would have seen with 80 % power at the spread of the years.

    Parameters
    ----------
    values
        A value a year, shape (years,). Their spread contains the noise of the seeds.

    Returns
    -------
    The mean in the unit of the values; None with fewer than six years.
    """
    factor = visible_in_sd(len(values))
    return factor * float(values.std(ddof=1)) if math.isfinite(factor) else None
