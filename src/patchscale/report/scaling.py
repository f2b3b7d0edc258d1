"""How the loss changes with the number of parameters, and how cells compare with the baselines.

What is drawn again are blocks of days, the same for all, and the seeds of each size. Replicates are
seeds, never trials or days.
"""

from collections.abc import Iterator, Sequence
from math import factorial, prod
from typing import Any

import numpy as np

from patchscale.backtest.bootstrap import DRAWS, SEED, drawn, interval, mean, p_value

Figures = dict[str, Any]
EXPONENTS = np.geomspace(0.02, 2.0, 47)
"""Exponents tried for the power law: from a loss that hardly falls to one that falls at once."""


def size_losses(losses: Sequence[np.ndarray], horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each size's mean loss, and the same in every draw of days and seeds.

    Parameters
    ----------
    losses
        For each size the daily losses of its seeds on the same days, shape (days, seeds).
    horizon
        Sets the mean block.

    Returns
    -------
    Shapes (sizes,) and (10000, sizes).
    """
    random = np.random.default_rng(SEED)
    columns = []
    for of_size in losses:
        seeds = of_size.shape[1]
        by_seed = np.column_stack([_drawn_means(alone, horizon) for alone in of_size.T])
        shares = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds
        columns.append((by_seed * shares).sum(axis=1))
    return np.array([of_size.mean() for of_size in losses]), np.column_stack(columns)


def _drawn_means(daily: np.ndarray, horizon: int) -> np.ndarray:
    return drawn(lambda days: {"mean": mean(days, daily)}, len(daily), horizon)["mean"]


def slope(point: np.ndarray, draws: np.ndarray, n_params: np.ndarray) -> Figures:
    """Return the change of the loss per tenfold N: least squares, interval and p of zero.

    Parameters
    ----------
    point, draws
        As `size_losses` returns them, of at least two sizes.
    n_params
        Counted parameters, shape (sizes,).
    """
    x = np.log10(n_params)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    of_draws = draws @ weights
    low, high = interval(of_draws) or (None, None)
    return {
        "slope": float(point @ weights),
        "slope_low": low,
        "slope_high": high,
        "slope_p": p_value(of_draws),
    }


def trend(losses: Sequence[np.ndarray]) -> Figures:
    """Return the Jonckheere-Terpstra test that losses are ordered by size.

    Parameters
    ----------
    losses
        For each size, ascending, the mean loss of each seed; shape (seeds,).

    Returns
    -------
    `trend`, from -1 (every seed of a bigger size has the lower loss) to 1; `trend_p`, two-sided,
    over all ways to deal the losses to the sizes (10,000 random ones if there are more); and
    `trend_least_p`, the smallest p that so few seeds can give.

    References
    ----------
    Jonckheere (1954), "A Distribution-Free k-Sample Test Against Ordered Alternatives", Biometrika.
    """
    loss = np.concatenate(losses)
    size = np.repeat(np.arange(len(losses)), [len(each) for each in losses])
    deals = factorial(len(loss)) // prod(factorial(len(each)) for each in losses)
    if deals <= DRAWS:
        dealt = np.array(list(_arrangements(size.tolist())))
    else:
        dealt = np.random.default_rng(SEED).permuted(np.tile(size, (DRAWS, 1)), axis=1)
        dealt[0] = size
    above = np.sign(loss[:, None] - loss)
    agreement = (np.sign(dealt[:, :, None] - dealt[:, None, :]) * above).sum(axis=(1, 2))
    pairs = np.sign(abs(size[:, None] - size)).sum()
    found = (np.sign(size[:, None] - size) * above).sum()
    return {
        "trend": float(found / pairs),
        "trend_p": float((abs(agreement) >= abs(found)).mean()),
        "trend_least_p": min(1.0, 2 / deals),
    }


def _arrangements(values: list[int]) -> Iterator[list[int]]:
    """Yield the distinct orders of the values."""
    if not values:
        yield []
    for first in sorted(set(values)):
        rest = values.copy()
        rest.remove(first)
        for others in _arrangements(rest):
            yield [first, *others]


def power_law(point: np.ndarray, draws: np.ndarray, n_params: np.ndarray) -> Figures:
    """Return the fit of E + A (N / N0)^-alpha, N0 the middle size, with intervals.

    For each exponent of a grid E and A follow by least squares; the best exponent is kept. Needs
    more sizes than the three constants to leave anything to judge the fit by.

    Parameters
    ----------
    point, draws, n_params
        As in `slope`.

    Returns
    -------
    `alpha`, `floor` (E, the loss of an infinite model) and `scale` (A), each with its interval,
    `identified` and `says`, the sentence that says what is known; only the last two where
    nothing can be fitted.
    """
    sizes = len(point)
    if sizes < 3:
        return {
            "identified": False,
            "says": f"three constants cannot be fitted to {sizes} size{'s' * (sizes != 1)}",
        }
    names = ("alpha", "floor", "scale")
    fitted = dict(zip(names, _fit(point[None], n_params), strict=True))
    resampled = dict(zip(names, _fit(draws, n_params), strict=True))
    row: Figures = {}
    for name in names:
        low, high = interval(resampled[name]) or (None, None)
        row |= {name: float(fitted[name][0]), f"{name}_low": low, f"{name}_high": high}
    falls = row["scale_low"] > 0
    inside = EXPONENTS[0] < row["alpha_low"] and row["alpha_high"] < EXPONENTS[-1]
    row["identified"] = bool(falls and inside and sizes > 3)
    row["says"] = (
        f"alpha is {row['alpha']:.2f} [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}] and the "
        f"loss would level off at {row['floor']:.3f} [{row['floor_low']:.3f}, "
        f"{row['floor_high']:.3f}]"
        if row["identified"]
        else "neither the exponent nor the floor is identified: "
        + (
            "the loss is not known to fall with size at all"
            if not falls
            else "three sizes leave nothing to judge the fit by"
            if sizes == 3
            else f"exponents from {row['alpha_low']:.2f} to {row['alpha_high']:.2f} fit alike"
        )
    )
    return row


def _fit(losses: np.ndarray, n_params: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return alpha, E and A for each row of losses; `(rows, sizes) -> 3 x (rows,)`."""
    middle = np.exp(np.log(n_params).mean())
    falls = (n_params / middle) ** -EXPONENTS[:, None]  # (exponents, sizes)
    centred = falls - falls.mean(axis=1, keepdims=True)
    spread = (centred**2).sum(axis=1)
    y = losses - losses.mean(axis=1, keepdims=True)
    scale = y @ centred.T / spread  # (rows, exponents)
    best = np.argmax(scale**2 * spread, axis=1)  # what the fit explains
    rows = np.arange(len(losses))
    chosen = scale[rows, best]
    floor = losses.mean(axis=1) - chosen * falls.mean(axis=1)[best]
    return EXPONENTS[best], floor, chosen
