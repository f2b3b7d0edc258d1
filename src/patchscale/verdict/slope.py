"""Primary test: whether the loss changes with the number of parameters.

Each test year gives one slope, by least squares over all sizes. Years are the units of the test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchscale.verdict.effects import RandomEffects, random_effects, seed_variances
from patchscale.verdict.power import visible
from patchscale.verdict.sign_flip import SignFlip, sign_flip


@dataclass(frozen=True)
class SlopeTest(SignFlip):
    """Change of the log-loss per tenfold N, nats: mean over years with its exact test."""

    sizes: list[str]
    """Budgets whose test years are complete, ascending by N."""
    slopes: dict[str, float]
    """Slope of each year."""
    effects: RandomEffects
    visible: float | None
    """Slope seen with 80 % power at the spread of the years; None with fewer than six years."""


def slope_weights(n_params: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the weights whose product with the losses is the least-squares slope on log10 N.

    Parameters
    ----------
    n_params
        Counted parameters of at least two different sizes, shape (sizes,).
    """
    x = np.log10(np.asarray(n_params, dtype=float))
    centred = x - x.mean()
    weights: np.ndarray = centred / (centred**2).sum()
    return weights


def slope_test(
    losses: dict[str, np.ndarray], n_params: Sequence[float], years: Sequence[int]
) -> SlopeTest:
    """Return the test of the yearly slopes of the loss on log10 N.

    Parameters
    ----------
    losses
        For each size, ascending, the mean log-loss of every single seed in each year, nats, shape
        (years, seeds). Sizes count alike, whatever their number of seeds.
    n_params
        Counted parameters of each size.
    years
        The test years.
    """
    weights = slope_weights(n_params)
    slopes = np.column_stack([each.mean(axis=1) for each in losses.values()]) @ weights
    seeds = [each.shape[1] for each in losses.values()]
    variances = seed_variances(list(losses.values()))
    parts = [
        weight**2 * variance / n
        for weight, variance, n in zip(weights, variances, seeds, strict=True)
        if variance is not None
    ]
    return SlopeTest(
        **vars(sign_flip(slopes)),
        sizes=list(losses),
        slopes=dict(zip(map(str, years), map(float, slopes), strict=True)),
        effects=random_effects(slopes, float(sum(parts)) if parts else None),
        visible=visible(slopes),
    )
