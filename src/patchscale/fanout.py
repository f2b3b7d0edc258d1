"""Run the stages that are stale side by side; DVC says which, and writes dvc.lock once.

What is stale, the order, what a finished stage is (run-cache) and its entry in dvc.lock are DVC's
own answers: a `dvc repro` afterwards finds everything up to date. Finished stages are in DVC's
run-cache at once, so that nothing is repeated where the driver was killed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale import paths, pipeline
from patchscale.config import Params, load_params
from patchscale.engines import ATTEMPT, Engine, Job, Outcome, attempts, engine, lines_of
from patchscale.errors import InputError, Stopped
from patchscale.files import read_json, write_json
from patchscale.needs import expected, needing
from patchscale.stage import run
from patchscale.stopping import stop_requests

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

LOGS = Path("runs/fanout")
SECONDS = LOGS / "seconds.json"
"""What each stage took when it last ran here."""
Needs = Callable[[Job], Job]
"""Tells of a job what it needs."""
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
    before: "dict[Stage, set[Stage]]"
    """Of each stage the ones it reads from."""
    verdicts: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def fan_out(fan: Fan, opened: Engine, needs: Needs, stopped: Callable[[], str]) -> None:
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
        with pipeline.locked(fan.repo):
            for stage in ready:
                if task := _begin(fan, stage, needs):
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
    done = [each for each in fan.before if fan.verdicts.get(each.addressing) in (DONE, CACHED)]
    pipeline.write_lock(fan.repo, done)
    if reason:
        raise Stopped(f"{reason}: stopped; the same command goes on")


def _begin(fan: Fan, stage: "Stage", needs: Needs) -> Job | None:
    """Return the job of a stage, unless it has nothing to do; then its verdict is settled."""
    name = stage.addressing
    missing = (FAILED, SKIPPED, STOPPED)
    lost = [each.addressing for each in fan.before[stage]]
    lost = sorted(each for each in lost if fan.verdicts[each] in missing)
    if lost:
        _settle(fan, name, SKIPPED, f"needs {', '.join(lost)}")
    elif not stage.changed():
        _settle(fan, name, SAME)
    elif pipeline.restore(stage):
        _settle(fan, name, CACHED)
    else:
        task = needs(job_of(stage))
        task.log.unlink(missing_ok=True)
        say(f"{name}: queued")
        return task
    return None


def log_of(name: str) -> Path:
    """Return where a stage's command writes what it says."""
    return (LOGS / f"{name}.log").resolve()


def job_of(stage: "Stage") -> Job:
    """Return the job of a stage, without what it needs."""
    name = stage.addressing
    return Job(name, pipeline.command_of(stage), log_of(name), pipeline.made_by(stage))


def _settle(fan: Fan, name: str, verdict: str, detail: str = "") -> None:
    fan.verdicts[name], fan.details[name] = verdict, detail


def _close(fan: Fan, stage: "Stage", future: Future[Outcome], reason: str) -> None:
    """Settle how a stage ended; where it is done, hand its outputs to DVC's cache and run-cache."""
    name = stage.addressing
    log = log_of(name)
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
        pipeline.keep(stage)
        fan.seconds[name] = round(outcome.seconds, 1)
        _settle(fan, name, DONE, where)
    progress = f"{len(fan.verdicts)} of {len(fan.before)} stages settled"
    took = f"in {outcome.seconds:.0f} s {fan.details[name]}"
    say(f"{name}: {fan.verdicts[name]} {took}; {progress}")


def last_words(log: Path, outcome: Outcome) -> str:
    """Return the exit code of a command and the last line it said."""
    said = [each for each in lines_of(log) if each.strip() and not each.startswith(ATTEMPT)]
    return f"exit code {outcome.code}; {said[-1] if said else 'it said nothing'}"


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


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


def dry(fan: Fan, params: Params) -> None:
    """Print what would run and what it needs; run nothing."""
    known = seconds_known()
    stages: list[Stage] = []
    with pipeline.locked(fan.repo):
        for stage in fan.before:
            follows = any(each.addressing in fan.verdicts for each in fan.before[stage])
            if follows or stage.changed():
                # what reads from it runs only if its outputs come out other than they are
                _settle(fan, stage.addressing, "may follow" if follows else "stale")
                stages.append(stage)
    tasks = [needing(params, 0, job_of(stage)) for stage in stages]
    times = [expected(task.name, params, known) for task in tasks]
    print(plan_table(fan, tasks, times))
    total = sum(seconds for seconds in times if seconds)
    unknown = sum(seconds is None for seconds in times)
    print(f"{len(tasks)} of {len(fan.before)} stages, {total:.0f} s one after the other", end="")
    print(f", without {unknown} that never ran here" if unknown else "")


def verdict_table(fan: Fan) -> str:
    """Return how every stage went, but for those that had nothing to do."""
    names = [stage.addressing for stage in fan.before if stage.addressing in fan.verdicts]
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
    params = load_params(paths.PARAMS)
    root = Path.cwd()

    repo = pipeline.open_repository(root)
    fan = Fan(repo, pipeline.collect(repo, options.stages))
    if options.dry_run:
        dry(fan, params)
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        pipeline.alone(repo),
        stop_requests() as stopped,
        engine(options.engine, options.jobs, root) as opened,
    ):
        try:
            fan_out(fan, opened, partial(needing, params, opened.n_gpus), stopped)
        finally:
            write_json(SECONDS, seconds_known() | fan.seconds)
            print(verdict_table(fan))
    if failed := [name for name, verdict in fan.verdicts.items() if verdict == FAILED]:
        say(f"{len(failed)} failed; what they said is in {LOGS}/<stage>.log")
        sys.exit(1)


if __name__ == "__main__":
    run(main)
