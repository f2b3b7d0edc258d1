"""Stage check: refuse parameters that contradict each other.

`study.params` checks the type of each key. This module checks what keys say of each other, in
params.yaml, grid.yaml and space.yaml, before any stage touches an output.
"""

import os
from collections.abc import Collection
from pathlib import Path

from patchscale.features.tiers import TIERS, tier_features
from patchscale.model.size import BYTES_PER_WEIGHT, solve_d_ff
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, Params, Space

SAMPLES_OF_AN_EPOCH = 4000
RANGES = ("lr", "weight_decay", "dropout")


def check(params: Params, space: Space) -> None:
    """Raise InputError, one line with key, value and what is allowed, at the first contradiction.

    Parameters
    ----------
    params, space
        As `load_params` and `load_space` return them.
    """
    check_names(params)
    check_grid(params)
    check_windows(params)
    for name, data in params.datasets.items():
        check_dataset(data, f"datasets.{name}")
    check_tiers(params)
    check_first_trials(params, space)
    check_sizes(params)
    check_trained(params)


def refuse(key: str, problem: str, file: Path = paths.PARAMS) -> InputError:
    """Return the error that names a key and what is wrong with it."""
    return InputError(f"{file}: {key}: {problem}")


def check_names(params: Params) -> None:
    """Refuse a name that stands for nothing."""
    searches = [f"{budget}-{name}" for budget in params.budgets for name in params.searches]
    named: list[tuple[Path, str, str, Collection[str]]] = [
        (paths.PARAMS, "dataset", params.dataset, params.datasets),
        (paths.PARAMS, "model.budget", params.model.budget, params.budgets),
        (paths.PARAMS, "model.horizon", params.model.horizon, params.horizons),
        *((paths.PARAMS, "publish", name, params.budgets) for name in params.publish),
        *((paths.GRID, "searches", name, params.horizons) for name in params.searches),
        *(
            (paths.GRID, f"cells.{name}.search", cell.search, searches)
            for name, cell in params.cells.items()
        ),
    ]
    for file, key, value, allowed in named:
        if value not in allowed:
            raise refuse(key, f"{value!r} is unknown; allowed: {', '.join(allowed)}", file)


def check_grid(params: Params) -> None:
    """Refuse a grid without one row for each budget and horizon."""
    wanted = [f"{budget}-{horizon}" for budget in params.budgets for horizon in params.horizons]
    for name in sorted(set(wanted) ^ set(params.cells)):
        problem = "missing" if name in wanted else "unknown"
        one_each = "the table has one row per budget and horizon"
        raise refuse(f"cells.{name}", f"{problem}; {one_each}", paths.GRID)
    for name, cell in params.cells.items():
        if f"{cell.budget}-{cell.horizon}" != name:
            found = f"budget and horizon are {cell.budget}, {cell.horizon}"
            raise refuse(f"cells.{name}", f"{found}; the row's name says otherwise", paths.GRID)
        if cell.d_model % cell.n_heads:
            problem = f"{cell.n_heads} does not divide d_model {cell.d_model}"
            raise refuse(f"cells.{name}.n_heads", problem, paths.GRID)


def check_windows(params: Params) -> None:
    """Refuse a window that the split or its own patches do not fit."""
    window, split = params.window, params.split
    if window.context_length > split.longest_context:
        raise refuse(
            "window.context_length",
            f"{window.context_length} is longer than split.longest_context "
            f"{split.longest_context}, for which the dates are chosen",
        )
    if split.embargo < window.context_length:
        raise refuse(
            "split.embargo",
            f"{split.embargo} is shorter than window.context_length {window.context_length}",
        )
    if window.context_length < window.patch_length:
        raise refuse(
            "window.patch_length",
            f"{window.patch_length} is longer than window.context_length {window.context_length}",
        )


def check_dataset(data: Dataset, key: str) -> None:
    """Refuse a data set whose own keys contradict each other."""
    if data.source == "csv":
        if not data.path:
            raise refuse(f"{key}.path", "empty; a CSV file is needed")
        if bool(data.volatility) != bool(data.volatility_path):
            raise refuse(
                key,
                f"volatility is {data.volatility!r} and volatility_path is "
                f"{data.volatility_path!r}; needed are both or neither",
            )
    if data.source == "arch" and data.volatility:
        raise refuse(
            f"{key}.volatility",
            f"{data.volatility!r} is not allowed; "
            f"arch has no volatility index, only yahoo and csv may have one",
        )
    if data.volatility.removeprefix("^") == data.series.removeprefix("^"):
        raise refuse(f"{key}.volatility", f"{data.volatility!r} is the price series itself")
    if not data.start < data.validation_from < data.test_from < data.end:
        raise refuse(
            key,
            f"needed is start < validation_from < test_from < end, found "
            f"{data.start}, {data.validation_from}, {data.test_from}, {data.end}",
        )


def check_tiers(params: Params) -> None:
    """Refuse a tier that does not exist, is not computed, or lacks its volatility index."""
    tier, tiers, data = params.features.tier, params.features.tiers, params.data
    if tier not in tiers:
        raise refuse(
            "features.tier",
            f"{tier!r} is not in features.tiers; allowed: {', '.join(tiers)}, "
            f"and what is added there: -S 'features.tiers=[{tier}]'",
        )
    for name in tiers:
        if name not in TIERS:
            raise refuse("features.tiers", f"{name!r} is unknown; allowed: {', '.join(TIERS)}")
        if name.endswith("c") and not data.volatility:
            raise refuse(
                "features.tiers",
                f"{name!r} needs a volatility index; data set {params.dataset} has none "
                f"(datasets.{params.dataset}.volatility)",
            )
    if data.source == "csv":
        for key in ("path", "volatility_path"):
            named = getattr(data, key)
            if named and paths.INPUTS not in Path(os.path.normpath(named)).parents:
                raise refuse(
                    f"datasets.{params.dataset}.{key}",
                    f"{named!r} is outside {paths.INPUTS}/, the only folder where DVC sees changes",
                )


def check_first_trials(params: Params, space: Space) -> None:
    """Refuse a search whose trial 0, the row of the tables, lies outside the space."""
    for name, cell in params.cells.items():
        if cell.horizon not in params.searches or not params.trials_of(cell.budget):
            continue
        budget = params.budgets[cell.budget]
        for file, key, row in (
            (paths.GRID, f"cells.{name}", cell),
            (paths.PARAMS, f"budgets.{cell.budget}.start", budget.start),
        ):
            for parameter in type(space).model_fields.keys() & type(row).model_fields.keys():
                value, allowed = getattr(row, parameter), getattr(space, parameter)
                is_range = parameter in RANGES
                if not (allowed[0] <= value <= allowed[1] if is_range else value in allowed):
                    words = (" to " if is_range else ", ").join(map(str, allowed))
                    raise refuse(
                        f"{key}.{parameter}",
                        f"{value} is trial 0 of a search and outside {paths.SPACE}: {parameter}; "
                        f"allowed: {words}",
                        file,
                    )


def check_sizes(params: Params) -> None:
    """Refuse a cell that no feed-forward width brings to its budget."""
    n_features = len(tier_features(params.features.tier))
    for name, cell in params.cells.items():
        try:
            solve_d_ff(
                params.budgets[cell.budget].n_params,
                n_features=n_features,
                patch_length=params.window.patch_length,
                n_patches=params.window.n_patches,
                d_model=cell.d_model,
                n_layers=cell.n_layers,
            )
        except InputError as error:
            raise refuse(f"cells.{name}", str(error), paths.GRID) from None


def check_trained(params: Params) -> None:
    """Refuse to show or to publish a budget that is not trained."""
    for name in params.publish:
        if not params.budgets[name].trained:
            raise refuse("publish", f"{name!r} has no weights; set budgets.{name}.trained")
    shown = params.model.budget
    budget = params.budgets[shown]
    if not budget.trained:
        memory = BYTES_PER_WEIGHT[budget.run.precision] * budget.n_params / 2**30
        tokens = params.window.n_patches * SAMPLES_OF_AN_EPOCH
        raise refuse(
            "model.budget",
            f"{shown} is not trained in this study; each of its cells would need {memory:.0f} GiB "
            f"and activations, and about {6 * budget.n_params * tokens / 1e12:,.0f} TFLOP an "
            f"epoch; allow it with -S 'budgets={{{shown}: {{trained: true}}}}'",
        )
