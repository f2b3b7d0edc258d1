"""Random effects: how far years and seeds move a mean over years.

A value of a year is the mean over its seeds of `mu + year + seed`, with independent effects. Seeds
are nested in years: each (year, seed) is a training of its own. Variances are those of the analysis
of variance, which for balanced data are those of restricted maximum likelihood unless one of them
would be negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomEffects:
    """Standard error of a mean over years and its parts; None where it cannot be estimated."""

    standard_error: float | None
    """Of the mean over years, noise of the seeds included; None with one year."""
    between_years: float | None
    """Standard deviation of a year's value if it had infinitely many seeds."""
    between_seeds: float | None
    """Standard deviation that the draw of its seeds adds to a year's value."""


def seed_variances(sizes: Sequence[np.ndarray]) -> list[float | None]:
    """Return the variance of a single seed of each size, around the mean of its year.

    A size with one seed gets the variance pooled over the sizes that have several, None if there
    is none.

    Parameters
    ----------
    sizes
        For each size its values, shape (years, seeds); numbers of years and seeds may differ.
    """
    degrees = [years * (seeds - 1) for years, seeds in (each.shape for each in sizes)]
    squares = [float(((each - each.mean(axis=1, keepdims=True)) ** 2).sum()) for each in sizes]
    pooled = sum(squares) / sum(degrees) if sum(degrees) else None
    return [
        square / degree if degree else pooled
        for square, degree in zip(squares, degrees, strict=True)
    ]


def random_effects(values: np.ndarray, noise: float | None) -> RandomEffects:
    """Return the standard error of a mean over years, and what years and seeds add to it.

    Parameters
    ----------
    values
        A value a year, shape (years,).
    noise
        Variance that the seeds add to the value of a year: that of a single seed, divided by their
        number. None if it is not known; the spread of the years contains it in any case.

    References
    ----------
    Searle, Casella and McCulloch (1992), "Variance Components", chapter 3.
    """
    seeds = None if noise is None else noise**0.5
    if len(values) < 2:
        return RandomEffects(None, None, seeds)
    total = float(values.var(ddof=1))
    if noise is None:
        return RandomEffects((total / len(values)) ** 0.5, None, None)
    between = max(0.0, total - noise)
    return RandomEffects(((between + noise) / len(values)) ** 0.5, between**0.5, seeds)
