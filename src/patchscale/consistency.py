"""What the keys of params.yaml say of each other."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale.errors import InputError

if TYPE_CHECKING:
    from patchscale.config import Dataset, Params


def check_names(params: "Params", path: Path) -> None:
    """Raise InputError, one line, where one key contradicts another."""
    searches = [f"{budget}-{name}" for budget in params.budgets for name in params.study.searched]
    by_budget: dict[str, Collection[str]] = {
        "study.search": params.study.search,
        "study.train": params.study.train,
        "train.seeds": params.train.seeds,
        "train.processes": params.train.processes,
        "train.threads": params.train.threads,
        "train.precision": params.train.precision,
    }
    named: list[tuple[str, str, Collection[str]]] = [
        ("dataset", params.dataset, params.datasets),
        ("model.budget", params.model.budget, params.budgets),
        ("model.horizon", params.model.horizon, params.horizons),
        *(("study.searched", name, params.horizons) for name in params.study.searched),
        *(("study.publish_weights", name, params.budgets) for name in params.study.publish_weights),
        *(
            (f"{key}.{name}", name, params.budgets)
            for key, table in by_budget.items()
            for name in table
        ),
        *((f"cells.{name}.search", cell.search, searches) for name, cell in params.cells.items()),
    ]
    for key, value, allowed in named:
        if value not in allowed:
            raise InputError(f"{path}: {key}: {value!r} is unknown; allowed: {', '.join(allowed)}")
    for key, table in by_budget.items():
        for name in params.budgets:
            if name not in table:
                raise InputError(f"{path}: {key}.{name}: missing; the table has one row per budget")
    tier, tiers = params.features.tier, params.features.tiers
    if tier not in tiers:
        raise InputError(
            f"{path}: features.tier: {tier!r} is not in features.tiers; allowed: "
            f"{', '.join(tiers)}, and what is added there: -S 'features.tiers=[{tier}]'"
        )
    for name in params.study.publish_weights:
        if not params.study.train[name]:
            raise InputError(
                f"{path}: study.publish_weights: {name!r} has no weights; set study.train.{name}"
            )
    wanted = [f"{budget}-{horizon}" for budget in params.budgets for horizon in params.horizons]
    for name in sorted(set(wanted) ^ set(params.cells)):
        raise InputError(
            f"{path}: cells.{name}: {'missing' if name in wanted else 'unknown'}; "
            f"the table has one row per budget and horizon"
        )
    for name, cell in params.cells.items():
        if f"{cell.budget}-{cell.horizon}" != name:
            raise InputError(
                f"{path}: cells.{name}: budget and horizon are {cell.budget}, {cell.horizon}; "
                f"the row's name says otherwise"
            )
        if cell.d_model % cell.n_heads:
            raise InputError(
                f"{path}: cells.{name}.n_heads: {cell.n_heads} does not divide "
                f"d_model {cell.d_model}"
            )
    for name in searches:
        if params.trials_of(params.cells[name].budget):
            _check_first_trial(params, name, path)
    for name, data in params.datasets.items():
        _check_dataset(data, f"{path}: datasets.{name}")
    if params.model.context_length > params.split.longest_context:
        raise InputError(
            f"{path}: model.context_length: {params.model.context_length} is longer than "
            f"split.longest_context {params.split.longest_context}, for which the dates are chosen"
        )
    if params.split.embargo < params.model.context_length:
        raise InputError(
            f"{path}: split.embargo: {params.split.embargo} is shorter than "
            f"model.context_length {params.model.context_length}"
        )
    if params.model.context_length < params.model.patch_length:
        raise InputError(
            f"{path}: model.patch_length: {params.model.patch_length} is longer than "
            f"model.context_length {params.model.context_length}"
        )


def _check_first_trial(params: "Params", name: str, path: Path) -> None:
    """Check that the table row of a search, its trial 0, lies in the space."""
    budget, space = params.cells[name].budget, params.hpo.space
    rows = {f"cells.{name}": params.cells[name], f"budgets.{budget}": params.budgets[budget]}
    for key, row in rows.items():
        for parameter in type(space).model_fields.keys() & type(row).model_fields.keys():
            value, allowed = getattr(row, parameter), getattr(space, parameter)
            is_range = parameter in ("lr", "weight_decay", "dropout")
            if not (allowed[0] <= value <= allowed[1] if is_range else value in allowed):
                words = (" to " if is_range else ", ").join(map(str, allowed))
                raise InputError(
                    f"{path}: {key}.{parameter}: {value} is trial 0 of a search and outside "
                    f"hpo.space.{parameter}; allowed: {words}"
                )


def _check_dataset(data: "Dataset", key: str) -> None:
    """Check what one key of a data set says of another."""
    if data.source == "csv" and not data.path:
        raise InputError(f"{key}.path: empty; a CSV file is needed")
    if data.source == "csv" and bool(data.volatility) != bool(data.volatility_path):
        raise InputError(
            f"{key}: volatility is {data.volatility!r} and volatility_path is "
            f"{data.volatility_path!r}; needed are both or neither"
        )
    if data.source == "arch" and data.volatility:
        raise InputError(
            f"{key}.volatility: {data.volatility!r} is not allowed; "
            f"arch has no volatility index, only yahoo and csv may have one"
        )
    if data.volatility.removeprefix("^") == data.series.removeprefix("^"):
        raise InputError(f"{key}.volatility: {data.volatility!r} is the price series itself")
    if not data.start < data.validation_from < data.test_from < data.end:
        raise InputError(
            f"{key}: needed is start < validation_from < test_from < end, found "
            f"{data.start}, {data.validation_from}, {data.test_from}, {data.end}"
        )
