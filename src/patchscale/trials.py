"""The trials of a search: from drawn parameters to a training, from trainings to tables."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch

from patchscale import memory
from patchscale.cell import Inputs, shape_of
from patchscale.checkpoint import Checkpoint
from patchscale.config import Best, Hpo, Params, split_cell
from patchscale.engine import Engine, settings_for
from patchscale.errors import InputError, Stopped
from patchscale.progress import Report
from patchscale.replica import MakePool, Outcome, Pool, Replica, pool, together
from patchscale.schedule import best_epoch
from patchscale.search import COSTS, Evaluate, Result, is_pruned
from patchscale.space import Drawn, Shapes


def candidate(params: Params, cell: str, number: int, drawn: Drawn, allowed: Shapes) -> Best:
    """Return what a cell would train with, were this trial the best; nothing drawn is left over."""
    d_ff, n_params = allowed[drawn["d_model"], drawn["n_layers"]]
    return Best(
        cell=cell,
        trial=number,
        n_params=n_params,
        d_ff=d_ff,
        epochs=params.budgets[split_cell(cell)[0]].epochs,
        **drawn,
    )


def replica_of(
    params: Params, best: Best, inputs: Inputs, curves: list[list[float]], folder: Path
) -> Replica:
    """Return the training of a trial; `curves` are those it is pruned against."""
    budget = split_cell(best.cell)[0]
    return Replica(
        f"{best.cell} trial {best.trial}",
        replace(inputs, shape=shape_of(best, params.model, inputs.shape.n_features)),
        settings_for(best, params.train, budget, len(inputs.train.rows)),
        params.hpo.seed,
        Checkpoint(folder / f"trial-{best.trial}"),
        params.train.threads[budget],
        enough=partial(is_pruned, params.hpo.pruning, curves),
        quiet=best.trial > 0,
    )


@contextmanager
def evaluator(
    params: Params, first: Best, inputs: Inputs, allowed: Shapes, folder: Path
) -> Iterator[tuple[Evaluate, Report]]:
    """Open the processes of a search; yield what evaluates a batch, and what reports a line.

    Every trial is the same bits in any number of processes: its threads are those of the budget.
    """
    trial = replica_of(params, first, inputs, [], folder)
    free = memory.available(trial.settings.device)
    for kept in folder.glob("trial-*.json"):  # killed before it could discard
        Checkpoint(kept.with_suffix("")).discard()
    workers = workers_of(params.hpo, trial, free)
    make: MakePool = partial(Pool, free)
    if on_cluster():
        from patchscale.cluster import ClusterPool

        make = ClusterPool
    pulses = [folder / f"worker-{number}.json" for number in range(workers)]

    with pool(pulses, first.cell, make) as opened:

        def evaluate(
            batch: dict[int, Drawn], curves: list[list[float]]
        ) -> Iterable[tuple[int, Result]]:
            # the deepest take longest: they begin first
            numbers = sorted(batch, key=lambda number: (-batch[number]["n_layers"], number))
            replicas = []
            for number in numbers:
                best = candidate(params, first.cell, number, batch[number], allowed)
                replicas.append(replica_of(params, best, inputs, curves, folder))
            for place, outcome in opened.train(replicas):
                yield numbers[place], result_of(outcome)
                replicas[place].checkpoint.discard()  # its result is kept by now

        yield evaluate, opened.report


def workers_of(rules: Hpo, trial: Replica, free: int) -> int:
    """Return how many trials like this one are trained at a time."""
    most = min(rules.batch, rules.workers or rules.batch)
    if on_cluster():
        from patchscale.cluster import places

        return places(trial, most)
    return together(trial, most, free)


def on_cluster() -> bool:
    """Tell whether trials are tasks of a Ray cluster: PATCHSCALE_TRIALS=ray, and RAY_ADDRESS."""
    return os.environ.get("PATCHSCALE_TRIALS") == "ray"


def result_of(outcome: Outcome) -> Result:
    """Return what a trial's training came to; raise where it was stopped."""
    if isinstance(outcome, Stopped):
        raise outcome
    if isinstance(outcome, Exception):
        return Result("FAIL", [], reason=str(outcome))
    return Result(
        "COMPLETE" if outcome.complete else "PRUNED",
        [epoch["val_log_loss"] for epoch in outcome.history],
        seconds=round(sum(row["seconds"] for row in outcome.rows), 1),
        peak_memory_gib=round(max(row["peak_memory_gib"] for row in outcome.rows), 2),
    )


def refuse_if_long(
    params: Params, first: Best, inputs: Inputs, folder: Path, max_hours: float
) -> None:
    """Raise InputError where all trials, each with all epochs of the first, would take too long."""
    replica, trials = replica_of(params, first, inputs, [], folder), params.hpo.trials
    settings, free = replica.settings, memory.available(replica.settings.device)
    workers = workers_of(params.hpo, replica, free)
    steps = settings.epochs * math.ceil(len(replica.inputs.train.rows) / settings.batch_size)
    steps = steps * math.ceil(trials / workers)
    threads = torch.get_num_threads()
    torch.set_num_threads(replica.threads)
    engine = Engine(replica.inputs, settings, replica.seed)
    hours = engine.hours(steps, max_hours)
    torch.set_num_threads(threads)
    if hours > max_hours:
        raise InputError(
            f"hpo.trials: {trials} trials of {settings.epochs} epochs, {workers} at a time, would "
            f"take up to {hours:.1f} h here, the limit is {max_hours:g} h; allow it with "
            f"PATCHSCALE_MAX_HOURS={math.ceil(hours)}"
        )


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return a row a trial: what was drawn, what came of it, and its curve.

    `value` is the lowest validation log-loss, nats, of a completed trial.
    """
    return pd.DataFrame([_row(trial) for trial in study.get_trials(deepcopy=False)])


def _row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    curve = list(trial.intermediate_values.values())
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "value": trial.value if trial.state.name == "COMPLETE" else math.nan,
        "best_epoch": best_epoch(curve) if curve else 0,
        **trial.params,
        **{key: trial.user_attrs[key] for key in ("d_ff", "n_params", "reason")},
        "curve": curve,
    }


def costs_table(study: optuna.Study) -> pd.DataFrame:
    """Return what every trial cost, which unlike its table differs from run to run.

    Seconds and peak memory (NaN where it failed), and the wall-clock time since the result before.
    """
    trials = study.get_trials(deepcopy=False)
    rows = [[trial.number, *(trial.user_attrs[key] for key in COSTS)] for trial in trials]
    return pd.DataFrame(rows, columns=["trial", *COSTS]).astype(dict.fromkeys(COSTS, float))


def history(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the value of every completed trial and the best so far."""
    done = trials.loc[trials["state"] == "COMPLETE", ["trial", "value"]]
    return done.assign(best=done["value"].cummin())


def summary(trials: pd.DataFrame, inputs: Inputs) -> dict[str, Any]:
    """Return the figures of a search; losses are of the `scattered` validation dates, nats."""
    done = trials[trials["state"] == "COMPLETE"]
    best = done.sort_values("value", kind="stable").iloc[0]  # the first, where several tie
    first = trials["value"].iloc[0]
    return {
        "trials": len(trials),
        **{
            state.lower(): int((trials["state"] == state).sum())
            for state in ("COMPLETE", "PRUNED", "FAIL")
        },
        "epochs": int(trials["curve"].map(len).sum()),
        "best_trial": int(best["trial"]),
        "val_log_loss": float(best["value"]),
        "trial_0_val_log_loss": None if math.isnan(first) else float(first),
        "n": len(inputs.val.labels),
        "positives": int(inputs.val.labels.sum()),
    }
