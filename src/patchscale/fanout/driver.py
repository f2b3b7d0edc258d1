"""One fan-out: which stage may run, what became of it, and what DVC is told."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale.fanout import repository
from patchscale.fanout.executors import (
    ATTEMPT,
    KILL_AFTER,
    Engine,
    Job,
    Outcome,
    attempts,
    lines_of,
)
from patchscale.runtime.stopping import GRACE, REQUEST_EVERY
from patchscale.study.errors import InputError, Stopped

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


LOGS = Path("runs/fanout")
GIVE_UP_AFTER = KILL_AFTER + GRACE
"""Seconds after a stop was asked for in which jobs must have ended; then nobody waits for them."""
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
    reason, asked_at, ask_at = "", 0.0, 0.0
    while sorter.is_active() and not (reason and not running):
        if not reason and (reason := stopped()):
            say(f"{reason}: stopping; every step is kept")
            asked_at = time.monotonic()
        if reason and time.monotonic() >= ask_at:
            opened.stop()
            ask_at = time.monotonic() + REQUEST_EVERY
        if reason and time.monotonic() > asked_at + GIVE_UP_AFTER:
            for stage in running.values():
                _settle(fan, stage.addressing, STOPPED, f"not ended {GIVE_UP_AFTER:.0f} s later")
            break
        ready = () if reason else sorter.get_ready()
        ended = wait(running, timeout=0 if ready else 0.2, return_when=FIRST_COMPLETED).done
        if not ready and not ended:
            continue
        with repository.locked(fan.repo):
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
    repository.write_lock(fan.repo, done)
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
    elif repository.restore(stage):
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
    return Job(name, repository.command_of(stage), log_of(name), repository.made_by(stage))


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
        repository.keep(stage)
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
