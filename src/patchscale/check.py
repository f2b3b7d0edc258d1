"""Stage check: refuse parameters that contradict each other.

`study.params` checks the type of each key. This module checks rules between keys of params.yaml,
grid.yaml and space.yaml, before any stage touches an output.
"""

import os
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path

from patchscale.features.tiers import TIERS, WARM_UP, tier_features
from patchscale.model.size import BYTES_PER_WEIGHT, input_size, solve_d_ff
from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.params import MOST_YEARS, Dataset, Params, Space, Split

SESSIONS_PER_YEAR = 252
"""Test years that the verdict can take; it enumerates all their sign flips."""
SAMPLES_PER_EPOCH = 3600
"""Training dates of a data set, roughly; used to estimate the cost of an untrained budget."""


def check(params: Params, space: Space) -> None:
    """Check all rules between keys.

    Parameters
    ----------
    params, space
        As `load_params` and `load_space` return them.

    Raises
    ------
    InputError
        One line for the first rule that is broken: file, key, value and what is allowed.
    """
    _check_names(params)
    _check_grid(params)
    _check_window(params)
    for name, data in params.datasets.items():
        _check_dataset(data, f"datasets.{name}")
        _check_range(data, params.split, f"datasets.{name}.walk")
    _check_years(params)
    _check_inputs(params)
    _check_tiers(params)
    _check_first_trials(params, space)
    _check_sizes(params)
    _check_transfers(params)
    _check_trained(params)


def _wrong(key: str, problem: str, file: Path = paths.PARAMS) -> InputError:
    return InputError(f"{file}: {key}: {problem}")


def _check_names(params: Params) -> None:
    """Refuse the name of a data set, budget, horizon or search that does not exist."""
    named: list[tuple[Path, str, str, Collection[str]]] = [
        (paths.PARAMS, "dataset", params.dataset, params.datasets),
        (paths.PARAMS, "model.budget", params.model.budget, params.budgets),
        (paths.PARAMS, "model.horizon", params.model.horizon, params.horizons),
        (paths.PARAMS, "hpo.base", params.hpo.base, params.budgets),
        *((paths.PARAMS, "publish", name, params.budgets) for name in params.publish),
        *((paths.GRID, "searches", name, params.horizons) for name in params.searches),
        *(
            (paths.GRID, f"cells.{name}.search", cell.search, params.searches)
            for name, cell in params.cells.items()
        ),
    ]
    for file, key, value, allowed in named:
        if value not in allowed:
            raise _wrong(key, f"{shown(value)} is unknown; allowed: {', '.join(allowed)}", file)


def _check_grid(params: Params) -> None:
    """Refuse a grid that does not have exactly one row for each budget and horizon."""
    needed = [f"{budget}-{horizon}" for budget in params.budgets for horizon in params.horizons]
    for name in needed:
        if needed.count(name) > 1:
            raise _wrong("budgets", f"two pairs of budget and horizon have the name {name}")
    for name in sorted(set(needed) ^ set(params.cells)):
        problem = "missing" if name in needed else "unknown"
        rule = "the table has one row per budget and horizon"
        raise _wrong(f"cells.{name}", f"{problem}; {rule}", paths.GRID)
    for name, cell in params.cells.items():
        if f"{cell.budget}-{cell.horizon}" != name:
            problem = f"budget {cell.budget} and horizon {cell.horizon} are not those of the name"
            raise _wrong(f"cells.{name}", problem, paths.GRID)
        if cell.d_model % cell.n_heads:
            problem = f"{cell.n_heads} does not divide d_model {cell.d_model}"
            raise _wrong(f"cells.{name}.n_heads", problem, paths.GRID)


def _check_window(params: Params) -> None:
    """Refuse a window that is longer than the split allows or shorter than its patches."""
    window, split = params.window, params.split
    if window.context_length > split.longest_context:
        raise _wrong(
            "window.context_length",
            f"{window.context_length} is longer than split.longest_context "
            f"{split.longest_context}, for which the dates are chosen",
        )
    if split.embargo < window.context_length:
        raise _wrong(
            "split.embargo",
            f"{split.embargo} is shorter than window.context_length {window.context_length}",
        )
    if window.context_length < window.patch_length:
        raise _wrong(
            "window.patch_length",
            f"{window.patch_length} is longer than window.context_length {window.context_length}",
        )


def _check_dataset(data: Dataset, key: str) -> None:
    """Refuse a data set whose own keys contradict each other."""
    if data.source == "csv":
        if not data.path:
            raise _wrong(f"{key}.path", "empty; a CSV file is needed")
        if bool(data.volatility) != bool(data.volatility_path):
            raise _wrong(
                key,
                f"volatility is {shown(data.volatility)} and volatility_path is "
                f"{shown(data.volatility_path)}; set both or neither",
            )
    if data.source == "arch" and data.volatility:
        raise _wrong(
            f"{key}.volatility",
            f"{shown(data.volatility)} is not allowed; "
            f"arch has no volatility index, only yahoo and csv may have one",
        )
    if data.volatility.removeprefix("^") == data.series.removeprefix("^"):
        raise _wrong(f"{key}.volatility", f"{shown(data.volatility)} is the price series itself")
    if not data.start < data.validation_from < data.test_from < data.end:
        raise _wrong(
            key,
            f"start < validation_from < test_from < end must hold; found "
            f"{data.start}, {data.validation_from}, {data.test_from}, {data.end}",
        )


def earliest_test_year(start: str, split: Split) -> int:
    """Return the first year that a walk can forecast, given the first day of the data.

    A test year needs the warm-up of the features, the longest context and `split.min_samples`
    training dates before its validation year.
    """
    sessions = WARM_UP + split.longest_context + split.min_samples
    ready = date.fromisoformat(start) + timedelta(days=sessions * 365.25 / SESSIONS_PER_YEAR)
    return ready.year + (2 if (ready.month, ready.day) > (1, 1) else 1)


def _check_range(data: Dataset, split: Split, key: str) -> None:
    """Refuse a range of test years that ends after the data or begins with too few before it."""
    if data.walk is None:
        return
    earliest = earliest_test_year(data.start, split)
    latest = date.fromisoformat(data.end).year
    for name, year in (("first", data.walk.first), ("last", data.walk.last)):
        if not earliest <= year <= latest:
            raise _wrong(
                f"{key}.{name}",
                f"{year} is not allowed; the data from {data.start} to {data.end} allow "
                + (f"{earliest} to {latest}" if earliest <= latest else "no year (walk: null)"),
            )


def _check_years(params: Params) -> None:
    """Refuse test years outside the range of the data set, and more than the verdict can take."""
    whole = params.data.walk
    if (count := len(params.walk_years)) > MOST_YEARS:
        raise _wrong(
            f"datasets.{params.dataset}.walk",
            f"{count} test years are not allowed; at most {MOST_YEARS}, for example from "
            f"{params.walk_years[-MOST_YEARS]}, or fewer in walk.years",
        )
    for year in params.walk.years:
        if whole is None or not whole.first <= year <= whole.last:
            allowed = f"{whole.first} to {whole.last}" if whole else "no year"
            raise _wrong(
                "walk.years",
                f"{year} is not allowed; datasets.{params.dataset}.walk allows {allowed}",
            )


def _check_inputs(params: Params) -> None:
    """Refuse files of the selected data set that lie outside the folder that DVC watches."""
    data = params.data
    if data.source != "csv":
        return
    for key, file in (("path", data.path), ("volatility_path", data.volatility_path)):
        if file and paths.INPUTS not in Path(os.path.normpath(file)).parents:
            raise _wrong(
                f"datasets.{params.dataset}.{key}",
                f"{shown(file)} is outside {paths.INPUTS}/, the only folder where DVC sees changes",
            )


def _check_tiers(params: Params) -> None:
    """Refuse a tier that does not exist, is not computed, or lacks its volatility index."""
    tier, tiers = params.features.tier, params.features.tiers
    if tier not in tiers:
        raise _wrong(
            "features.tier",
            f"{shown(tier)} is not in features.tiers; allowed: {', '.join(tiers)}, "
            f"and any tier added there: -S 'features.tiers=[{tier}]'",
        )
    for name in tiers:
        if name not in TIERS:
            raise _wrong("features.tiers", f"{shown(name)} is unknown; allowed: {', '.join(TIERS)}")
        if name.endswith("c") and not params.data.volatility:
            raise _wrong(
                "features.tiers",
                f"{shown(name)} needs a volatility index; data set {params.dataset} has none "
                f"(datasets.{params.dataset}.volatility)",
            )


def _check_first_trials(params: Params, space: Space) -> None:
    """Refuse a value of trial 0 of a search that the space does not contain."""
    for name, cell in params.cells.items():
        if cell.horizon not in params.searches or not params.trials_of(cell.budget):
            continue
        for file, key, row in (
            (paths.GRID, f"cells.{name}", cell),
            (paths.PARAMS, f"budgets.{cell.budget}.start", params.budgets[cell.budget].start),
        ):
            for parameter in type(space).model_fields.keys() & type(row).model_fields.keys():
                value = getattr(row, parameter)
                if allowed := space.refusal(parameter, value):
                    raise _wrong(
                        f"{key}.{parameter}",
                        f"{value} is part of trial 0 of a search and outside {paths.SPACE}; "
                        f"allowed: {allowed}",
                        file,
                    )


def _check_sizes(params: Params) -> None:
    """Refuse a row of the table that is used and cannot have its budget's parameter count."""
    size = input_size(params.window, len(tier_features(params.features.tier)))
    for name, cell in params.cells.items():
        budget = params.budgets[cell.budget]
        if budget.settings == "transfer":
            continue
        try:
            solve_d_ff(budget.n_params, **size, d_model=cell.d_model, n_layers=cell.n_layers)
        except InputError as error:
            raise _wrong(f"cells.{name}", str(error), paths.GRID) from None


def _check_transfers(params: Params) -> None:
    """Refuse a budget that takes its settings from one that has none of its own."""
    base = params.hpo.base
    if params.budgets[base].settings == "transfer":
        raise _wrong(
            f"budgets.{base}.settings",
            "'transfer' is not allowed for the budget of hpo.base; allowed: search, table",
        )


def _check_trained(params: Params) -> None:
    """Refuse to show or to publish a cell that is not trained, or to walk an unknown horizon."""
    for name, budget in params.budgets.items():
        if set(budget.trained) != set(params.horizons):
            problem = f"{shown(list(budget.trained))} is not allowed; its keys are the horizons: "
            raise _wrong(f"budgets.{name}.trained", problem + ", ".join(params.horizons))
        if unknown := set(budget.walk.horizons) - set(params.horizons):
            problem = f"{shown(min(unknown))} is not allowed; allowed: {', '.join(params.horizons)}"
            raise _wrong(f"budgets.{name}.walk.horizons", problem)
    for name, seeds in params.publish.items():
        budget = params.budgets[name]
        if not all(budget.trained.values()):
            raise _wrong("publish", f"{shown(name)} has no weights; set budgets.{name}.trained")
        if seeds > budget.run.seeds:
            problem = f"{seeds} seeds are more than budgets.{name}.run.seeds {budget.run.seeds}"
            raise _wrong(f"publish.{name}", problem)
    cell = f"{params.model.budget}-{params.model.horizon}"
    if cell not in params.trained_cells:
        row = params.cells[cell]
        budget = params.budgets[row.budget]
        memory = BYTES_PER_WEIGHT[budget.run.precision] * budget.n_params / 2**30
        tokens = params.window.n_patches * SAMPLES_PER_EPOCH
        raise _wrong(
            "model",
            f"{cell} is not trained in this study; it would need {memory:.0f} GiB and "
            f"activations, and about {6 * budget.n_params * tokens / 1e12:,.0f} TFLOP an epoch; "
            f"allow it with -S '{row.to_train}'",
        )
