"""The trials of a search: from drawn parameters to a training, from trainings to tables."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from patchscale.hpo.space import Drawn, Shapes
from patchscale.hpo.study import Evaluate, Result, is_pruned
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


def candidate(params: Params, cell: str, number: int, drawn: Drawn, allowed: Shapes) -> Best:
    """Return what a cell would train with, were this trial the best; nothing drawn is left over."""
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
    """Return the training of a trial; `curves` are those it is pruned against."""
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
    params: Params, first: Best, inputs: Inputs, allowed: Shapes, folder: Path
) -> Iterator[tuple[Evaluate, Report]]:
    """Open the processes of a search; yield what evaluates a batch, and what reports a line.

    Every trial is the same bits in any number of processes: its threads are those of the budget.
    """
    trial = replica_of(params, first, inputs, [], folder)
    free = device.available(trial.settings.device)
    for kept in folder.glob("trial-*.json"):  # killed before it could discard
        Checkpoint(kept.with_suffix("")).discard()
    workers = workers_of(params.hpo, trial, free)
    make: MakePool = partial(Pool, free)
    if on_cluster():
        from patchscale.runtime.ray_pool import RayPool

        make = RayPool
    progress_files = [folder / f"worker-{number}.json" for number in range(workers)]

    with pool(progress_files, first.cell, make) as opened:

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
    most = min(rules.batch, max_workers() or rules.batch)
    if on_cluster():
        from patchscale.runtime import ray_pool

        return ray_pool.concurrency(trial, most)
    return concurrency(trial, most, free)


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
    settings, free = replica.settings, device.available(replica.settings.device)
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
