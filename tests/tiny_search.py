"""A search of tiny models that tests share; apart from tiny.py, for it imports Optuna."""

from pathlib import Path

import optuna
from tiny import N_PARAMS, ROW, SIZE, SPACE, problem, tiny_params

from patchscale.hpo.space import distributions, shapes
from patchscale.hpo.study import search
from patchscale.hpo.trials import candidate, evaluator
from patchscale.study.params import Best, Params
from patchscale.train.inputs import Inputs

PRUNING = {"percentile": 50.0, "startup": 2}
PARAMS = tiny_params()
ALLOWED = shapes(SPACE, N_PARAMS, **SIZE)


def best_of(number: int = 0, params: Params = PARAMS, **changes: object) -> Best:
    """Return what trial `number` trains with."""
    return candidate(params, "tiny-h1", number, ROW | changes, ALLOWED)


def run(folder: Path, params: Params = PARAMS, inputs: Inputs | None = None) -> optuna.Study:
    """Search in a folder, or go on with what it keeps."""
    inputs = inputs or problem()
    space = distributions(SPACE, ALLOWED)
    with evaluator(params, best_of(params=params), inputs, ALLOWED, folder) as (evaluate, report):
        return search("tiny-h1", space, ALLOWED, ROW, params.hpo, evaluate, folder, report)
