"""Exact sign-flip test of a mean over years, with the interval of all means that it accepts.

The null hypothesis is that the values of the years are independent and as likely above zero as
below it, each by the same amount. Flipping the signs of a set of years leaves the sum as large as
it is, or makes it larger, exactly if the mean of the set is zero or less. The one-sided p-value is
therefore the share of sets, the empty one included, whose mean is not above zero. The interval ends
at two order statistics of these means (Hartigan's typical values), so that no search is needed.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from patchscale.backtest.bootstrap import CONFIDENCE, Estimate
from patchscale.study.errors import InputError
from patchscale.study.params import MOST_YEARS

ROUNDING = 1e-12
"""A mean of this share of the mean absolute value counts as zero."""


Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class SignFlip:
    """Mean over years with its test."""

    mean: Estimate
    """Interval undefined with fewer than six years, which exclude no value."""
    p: float
    """Two-sided."""
    least_p: float
    """Smallest p-value that the number of years allows."""
    years: int
    higher: int
    """Years whose value is above zero."""


@dataclass(frozen=True)
class Corrected(SignFlip):
    """Mean over years with its test, one of several."""

    p_holm: float
    """`p` corrected for the number of tests of its family."""


def sign_flip(values: Iterable[float]) -> SignFlip:
    """Return the mean of the years' values, its 95 % interval and the p-value of zero.

    Parameters
    ----------
    values
        A value a year, shape (years,).

    Raises
    ------
    InputError
        There are more than 20 years.

    References
    ----------
    Fisher (1935), "The Design of Experiments", section 21. Hartigan (1969), "Using Subsample Values
    as Typical Values", JASA 64.
    """
    years = np.asarray(list(values), dtype=float)
    if len(years) > MOST_YEARS:
        raise InputError(
            f"walk: {len(years)} test years; the exact test over years allows {MOST_YEARS}"
        )
    means, tie = set_means(years), ROUNDING * float(abs(years).mean())
    sets = len(means) + 1
    rarer = 1 + min(int((means <= tie).sum()), int((means >= -tie).sum()))
    (low,), (high,) = ends(means[None])
    value = float(years.mean())
    return SignFlip(
        mean=Estimate(value, float(low), float(high)),
        p=min(1.0, 2 * rarer / sets),
        least_p=min(1.0, 2 / sets),
        years=len(years),
        higher=int((years > tie).sum()),
    )


def set_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of every set of years but the empty one; `(..., k) -> (..., 2^k - 1)`."""
    sums, sizes = np.zeros((*values.shape[:-1], 1)), np.zeros(1)
    for year in range(values.shape[-1]):
        sums = np.concatenate([sums, sums + values[..., year, None]], axis=-1)
        sizes = np.concatenate([sizes, sizes + 1])
    means: np.ndarray = sums[..., 1:] / sizes[1:]
    return means


def ends(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of each row; NaN if no value can be excluded.

    Parameters
    ----------
    means
        As `set_means` returns them, shape (rows, 2^k - 1).

    Returns
    -------
    Two arrays of shape (rows,).
    """
    rank = int((1 - CONFIDENCE) / 2 * (means.shape[1] + 1))
    if not rank:
        nowhere = np.full(len(means), np.nan)
        return nowhere, nowhere
    ordered = np.partition(means, (rank - 1, -rank), axis=1)
    return ordered[:, rank - 1], ordered[:, -rank]


def corrected(tests: Mapping[Key, SignFlip]) -> dict[Key, Corrected]:
    """Return tests with their p-values corrected for their number by Holm's method."""
    p = holm({name: test.p for name, test in tests.items()})
    return {name: Corrected(**vars(test), p_holm=p[name]) for name, test in tests.items()}


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return p-values corrected for their number (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    corrected = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, corrected), strict=True))
