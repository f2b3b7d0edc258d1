"""Search space of a budget: its architectures, the distributions, and the sampler."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from patchscale.model.size import count_params, solve_d_ff
from patchscale.study.errors import InputError
from patchscale.study.params import Hpo, Space

TrialParams = dict[str, Any]
"""Parameters of a trial by name."""
Architectures = Mapping[tuple[int, int], tuple[int, int]]
"""d_ff and N of every (d_model, n_layers) that a budget allows."""


def shapes(
    space: Space, n_params: int, *, n_features: int, patch_length: int, n_patches: int
) -> Architectures:
    """Return the architectures of the space that have `n_params` parameters within 2 %."""
    found = {}
    for d_model in space.d_model:
        for n_layers in space.n_layers:
            size = {
                "n_features": n_features,
                "patch_length": patch_length,
                "n_patches": n_patches,
                "d_model": d_model,
                "n_layers": n_layers,
            }
            try:
                d_ff = solve_d_ff(n_params, **size)
            except InputError:
                continue
            found[d_model, n_layers] = d_ff, count_params(**size, d_ff=d_ff)
    return found


def distributions(space: Space, allowed: Architectures) -> dict[str, BaseDistribution]:
    """Return the distribution of every parameter, the same for all trials of a study."""
    widths, depths = (sorted({shape[side] for shape in allowed}) for side in (0, 1))

    def between(ends: list[float], *, log: bool) -> FloatDistribution:
        return FloatDistribution(ends[0], ends[1], log=log)

    return {
        "d_model": CategoricalDistribution(widths),
        "n_layers": CategoricalDistribution(depths),
        "n_heads": CategoricalDistribution(space.n_heads),
        "lr": between(space.lr, log=True),
        "weight_decay": between(space.weight_decay, log=True),
        "dropout": between(space.dropout, log=False),
        "epochs": CategoricalDistribution(space.epochs),
    }


class BudgetSampler(TPESampler):
    """TPE that repeats a draw until the budget allows its architecture.

    Width and depth remain two ordinary parameters for sampler, importance and dashboard, although
    a budget allows only some pairs of them.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], allowed: Architectures, rules: Hpo
    ) -> None:
        super().__init__(
            n_startup_trials=rules.startup,
            multivariate=True,
            constant_liar=True,
            seed=rules.seed,
        )
        self._space, self._allowed = space, allowed
        self._startup = RandomSampler(seed=rules.seed)
        self._single = {
            name: distribution.choices[0]
            for name, distribution in space.items()
            if isinstance(distribution, CategoricalDistribution) and distribution.single()
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space, from the first trial on."""
        return {name: each for name, each in self._space.items() if not each.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> TrialParams:
        """Return an allowed draw: random in the start-up trials, by TPE afterwards."""
        while True:
            drawn = super().sample_relative(study, trial, search_space) or {
                name: self._startup.sample_independent(study, trial, name, each)
                for name, each in search_space.items()
            }
            if is_allowed(self._single | drawn, self._allowed):
                return drawn


def is_allowed(params: TrialParams, allowed: Architectures) -> bool:
    """Tell whether the budget allows the architecture and its heads divide its width."""
    shape = params["d_model"], params["n_layers"]
    return shape in allowed and params["d_model"] % params["n_heads"] == 0
