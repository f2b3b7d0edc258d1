"""Budget honesty: count a PatchTST's parameters exactly and solve d_ff for a budget."""

import math

from patchscale.study.errors import InputError
from patchscale.study.params import Precision, Window

TOLERANCE = 0.02
D_FF_MULTIPLE = 8
D_FF_RATIO = (1, 8)
WIDEST = 4096
BYTES_PER_WEIGHT: dict[Precision, int] = {"32-true": 16, "bf16-mixed": 20, "bf16-true": 8}
"""Weights, gradients and both moments; under autocast also the weights' bfloat16 copies."""


def count_params(
    *, n_features: int, patch_length: int, n_patches: int, d_model: int, n_layers: int, d_ff: int
) -> int:
    """Return N, the exact number of trainable parameters.

    Patch embedding + positions + layers (4 attention projections, 2 LayerNorms, feed-forward,
    all with biases) + final LayerNorm + linear head on the flattened patches.
    """
    embedding = patch_length * n_features * d_model + d_model + n_patches * d_model
    layer = 4 * d_model**2 + 8 * d_model + 2 * d_model * d_ff + d_ff + d_model
    head = 2 * d_model + n_patches * d_model + 1
    return embedding + n_layers * layer + head


def input_size(window: Window, n_features: int) -> dict[str, int]:
    """Return what the input of a model adds to its shape, by the names of `count_params`."""
    patches = {"patch_length": window.patch_length, "n_patches": window.n_patches}
    return {"n_features": n_features, **patches}


def same_proportions(
    budget: int,
    *,
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_ff: int,
    n_features: int,
    patch_length: int,
    n_patches: int,
) -> dict[str, int]:
    """Return the shape of `budget` parameters whose proportions are nearest to the given shape's.

    Heads keep their width. Depth relative to width, and feed-forward relative to width, are as
    near as whole numbers allow, on a logarithmic scale.

    Raises
    ------
    InputError
        No shape of this kind has the budget's count within 2 %.
    """
    head = d_model // n_heads
    aspect, ratio = n_layers / d_model, d_ff / d_model
    for reach in (1, 2, 4):  # layers away from the proportion, where fewer leave no shape
        found: list[tuple[float, dict[str, int]]] = []
        for width in range(head, WIDEST + 1, head):
            nearest = round(aspect * width)
            for depth in range(max(1, nearest - reach), nearest + reach + 1):
                size = {
                    "n_features": n_features,
                    "patch_length": patch_length,
                    "n_patches": n_patches,
                    "d_model": width,
                    "n_layers": depth,
                }
                try:
                    solved = solve_d_ff(budget, **size)
                except InputError:
                    continue
                shape = {"d_model": width, "n_layers": depth, "n_heads": width // head}
                shape |= {"d_ff": solved, "n_params": count_params(**size, d_ff=solved)}
                off = math.log(depth / width / aspect), math.log(solved / width / ratio)
                found.append((abs(off[0]) + abs(off[1]), shape))
        if found:
            return min(found, key=lambda each: each[0])[1]
    raise InputError(
        f"no shape with heads {head} wide and {n_features} features has {budget:,} parameters "
        f"within {TOLERANCE:.0%}; a smaller features.tier or a larger budget has one"
    )


def solve_d_ff(
    budget: int,
    *,
    n_features: int,
    patch_length: int,
    n_patches: int,
    d_model: int,
    n_layers: int,
) -> int:
    """Return the d_ff (a multiple of 8) whose count is nearest to `budget`.

    Raises
    ------
    InputError
        No d_ff between 1 and 8 times d_model brings the count within 2 % of the budget.
    """

    def count(d_ff: int) -> int:
        return count_params(
            n_features=n_features,
            patch_length=patch_length,
            n_patches=n_patches,
            d_model=d_model,
            n_layers=n_layers,
            d_ff=d_ff,
        )

    per_unit = n_layers * (2 * d_model + 1)
    exact = (budget - count(0)) / per_unit
    d_ff = max(D_FF_MULTIPLE, D_FF_MULTIPLE * round(exact / D_FF_MULTIPLE))
    low, high = (ratio * d_model for ratio in D_FF_RATIO)
    if not low <= d_ff <= high or abs(count(d_ff) / budget - 1) > TOLERANCE:
        raise InputError(
            f"d_model={d_model}, n_layers={n_layers} has no d_ff for a budget of {budget:,}: "
            f"{exact:.0f} would be needed, allowed are multiples of 8 in [{low}, {high}] "
            f"within {TOLERANCE:.0%} of the budget (reachable: {count(low):,} to {count(high):,})"
        )
    return d_ff
