"""Trials of a search: the training of drawn parameters, and the processes that run it."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from patchscale.hpo.space import Architectures, TrialParams
from patchscale.hpo.study import Evaluate, TrialResult, is_pruned
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.pool import MakePool, Pool, concurrency, pool
from patchscale.runtime.progress import Report
from patchscale.runtime.replica import Outcome, Replica
from patchscale.study.errors import Stopped, refuse_if_long
from patchscale.study.params import Best, Hpo, Params
from patchscale.study.stage import max_workers
from patchscale.train import device
from patchscale.train.inputs import Inputs, shape_of
from patchscale.train.loop import Trained
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
        **drawn,
    )


def replica_of(params: Params, best: Best, inputs: Inputs, seed: int, folder: Path) -> Replica:
    """Return one training of a trial."""
    run = params.budgets[params.cells[best.cell].budget].run
    return Replica(
        f"{best.cell} trial {best.trial} seed {seed}",
        replace(inputs, shape=shape_of(best, params.window, inputs.shape.n_features)),
        settings_for(best, params.train, run.precision, len(inputs.train.rows)),
        seed,
        Checkpoint(folder / f"trial-{best.trial}-seed{seed}"),
        run.threads,
        quiet=best.trial > 0 or seed > params.hpo.seed,
    )


@contextmanager
def evaluator(
    params: Params, first: Best, inputs: Inputs, allowed: Architectures, folder: Path
) -> Iterator[tuple[Evaluate, Report]]:
    """Open the worker processes of a search; yield the evaluator of batches and a reporter.

    A trial uses the threads of its budget, so that its bits do not depend on the number of workers.
    """
    trial = replica_of(params, first, inputs, params.hpo.seed, folder)
    free = device.available(trial.settings.device)
    for kept in folder.glob("trial-*.json"):  # left by a search that was killed
        _discard(kept)
    workers = trial_concurrency(params.hpo, trial, free)
    make: MakePool = partial(Pool, free)
    if uses_cluster():
        from patchscale.runtime.ray_pool import RayPool

        make = RayPool
    progress_files = [folder / f"worker-{number}.json" for number in range(workers)]

    with pool(progress_files, first.cell, make) as opened:

        def trained(batch: dict[int, Best], seeds: range) -> Iterable[tuple[int, Outcome]]:
            # the longest trainings start first
            numbers = sorted(batch, key=lambda n: (-batch[n].epochs * batch[n].n_layers, n))
            jobs = [(number, seed) for number in numbers for seed in seeds]
            replicas = [replica_of(params, batch[n], inputs, seed, folder) for n, seed in jobs]
            for place, outcome in opened.train(replicas):
                yield jobs[place][0], outcome

        def evaluate(
            batch: dict[int, TrialParams], completed: list[list[float]]
        ) -> Iterable[tuple[int, TrialResult]]:
            rules = params.hpo
            candidates = {
                number: candidate(params, first.cell, number, drawn, allowed)
                for number, drawn in batch.items()
            }
            outcomes: dict[int, list[Outcome]] = {}
            for number, outcome in trained(candidates, range(rules.seed, rules.seed + 1)):
                outcomes[number] = [outcome]
                losses = losses_of(outcomes[number])
                if not losses or is_pruned(rules.pruning, completed, losses) or rules.seeds == 1:
                    yield number, trial_result(outcomes[number], rules.seeds)
                    del candidates[number]
            others = range(rules.seed + 1, rules.seed + rules.seeds)
            for number, outcome in trained(candidates, others):
                outcomes[number].append(outcome)
                if len(outcomes[number]) == rules.seeds:
                    yield number, trial_result(outcomes[number], rules.seeds)
            for number in batch:  # the search has kept their results
                _discard(folder / f"trial-{number}.json")

        yield evaluate, opened.report


def _discard(result: Path) -> None:
    """Delete the states of a finished trial's trainings, given the file of its result."""
    for state in result.parent.glob(f"{result.stem}-seed*"):
        Checkpoint(state).discard()


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


def losses_of(outcomes: list[Outcome]) -> list[float]:
    """Return the log-loss of each training's kept epoch; raise Stopped where one was stopped."""
    losses = []
    for outcome in outcomes:
        if isinstance(outcome, Stopped):
            raise outcome
        if isinstance(outcome, Trained):
            losses.append(outcome.history[outcome.kept_epoch - 1]["val_log_loss"])
    return losses


def trial_result(outcomes: list[Outcome], seeds: int) -> TrialResult:
    """Return the result of a trial from its trainings; `seeds` of them make it complete.

    Raises
    ------
    Stopped
        A training was stopped.
    """
    losses = losses_of(outcomes)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if errors:
        return TrialResult("FAIL", [], reason=str(errors[0]))
    rows = [row for outcome in outcomes if isinstance(outcome, Trained) for row in outcome.rows]
    return TrialResult(
        "COMPLETE" if len(losses) == seeds else "PRUNED",
        losses,
        seconds=round(sum(row["seconds"] for row in rows), 1),
        peak_memory_gib=round(max(row["peak_memory_gib"] for row in rows), 2),
    )


def refuse_long_search(
    params: Params, first: Best, inputs: Inputs, folder: Path, limit: float
) -> None:
    """Raise InputError where all trials, each as long as the first, would take too long."""
    replica = replica_of(params, first, inputs, params.hpo.seed, folder)
    trials, seeds, epochs = params.hpo.trials, params.hpo.seeds, replica.settings.epochs
    free = device.available(replica.settings.device)
    workers = trial_concurrency(params.hpo, replica, free)
    refuse_if_long(
        f"hpo.trials: {trials} trials of {seeds} seeds and {epochs} epochs, {workers} at a time,",
        replica.hours(replica.steps * math.ceil(trials * seeds / workers), limit),
        limit,
    )
