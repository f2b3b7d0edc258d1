"""Trials of a search: the training of drawn parameters, and the processes that run it."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from patchscale.hpo.space import Architectures, TrialParams
from patchscale.hpo.study import Evaluate, TrialResult, is_pruned
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.pool import MakePool, Pool, concurrency, pool
from patchscale.runtime.progress import Report
from patchscale.runtime.replica import Outcome, Replica
from patchscale.study.errors import InputError, Stopped
from patchscale.study.params import Best, Hpo, Params
from patchscale.study.stage import max_workers
from patchscale.train import device
from patchscale.train.engine import Engine
from patchscale.train.inputs import Inputs, shape_of
from patchscale.train.settings import settings_for


def candidate(
    params: Params, cell: str, number: int, drawn: TrialParams, allowed: Architectures
) -> Best:
    """Return the settings of a cell if this trial is the best; every drawn parameter is used."""
    d_ff, n_params = allowed[drawn["d_model"], drawn["n_layers"]]
    return Best(
        cell=cell,
        trial=number,
        n_params=n_params,
        d_ff=d_ff,
        epochs=params.train.epochs,
        **drawn,
    )


def replica_of(
    params: Params, best: Best, inputs: Inputs, curves: list[list[float]], folder: Path
) -> Replica:
    """Return the training of a trial, pruned against the `curves` of finished trials."""
    run = params.budgets[params.cells[best.cell].budget].run
    return Replica(
        f"{best.cell} trial {best.trial}",
        replace(inputs, shape=shape_of(best, params.window, inputs.shape.n_features)),
        settings_for(best, params.train, run.precision, len(inputs.train.rows)),
        params.hpo.seed,
        Checkpoint(folder / f"trial-{best.trial}"),
        run.threads,
        enough=partial(is_pruned, params.hpo.pruning, curves),
        quiet=best.trial > 0,
    )


@contextmanager
def evaluator(
    params: Params, first: Best, inputs: Inputs, allowed: Architectures, folder: Path
) -> Iterator[tuple[Evaluate, Report]]:
    """Open the worker processes of a search; yield the evaluator of batches and a reporter.

    A trial uses the threads of its budget, so that its bits do not depend on the number of workers.
    """
    trial = replica_of(params, first, inputs, [], folder)
    free = device.available(trial.settings.device)
    for kept in folder.glob("trial-*.json"):  # left by a search that was killed
        Checkpoint(kept.with_suffix("")).discard()
    workers = trial_concurrency(params.hpo, trial, free)
    make: MakePool = partial(Pool, free)
    if uses_cluster():
        from patchscale.runtime.ray_pool import RayPool

        make = RayPool
    progress_files = [folder / f"worker-{number}.json" for number in range(workers)]

    with pool(progress_files, first.cell, make) as opened:

        def evaluate(
            batch: dict[int, TrialParams], curves: list[list[float]]
        ) -> Iterable[tuple[int, TrialResult]]:
            # the deepest models take longest and start first
            numbers = sorted(batch, key=lambda number: (-batch[number]["n_layers"], number))
            replicas = []
            for number in numbers:
                best = candidate(params, first.cell, number, batch[number], allowed)
                replicas.append(replica_of(params, best, inputs, curves, folder))
            for place, outcome in opened.train(replicas):
                yield numbers[place], trial_result(outcome)
                replicas[place].checkpoint.discard()  # the search has kept its result

        yield evaluate, opened.report


def trial_concurrency(rules: Hpo, trial: Replica, free: int) -> int:
    """Return how many trials like this one run at a time."""
    most = min(rules.batch, max_workers() or rules.batch)
    if uses_cluster():
        from patchscale.runtime import ray_pool

        return ray_pool.concurrency(trial, most)
    return concurrency(trial, most, free)


def uses_cluster() -> bool:
    """Tell whether trials run as tasks of a Ray cluster (PATCHSCALE_TRIALS=ray)."""
    return os.environ.get("PATCHSCALE_TRIALS") == "ray"


def trial_result(outcome: Outcome) -> TrialResult:
    """Return the result of a trial; raise Stopped where its training was stopped."""
    if isinstance(outcome, Stopped):
        raise outcome
    if isinstance(outcome, Exception):
        return TrialResult("FAIL", [], reason=str(outcome))
    return TrialResult(
        "COMPLETE" if outcome.complete else "PRUNED",
        [epoch["val_log_loss"] for epoch in outcome.history],
        seconds=round(sum(row["seconds"] for row in outcome.rows), 1),
        peak_memory_gib=round(max(row["peak_memory_gib"] for row in outcome.rows), 2),
    )


def refuse_if_long(
    params: Params, first: Best, inputs: Inputs, folder: Path, max_hours: float
) -> None:
    """Raise InputError where all trials, each as long as the first, would take too long."""
    replica, trials = replica_of(params, first, inputs, [], folder), params.hpo.trials
    settings, free = replica.settings, device.available(replica.settings.device)
    workers = trial_concurrency(params.hpo, replica, free)
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
