"""Search a cell's architecture and settings; where no search is made the table row passes through.

Labels of test dates are never loaded here.
"""

import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import yaml

from patchscale import budget, config, paths
from patchscale.config import Best, Params
from patchscale.files import (
    read_json,
    write_arrow,
    write_csv,
    write_json,
    write_text,
)
from patchscale.stage import max_hours, run

CODE = ("budget", "cell", "engine", "memory", "model", "optim", "schedule", "search", "train")
CODE += ("space", "trials", "windows")


def main(cell: str) -> None:
    params = config.load_params(paths.PARAMS)
    name, _ = config.split_cell(cell)
    row, settings = params.cells[cell], params.budgets[name]
    shape = {"d_model": row.d_model, "n_layers": row.n_layers}
    size = {
        "n_features": len(read_json(paths.kinds(params.features.tier))),
        "patch_length": params.model.patch_length,
        "n_patches": params.model.n_patches,
    }
    d_ff = budget.solve_d_ff(settings.n_params, **size, **shape)
    shape["n_params"] = budget.count_params(**size, **shape, d_ff=d_ff)
    first = Best(
        cell=cell,
        trial=0,
        n_heads=row.n_heads,
        d_ff=d_ff,
        **(settings.model_dump() | shape),
    )
    if params.trials_of(name):
        make_search(params, first, size)
    else:
        write_best(first)
        write_json(paths.hpo_metrics(cell), {"trials": 0})


def make_search(params: Params, first: Best, size: dict[str, int]) -> None:
    """Search, and write everything that is known of it."""
    import torch

    from patchscale.cell import read_inputs
    from patchscale.checkpoint import fingerprint, resume_path
    from patchscale.engine import settings_for
    from patchscale.search import importances, search, without_clock
    from patchscale.space import distributions, shapes
    from patchscale.stopping import exclusive
    from patchscale.trials import (
        candidate,
        costs_table,
        evaluator,
        history,
        refuse_if_long,
        summary,
        trials_table,
    )

    cell, rules = first.cell, params.hpo
    name, horizon = config.split_cell(cell)
    inputs = read_inputs(params, cell, first, division="scattered")
    allowed = shapes(rules.space, params.budgets[name].n_params, **size)
    space = distributions(rules.space, allowed)
    versions = {"optuna": version("optuna"), "torch": torch.__version__.split("+")[0]}
    facts = {
        "first": first.model_dump(),
        "rules": rules.model_dump(exclude={"trials", "workers"}),
        "model": params.model.model_dump(exclude={"budget", "horizon"}),
        "settings": asdict(settings_for(first, params.train, name, len(inputs.train.rows))),
        "threads": params.train.threads[name],
        "versions": versions,
    }
    sources = [paths.features(params.features.tier), paths.split(horizon)]
    code = [Path(f"src/patchscale/{module}.py") for module in CODE]
    folder = resume_path(f"hpo-{cell}-{fingerprint(facts, sources + code)}")
    with exclusive(resume_path(f"hpo-{cell}.lock")):
        if not any(folder.glob("trial-*.json")):
            refuse_if_long(params, first, inputs, folder, max_hours())
        row = first.model_dump(include=set(space))
        with evaluator(params, first, inputs, allowed, folder) as (evaluate, report):
            study = search(cell, space, allowed, row, rules, evaluate, folder, report)
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
