"""Run the stages that are stale side by side; DVC says which, and writes dvc.lock once.

What is stale, the order, what a finished stage is (run-cache) and its entry in dvc.lock are DVC's
own answers, asked in this process: a `dvc repro` afterwards finds everything up to date. Finished
stages are in DVC's run-cache at once, so that nothing is repeated where the driver was killed.
This is the one module of the library that imports DVC.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale import config, paths
from patchscale.budget import BYTES_PER_WEIGHT
from patchscale.engines import ATTEMPT, Engine, Job, Outcome, attempts, engine, lines_of
from patchscale.errors import InputError, Stopped
from patchscale.files import read_json, write_json
from patchscale.stage import run
from patchscale.stopping import stop_requests

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

LOGS = Path("runs/fanout")
SECONDS = LOGS / "seconds.json"
"""What each stage took when it last ran here."""
LOCK_TRIES = 20
"""Of three seconds each, for the lock that DVC's commands hold for a moment."""
PROCESS = 2**30
"""Bytes of a process with torch and the data, without a model."""
DONE, CACHED, SAME, FAILED, SKIPPED, STOPPED = (
    "done",
    "from the run-cache",
    "unchanged",
    "failed",
    "skipped",
    "stopped",
)


@dataclass
class Fan:
    """One fan-out: its stages in DVC's order, and what became of each."""

    repo: "Repo"
    steps: "list[Stage]"
    before: "dict[Stage, set[Stage]]"
    """Of each stage the ones it reads from."""
    verdicts: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def collect(repo: "Repo", globs: Sequence[str]) -> Fan:
    """Return the stages of some names, or all, and those they need; in the order of `dvc repro`."""
    from dvc.exceptions import DvcException
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        targets = collect_stages(repo, globs or ["dvc.yaml"], glob=bool(globs))
        graph = get_active_graph(repo.index.graph)
    except DvcException as error:
        raise InputError(" ".join(str(error).split())) from None
    if not targets:
        raise InputError(f"{' '.join(globs)}: no such stage; `dvc stage list` names them")
    steps = plan_repro(graph, targets)
    return Fan(repo, steps, {stage: set(graph.successors(stage)) for stage in steps})


def fan_out(
    fan: Fan, opened: Engine, job: Callable[[str, str], Job], stopped: Callable[[], str]
) -> None:
    """Run what is stale, each stage as soon as what it reads from is up to date.

    Raises
    ------
    Stopped
        A stop was asked for. What was finished is in dvc.lock, the rest resumes.
    """
    sorter = TopologicalSorter(fan.before)
    sorter.prepare()
    running: dict[Future[Outcome], Stage] = {}
    reason = ""
    while sorter.is_active() and not (reason and not running):
        if not reason and (reason := stopped()):
            say(f"{reason}: stopping; every step is kept")
            opened.stop()
        ready = () if reason else sorter.get_ready()
        ended = wait(running, timeout=0 if ready else 0.2, return_when=FIRST_COMPLETED).done
        if not ready and not ended:
            continue
        with locked(fan.repo):
            for stage in ready:
                if task := _begin(fan, stage, job):
                    try:
                        running[opened.submit(task)] = stage
                    except InputError as error:
                        _settle(fan, task.name, FAILED, str(error))
                if stage.addressing in fan.verdicts:
                    sorter.done(stage)
            for future in ended:
                stage = running.pop(future)
                _close(fan, stage, future, reason)
                sorter.done(stage)
    _write_lock(fan)
    if reason:
        raise Stopped(f"{reason}: stopped; the same command goes on")


def _begin(fan: Fan, stage: "Stage", job: Callable[[str, str], Job]) -> Job | None:
    """Return the job of a stage, unless it has nothing to do; then its verdict is settled."""
    name = stage.addressing
    missing = (FAILED, SKIPPED, STOPPED)
    lost = [each.addressing for each in fan.before[stage]]
    lost = sorted(each for each in lost if fan.verdicts[each] in missing)
    if lost:
        _settle(fan, name, SKIPPED, f"needs {', '.join(lost)}")
    elif not stage.changed():
        _settle(fan, name, SAME)
    elif _restore(stage):
        _settle(fan, name, CACHED)
    else:
        stage.save_deps()
        task = job(name, stage.cmd)
        task.log.unlink(missing_ok=True)
        say(f"{name}: queued")
        return task
    return None


def _settle(fan: Fan, name: str, verdict: str, detail: str = "") -> None:
    fan.verdicts[name], fan.details[name] = verdict, detail


def _restore(stage: "Stage") -> bool:
    """Bring the outputs of a stage back from DVC's run-cache; else make room for new ones."""
    from dvc.stage.cache import RunCacheNotFoundError

    stage.remove_outs(ignore_remove=False, force=False)
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    stage.save()
    stage.commit()
    return True


def _close(fan: Fan, stage: "Stage", future: Future[Outcome], reason: str) -> None:
    """Settle how a stage ended; where it is done, hand its outputs to DVC's cache and run-cache."""
    name, log = stage.addressing, LOGS / f"{stage.addressing}.log"
    bad = STOPPED if reason else FAILED
    try:
        outcome = future.result()
    except BaseException as error:  # of the engine: a node was lost for good, or the job cancelled
        _settle(fan, name, bad, " ".join(str(error).split())[:200])
        return
    tries = len(attempts(log))
    where = f"on {outcome.node}" + (f", attempt {tries}" if tries > 1 else "")
    if not outcome.done:
        _settle(fan, name, bad, f"{where}: {last_words(log, outcome)}")
    elif stage.changed_deps():  # since it was started: which version it read nobody knows
        _settle(fan, name, FAILED, "what it reads was changed while it ran; run it again")
    else:
        stage.save()
        stage.commit()
        fan.seconds[name] = round(outcome.seconds, 1)
        _settle(fan, name, DONE, where)
    progress = f"{len(fan.verdicts)} of {len(fan.steps)} stages settled"
    took = f"in {outcome.seconds:.0f} s {fan.details[name]}"
    say(f"{name}: {fan.verdicts[name]} {took}; {progress}")


def last_words(log: Path, outcome: Outcome) -> str:
    """Return the exit code of a command and the last line it said."""
    said = [each for each in lines_of(log) if each.strip() and not each.startswith(ATTEMPT)]
    return f"exit code {outcome.code}; {said[-1] if said else 'it said nothing'}"


def _write_lock(fan: Fan) -> None:
    """Write dvc.lock once, in the order in which `dvc repro` would have."""
    done = [each for each in fan.steps if fan.verdicts.get(each.addressing) in (DONE, CACHED)]
    if done:
        with locked(fan.repo):
            done[0].dvcfile.dump_stages(done, update_pipeline=False)


@contextmanager
def locked(repo: "Repo") -> Iterator[None]:
    """Hold DVC's lock for a moment; wait where another command has it."""
    from dvc.lock import LockError
    from dvc.repo import lock_repo

    with ExitStack() as stack:
        for left in reversed(range(LOCK_TRIES)):
            try:
                stack.enter_context(lock_repo(repo))
                break
            except LockError as error:
                if not left:
                    raise Stopped(" ".join(str(error).split())) from None
        yield


@contextmanager
def alone(fan: Fan) -> Iterator[None]:
    """Hold the outputs as a running `dvc repro` does, against it and against another fan-out."""
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    repo, outs = fan.repo, [out.fs_path for stage in fan.steps for out in stage.outs]
    hardlink = repo.config["core"].get("hardlink_lock", False)
    try:
        with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], outs, hardlink):
            yield
    except LockError as error:
        raise Stopped(" ".join(str(error).partition("If there are")[0].split())) from None


def job_of(params: config.Params, n_gpus: int, name: str, command: str) -> Job:
    """Return what a stage's command needs: cores and memory by the plan of a training."""
    job = Job(name, command, (LOGS / f"{name}.log").resolve(), memory=PROCESS)
    kind, _, cell = name.partition("@")
    if kind not in ("train", "hpo") or not cell:
        return job
    (budget, _), rules = config.split_cell(cell), params.train
    copies = rules.seeds[budget] if kind == "train" else params.hpo.batch
    if not (params.study.train[budget] if kind == "train" else params.trials_of(budget)):
        return job
    # weights, gradients, moments, and half as much again for the activations of a micro-batch
    each = 1.5 * BYTES_PER_WEIGHT[rules.precision[budget]] * params.budgets[budget].n_params
    processes = rules.processes[budget] if kind == "train" else 1
    side_by_side = 1 if n_gpus or processes > 1 else copies
    return replace(
        job,
        cpus=rules.threads[budget] * max(side_by_side, processes),
        gpus=processes if n_gpus else 0,
        spreads=kind == "hpo",
        memory=round(PROCESS * (1 + side_by_side) + each * side_by_side),
    )


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def expected(name: str, params: config.Params, known: dict[str, float]) -> float | None:
    """Return the seconds a stage took here, or by N and seeds from another cell's training."""
    work = {
        f"train@{cell}": params.budgets[row.budget].n_params * params.train.seeds[row.budget]
        for cell, row in params.cells.items()
        if params.study.train[row.budget]
    }
    trained = [each for each in known if each in work]
    if name in known or name not in work or not trained:
        return known.get(name)
    nearest = min(trained, key=lambda each: abs(work[each] - work[name]))
    return known[nearest] * work[name] / work[nearest]


def plan_table(fan: Fan, jobs: Sequence[Job], times: Sequence[float | None]) -> str:
    """Return what would run, with what it needs and how long it took or may take."""
    rows = [("stage", "why", "cores", "GPU", "memory", "time")]
    for task, seconds in zip(jobs, times, strict=True):
        rows.append(
            (
                task.name,
                fan.verdicts[task.name],
                str(task.cpus),
                str(task.gpus),
                f"{task.memory / 2**30:.1f} GiB",
                "?" if seconds is None else f"{seconds:.0f} s",
            )
        )
    return table(rows)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def seconds_known() -> dict[str, float]:
    """Return what each stage took when it last ran here."""
    known: dict[str, float] = read_json(SECONDS) if SECONDS.is_file() else {}
    return known


def dry(fan: Fan, job: Callable[[str, str], Job], params: config.Params) -> None:
    """Print what would run and what it needs; run nothing."""
    known = seconds_known()
    stages: list[Stage] = []
    with locked(fan.repo):
        for stage in fan.steps:
            follows = any(each in stages for each in fan.before[stage])
            if follows or stage.changed():
                # what reads from it runs only if its outputs come out other than they are
                _settle(fan, stage.addressing, "may follow" if follows else "stale")
                stages.append(stage)
    tasks = [job(stage.addressing, stage.cmd) for stage in stages]
    times = [expected(task.name, params, known) for task in tasks]
    print(plan_table(fan, tasks, times))
    total = sum(seconds for seconds in times if seconds)
    unknown = sum(seconds is None for seconds in times)
    print(f"{len(tasks)} of {len(fan.steps)} stages, {total:.0f} s one after the other", end="")
    print(f", without {unknown} that never ran here" if unknown else "")


def verdict_table(fan: Fan) -> str:
    """Return how every stage went, but for those that had nothing to do."""
    names = [stage.addressing for stage in fan.steps if stage.addressing in fan.verdicts]
    told = [name for name in names if fan.verdicts[name] != SAME]
    rows = [
        (
            name,
            fan.verdicts[name],
            f"{fan.seconds[name]:.0f} s" if name in fan.seconds else "",
            fan.details[name],
        )
        for name in told
    ]
    same = sum(fan.verdicts[name] == SAME for name in names)
    return "\n".join([*([table(rows)] if rows else []), f"{same} stages unchanged"])


def main(*words: str) -> None:
    """Fan out; exit 1 where a stage failed, 75 where a stop was asked for."""
    parser = argparse.ArgumentParser(
        prog="python3 dev.py fanout",
        description="Run stale stages side by side; dvc.lock is written once, by DVC.",
        epilog="example: python3 dev.py fanout 'train@2M-*' --jobs 2",
    )
    parser.add_argument(
        "stages", nargs="*", help="names or globs; with what they need; default all"
    )
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--jobs", type=int, default=2, help="at a time; a cluster has its own room")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and its needs")
    options = parser.parse_args(words)
    if options.jobs < 1:
        raise InputError(f"--jobs: {options.jobs} is not allowed; 1 or more")
    params = config.load_params(paths.PARAMS)
    root = Path.cwd()

    import logging

    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    fan = collect(Repo(str(root)), options.stages)
    if options.dry_run:
        dry(fan, partial(job_of, params, 0), params)
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        alone(fan),
        stop_requests() as stopped,
        engine(options.engine, options.jobs, root) as opened,
    ):
        try:
            fan_out(fan, opened, partial(job_of, params, opened.n_gpus), stopped)
        finally:
            write_json(SECONDS, seconds_known() | fan.seconds)
            print(verdict_table(fan))
    if failed := [name for name, verdict in fan.verdicts.items() if verdict == FAILED]:
        say(f"{len(failed)} failed; what they said is in {LOGS}/<stage>.log")
        sys.exit(1)


if __name__ == "__main__":
    run(main)
