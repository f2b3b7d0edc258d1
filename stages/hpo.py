"""Search a cell's architecture and settings; where no search is made the table row passes through.

Labels of test dates are never loaded here.
"""

import shutil
from dataclasses import asdict
from importlib.metadata import version

import yaml

from patchscale.model.size import count_params, solve_d_ff
from patchscale.study import paths
from patchscale.study.files import read_json, write_arrow, write_csv, write_json, write_text
from patchscale.study.params import Best, Params, load_params, load_space
from patchscale.study.stage import code_of, max_hours, run


def main(cell: str) -> None:
    params = load_params()
    row = params.cells[cell]
    budget = params.budgets[row.budget]
    shape = {"d_model": row.d_model, "n_layers": row.n_layers}
    size = {
        "n_features": len(read_json(paths.kinds(params.features.tier))),
        "patch_length": params.window.patch_length,
        "n_patches": params.window.n_patches,
    }
    d_ff = solve_d_ff(budget.n_params, **size, **shape)
    first = Best(
        cell=cell,
        trial=0,
        n_params=count_params(**size, **shape, d_ff=d_ff),
        d_model=row.d_model,
        n_layers=row.n_layers,
        n_heads=row.n_heads,
        d_ff=d_ff,
        epochs=params.train.epochs,
        **budget.start.model_dump(),
    )
    if params.trials_of(row.budget):
        make_search(params, first, size)
    else:
        write_best(first)
        write_json(paths.hpo_metrics(cell), {"trials": 0})


def make_search(params: Params, first: Best, size: dict[str, int]) -> None:
    """Search, and write everything that is known of it."""
    import torch

    from patchscale.hpo.results import (
        costs_table,
        history,
        importances,
        summary,
        trials_table,
        without_clock,
    )
    from patchscale.hpo.space import distributions, shapes
    from patchscale.hpo.study import search
    from patchscale.hpo.trials import candidate, evaluator, refuse_if_long
    from patchscale.runtime.checkpoint import fingerprint, resume_path
    from patchscale.runtime.lockfile import file_lock
    from patchscale.train.inputs import read_inputs
    from patchscale.train.settings import settings_for

    cell, rules = first.cell, params.hpo
    row = params.cells[cell]
    budget = params.budgets[row.budget]
    inputs = read_inputs(params, cell, first, division="scattered")
    may_draw = load_space()
    allowed = shapes(may_draw, budget.n_params, **size)
    space = distributions(may_draw, allowed)
    versions = {"optuna": version("optuna"), "torch": torch.__version__.split("+")[0]}
    facts = {
        "first": first.model_dump(),
        "rules": rules.model_dump(exclude={"trials"}),
        "space": may_draw.model_dump(),
        "window": params.window.model_dump(),
        "settings": asdict(
            settings_for(first, params.train, budget.run.precision, len(inputs.train.rows))
        ),
        "threads": budget.run.threads,
        "versions": versions,
    }
    sources = [paths.features(params.features.tier), paths.split(row.horizon)]
    identity = fingerprint(facts, sources + code_of("hpo"))
    folder = resume_path(f"hpo-{cell}-{identity}")
    with file_lock(resume_path(f"hpo-{cell}.lock")):
        if not any(folder.glob("trial-*.json")):
            refuse_if_long(params, first, inputs, folder, max_hours())
        start = first.model_dump(include=set(space))
        with evaluator(params, first, inputs, allowed, folder) as (evaluate, report):
            study = search(cell, space, allowed, start, rules, evaluate, folder, report)
        table = trials_table(study)
        figures = summary(table, inputs)
        number = figures["best_trial"]
        best = candidate(params, cell, number, study.trials[number].params, allowed)
        how = {"score": figures["val_log_loss"], "seed": rules.seed, "versions": versions}
        write_best(best.model_copy(update=how))
        write_arrow(paths.hpo(cell, "trials.arrow"), table)
        write_arrow(paths.costs(cell), costs_table(study))
        write_csv(paths.hpo(cell, "history.csv"), history(table))
        early = importances(study, rules.pruning.first_epoch)
        write_csv(paths.hpo(cell, "importance.csv"), early)
        journal = (folder / "study.journal").read_text(encoding="utf-8")
        write_text(paths.hpo(cell, "study.journal"), without_clock(journal))
        write_json(paths.hpo_metrics(cell), figures)
        shutil.rmtree(folder)


def write_best(best: Best) -> None:
    text = yaml.safe_dump(best.model_dump(exclude_none=True), sort_keys=False)
    write_text(paths.best(best.cell), text)


if __name__ == "__main__":
    run(main)
