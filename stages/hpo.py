"""Search a cell's architecture and settings, or hand on the row of the tables.

Labels of test dates are never loaded here. Torch and Optuna are imported only for a search.
"""

import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from patchscale.model.size import count_params, input_size, solve_d_ff
from patchscale.study import paths
from patchscale.study.files import write_arrow, write_csv, write_json, write_text
from patchscale.study.params import Best, Params, load_params, load_space
from patchscale.study.stage import code_of, max_hours, run
from patchscale.study.tables import read_kinds

if TYPE_CHECKING:
    import optuna

    from patchscale.hpo.space import Architectures
    from patchscale.train.inputs import Inputs


def main(cell: str) -> None:
    """Search the cell, or write the row of the tables as its result."""
    params = load_params()
    row = params.cells[cell]
    size = input_size(params.window, len(read_kinds(paths.kinds(params.features.tier))))
    first = first_trial(params, cell, size)
    if params.trials_of(row.budget):
        search_cell(params, first, size)
    else:
        write_best(first)
        write_json(paths.hpo_metrics(cell), {"trials": 0})


def first_trial(params: Params, cell: str, size: dict[str, int]) -> Best:
    """Return trial 0: the row of the tables, with the feed-forward width of its budget."""
    row = params.cells[cell]
    budget = params.budgets[row.budget]
    shape = {"d_model": row.d_model, "n_layers": row.n_layers}
    d_ff = solve_d_ff(budget.n_params, **size, **shape)
    return Best(
        cell=cell,
        trial=0,
        n_params=count_params(**size, **shape, d_ff=d_ff),
        d_model=row.d_model,
        n_layers=row.n_layers,
        n_heads=row.n_heads,
        d_ff=d_ff,
        **budget.start.model_dump(),
    )


def search_cell(params: Params, first: Best, size: dict[str, int]) -> None:
    """Search a cell and write the results; resume a search that was stopped."""
    from patchscale.hpo.space import distributions, shapes
    from patchscale.hpo.study import search
    from patchscale.hpo.trials import evaluator, refuse_long_search
    from patchscale.runtime.checkpoint import resume_path
    from patchscale.runtime.lockfile import file_lock
    from patchscale.train.inputs import read_inputs

    cell, rules, space = first.cell, params.hpo, load_space()
    inputs = read_inputs(params, cell, first, division="scattered")
    n_params = params.budgets[params.cells[cell].budget].n_params
    allowed = shapes(space, n_params, **size)
    drawn = distributions(space, allowed)
    folder = resume_path(f"hpo-{cell}-{identity(params, first, inputs)}")
    with file_lock(resume_path(f"hpo-{cell}.lock")):
        if not any(folder.glob("trial-*.json")):
            refuse_long_search(params, first, inputs, folder, max_hours())
        start = first.model_dump(include=set(drawn))
        with evaluator(params, first, inputs, allowed, folder) as (evaluate, report):
            study = search(cell, drawn, allowed, start, rules, evaluate, folder, report)
        write_results(params, cell, study, inputs, allowed, folder)
        shutil.rmtree(folder)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a search."""
    return {"optuna": version("optuna"), "torch": version("torch").split("+")[0]}


def identity(params: Params, first: Best, inputs: "Inputs") -> str:
    """Return a hash of all that determines a search, except its number of trials."""
    from patchscale.runtime.checkpoint import fingerprint
    from patchscale.train.settings import settings_for

    row = params.cells[first.cell]
    run = params.budgets[row.budget].run
    settings = settings_for(first, params.train, run.precision, len(inputs.train.rows))
    facts = {
        "first": first.model_dump(),
        "rules": params.hpo.model_dump(exclude={"trials"}),
        "space": load_space().model_dump(),
        "window": params.window.model_dump(),
        "settings": asdict(settings),
        "threads": run.threads,
        "versions": versions(),
    }
    sources = [paths.features(params.features.tier), paths.split(row.horizon)]
    return fingerprint(facts, sources + code_of("hpo"))


def write_results(
    params: Params,
    cell: str,
    study: "optuna.Study",
    inputs: "Inputs",
    allowed: "Architectures",
    folder: Path,
) -> None:
    """Write the best settings, the tables of trials, the journal and the figures of a search."""
    from patchscale.hpo.results import (
        costs_table,
        history,
        importances,
        summary,
        trials_table,
        without_clock,
    )
    from patchscale.hpo.trials import candidate

    table = trials_table(study)
    figures = summary(table, inputs)
    number = figures["best_trial"]
    best = candidate(params, cell, number, study.trials[number].params, allowed)
    origin: dict[str, Any] = {
        "score": figures["val_log_loss"],
        "best_score": figures["lowest_val_log_loss"],
        "standard_error": figures["standard_error"],
        "seed": params.hpo.seed,
        "versions": versions(),
    }
    write_best(best.model_copy(update=origin))
    write_arrow(paths.hpo(cell, "trials.arrow"), table)
    write_arrow(paths.costs(cell), costs_table(study))
    write_csv(paths.hpo(cell, "history.csv"), history(table))
    write_csv(paths.hpo(cell, "importance.csv"), importances(study))
    journal = (folder / "study.journal").read_text(encoding="utf-8")
    write_text(paths.hpo(cell, "study.journal"), without_clock(journal))
    write_json(paths.hpo_metrics(cell), figures)


def write_best(best: Best) -> None:
    """Write the settings that a cell trains with."""
    text = yaml.safe_dump(best.model_dump(exclude_none=True), sort_keys=False)
    write_text(paths.best(best.cell), text)


if __name__ == "__main__":
    run(main)
