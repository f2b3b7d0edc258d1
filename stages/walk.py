"""Train a budget on the years before each test year and forecast that year, at its horizons.

Labels of a test year are never loaded here. A replica is a seed of a horizon and a test year, in
one process. What it forecasts is kept until all have ended, so that a walk that was stopped goes on
where it was.
"""

import math
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from patchscale.model.patchtst import predict
from patchscale.model.weights import load_model, save_weights
from patchscale.runtime.checkpoint import Checkpoint, fingerprint, resume_path
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.pool import Pool, concurrency, pool
from patchscale.runtime.replica import Replica
from patchscale.split.walk import DAYS, no_forecasts, read_walk, years_searched
from patchscale.study import paths
from patchscale.study.errors import refuse_if_long
from patchscale.study.files import read_sealed, write_arrow, write_json, write_sealed
from patchscale.study.params import Params, load_chosen, load_params
from patchscale.study.stage import code_of, max_hours, run
from patchscale.study.tables import read_features
from patchscale.train import device
from patchscale.train.inputs import assemble
from patchscale.train.settings import settings_for

SAY_EVERY = 30.0
"""Seconds between two lines about the whole walk."""


@dataclass(frozen=True)
class Job:
    """A replica of a horizon and a test year."""

    horizon: str
    year: int
    replica: Replica

    @property
    def result(self) -> Path:
        """Path of its probabilities, kept until the walk ends."""
        return self.replica.checkpoint.path.with_suffix(".json")


def main(budget: str) -> None:
    """Walk a budget, or write that it is not walked."""
    params = load_params()
    horizons, years = params.walked(budget), params.walk_years
    folder = resume_path(f"walk-{budget}")
    jobs = [
        job
        for horizon in horizons
        for year in years
        for job in jobs_of(params, budget, horizon, year, folder)
    ]
    seen = years_searched(paths.split(horizon) for horizon in params.horizons)
    with file_lock(resume_path(f"walk-{budget}.lock")):
        done = {job.result: found for job in jobs if (found := kept(job)) is not None}
        waiting = [job for job in jobs if job.result not in done]
        if waiting:
            train(budget, waiting, len(jobs), folder, done.__setitem__)
        write_arrow(paths.walk(budget), table_of(jobs, done))
        write_json(
            paths.walk_metrics(budget),
            {
                "walked": bool(jobs),
                "seeds": params.budgets[budget].walk.seeds if jobs else 0,
                "settings_saw_year": {str(year): year in seen for year in years if jobs},
            },
        )
        shutil.rmtree(folder, ignore_errors=True)


def jobs_of(params: Params, budget: str, horizon: str, year: int, folder: Path) -> list[Job]:
    """Return the replicas of a horizon and a test year, one for each seed."""
    rules, tier = params.budgets[budget], params.features.tier
    best = load_chosen(budget)[f"{budget}-{horizon}"]
    split = read_walk(paths.split(horizon), year, params.horizons[horizon], params.split)
    table, kinds = read_features(tier, split["date"])
    known = table[table["date"] <= split["date"].iloc[-1]]
    inputs = assemble(known, kinds, split, params.window, best)
    precision, threads = rules.run.precision, rules.run.threads
    settings = settings_for(best, params.train, precision, len(inputs.train.rows))
    facts = {
        "year": year,
        "shape": asdict(inputs.shape),
        "settings": asdict(settings),
        "normalisation": params.window.normalisation,
        "threads": threads,
        "torch": torch.__version__.split("+")[0],
    }
    sources = [paths.features(tier), paths.split(horizon)]
    identity = fingerprint(facts, sources + code_of("walk"))
    return [
        Job(
            horizon,
            year,
            Replica(
                f"{budget}-{horizon} {year} seed {seed}",
                inputs,
                settings,
                seed,
                Checkpoint(folder / f"{horizon}-{year}-seed{seed}-{identity}"),
                threads,
                max_hours=max_hours(),
                quiet=True,
            ),
        )
        for seed in range(rules.walk.seeds)
    ]


def kept(job: Job) -> list[float] | None:
    """Return the probabilities of a replica that has ended; None where there are none."""
    with suppress(OSError, ValueError, KeyError):
        found: list[float] = read_sealed(job.result)["p"]
        return found
    return None


def train(
    budget: str, jobs: list[Job], total: int, folder: Path, add: Callable[[Path, list[float]], None]
) -> None:
    """Train replicas, as many at a time as cores and memory allow, and keep what they forecast.

    Parameters
    ----------
    budget
        Name of the budget.
    jobs
        Replicas to train.
    total
        Number of replicas of the whole walk.
    folder
        Where the walk keeps its state.
    add
        Takes the path of a result and the probabilities of its judged days.

    Raises
    ------
    InputError
        All trainings together would take longer than PATCHSCALE_MAX_HOURS.
    Stopped
        A stop was requested, or a worker was killed. The same command resumes.
    """
    first = jobs[0].replica
    free = device.available(first.settings.device)
    workers = concurrency(first, len(jobs), free)
    left = sum(job.replica.steps for job in jobs)
    if not any(folder.glob("*-seed*")):
        limit = max_hours()
        refuse_if_long(
            f"budgets.{budget}.walk: {len(jobs)} trainings, {workers} at a time,",
            jobs[-1].replica.hours(math.ceil(left / workers), limit),
            limit,
            ", or walk fewer years (walk.years)",
        )
    progress_files = [folder / f"worker-{number}.json" for number in range(workers)]
    begun = said = time.monotonic()
    made, ended = 0, total - len(jobs)
    print(f"walk of {budget}: {len(jobs)} of {total} trainings to do", file=sys.stderr)
    with pool(progress_files, f"walk of {budget}", partial(Pool, free)) as opened:
        for number, outcome in opened.train([job.replica for job in jobs]):
            if isinstance(outcome, Exception):
                raise outcome
            job = jobs[number]
            p = probabilities(job.replica)
            write_sealed(job.result, {"p": p})
            job.replica.checkpoint.discard()
            add(job.result, p)
            made, left, ended = made + job.replica.steps, left - job.replica.steps, ended + 1
            if (now := time.monotonic()) - said > SAY_EVERY:
                said, seconds = now, timedelta(seconds=round((now - begun) / made * left))
                opened.report(f"walk of {budget}: {ended} of {total} trainings, {seconds} left")


def probabilities(replica: Replica) -> list[float]:
    """Return what the weights of a replica, rounded as published ones are, predict."""
    weights, inputs = replica.checkpoint.path / "rounded.safetensors", replica.inputs
    save_weights(weights, replica.checkpoint.best())
    torch.set_num_threads(replica.threads)
    model = load_model(weights, inputs.shape)
    found: list[float] = predict(model, inputs.windows, inputs.judged_rows).double().tolist()
    return found


def table_of(jobs: list[Job], done: dict[Path, list[float]]) -> pd.DataFrame:
    """Return `horizon, year, date, subset` and a column of probabilities for each seed."""
    years: dict[tuple[str, int], pd.DataFrame] = {}
    for job in jobs:
        days = job.replica.inputs.judged.assign(horizon=job.horizon, year=job.year)
        table = years.setdefault((job.horizon, job.year), days[list(DAYS)])
        table[f"p_seed{job.replica.seed}"] = done[job.result]
    return pd.concat(years.values()) if years else no_forecasts(["p_seed0"])


if __name__ == "__main__":
    run(main)
