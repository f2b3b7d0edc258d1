"""Change of the loss with the number of parameters.

The bootstrap draws blocks of days, the same for all sizes, and the seeds of each size. Replicates
are seeds, never trials or days.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchscale.backtest.bootstrap import DRAWS, SEED, Estimate, block_length, drawn, mean, p_value
from patchscale.verdict.slope import slope_weights

EXPONENTS = np.geomspace(0.02, 2.0, 47)
"""Exponents tried for the power law, from an almost flat curve to a steep one."""


@dataclass(frozen=True)
class PowerLaw:
    """Fit of E + A (N / N0)^-alpha, N0 the middle size; no estimates where none is possible."""

    identified: bool
    says: str
    """Conclusion in words."""
    alpha: Estimate | None = None
    floor: Estimate | None = None
    """E, the loss of an infinite model."""
    scale: Estimate | None = None
    """A."""


@dataclass(frozen=True)
class SizeEffect:
    """Effect of the number of parameters on the loss, on the days of one subset."""

    days: int
    seeds: list[int]
    """Seeds of each size."""
    slope: Estimate
    """Change of the loss per tenfold N."""
    slope_p: float
    power_law: PowerLaw
    slope_p_holm: float = math.nan
    """`slope_p` corrected for the number of horizons."""


def size_effect(losses: Sequence[np.ndarray], n_params: np.ndarray, horizon: int) -> SizeEffect:
    """Return slope and power law of the losses of single seeds.

    Parameters
    ----------
    losses
        For each of at least two sizes, ascending, the daily losses of its seeds on the same days,
        shape (days, seeds).
    n_params
        Counted parameters, shape (sizes,).
    horizon
        Least mean block length. The length is that of the daily slopes.
    """
    by_size = np.column_stack([each.mean(axis=1) for each in losses])
    block = block_length(by_size @ slope_weights(n_params), horizon)
    point, draws = size_losses(losses, block)
    change, p = slope(point, draws, n_params)
    return SizeEffect(
        days=len(losses[0]),
        seeds=[each.shape[1] for each in losses],
        slope=change,
        slope_p=p,
        power_law=power_law(point, draws, n_params),
    )


def size_losses(losses: Sequence[np.ndarray], block: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss of each size, for the sample and for every draw of days and seeds.

    Parameters
    ----------
    losses
        For each size the daily losses of its seeds on the same days, shape (days, seeds).
    block
        Mean block length in days.

    Returns
    -------
    Shapes (sizes,) and (10000, sizes).
    """
    random = np.random.default_rng(SEED)
    columns = []
    for of_size in losses:
        seeds = of_size.shape[1]
        by_seed = np.column_stack([_drawn_means(alone, block) for alone in of_size.T])
        shares = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds
        columns.append((by_seed * shares).sum(axis=1))
    return np.array([of_size.mean() for of_size in losses]), np.column_stack(columns)


def _drawn_means(daily: np.ndarray, block: int) -> np.ndarray:
    return drawn(lambda days: {"mean": mean(days, daily)}, len(daily), block)["mean"]


def slope(point: np.ndarray, draws: np.ndarray, n_params: np.ndarray) -> tuple[Estimate, float]:
    """Return the change of the loss per tenfold N by least squares, and its p-value.

    Parameters
    ----------
    point, draws
        As `size_losses` returns them, of at least two sizes.
    n_params
        Counted parameters, shape (sizes,).
    """
    weights = slope_weights(n_params)
    of_draws = draws @ weights
    return Estimate.of(point @ weights, of_draws), p_value(of_draws)


def power_law(point: np.ndarray, draws: np.ndarray, n_params: np.ndarray) -> PowerLaw:
    """Return the fit of E + A (N / N0)^-alpha, N0 the middle size, with intervals.

    For each exponent of a grid E and A follow by least squares; the best exponent is kept. Four
    sizes are needed to test the fit of the three constants.

    Parameters
    ----------
    point, draws, n_params
        As in `slope`.
    """
    sizes = len(point)
    if sizes < 3:
        says = f"three constants cannot be fitted to {sizes} size{'s' * (sizes != 1)}"
        return PowerLaw(identified=False, says=says)
    fitted, drawn_fits = _fit(point[None], n_params), _fit(draws, n_params)
    alpha, floor, scale = (
        Estimate.of(value[0], of_draws) for value, of_draws in zip(fitted, drawn_fits, strict=True)
    )
    falls = scale.low > 0
    inside = EXPONENTS[0] < alpha.low and alpha.high < EXPONENTS[-1]
    identified = bool(falls and inside and sizes > 3)
    if identified:
        says = (
            f"alpha is {alpha.value:.2f} [{alpha.low:.2f}, {alpha.high:.2f}] and the "
            f"loss would level off at {floor.value:.3f} [{floor.low:.3f}, {floor.high:.3f}]"
        )
    elif not falls:
        reason = "the loss is not known to fall with size at all"
    elif sizes == 3:
        reason = "three sizes leave nothing to judge the fit by"
    else:
        reason = f"exponents from {alpha.low:.2f} to {alpha.high:.2f} fit alike"
    if not identified:
        says = f"neither the exponent nor the floor is identified: {reason}"
    return PowerLaw(identified, says, alpha, floor, scale)


def _fit(losses: np.ndarray, n_params: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return alpha, E and A for each row of losses; `(rows, sizes) -> 3 x (rows,)`."""
    middle = np.exp(np.log(n_params).mean())
    falls = (n_params / middle) ** -EXPONENTS[:, None]  # (exponents, sizes)
    centred = falls - falls.mean(axis=1, keepdims=True)
    spread = (centred**2).sum(axis=1)
    y = losses - losses.mean(axis=1, keepdims=True)
    scale = y @ centred.T / spread  # (rows, exponents)
    best = np.argmax(scale**2 * spread, axis=1)  # largest explained variance
    rows = np.arange(len(losses))
    chosen = scale[rows, best]
    floor = losses.mean(axis=1) - chosen * falls.mean(axis=1)[best]
    return EXPONENTS[best], floor, chosen
