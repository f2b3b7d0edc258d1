"""Driver of a fan-out: run each stale stage once its dependencies are up to date.

DVC decides which stages are stale and in which order they run. It keeps finished stages in its
cache and run-cache at once, so that nothing is repeated if the driver is killed, and writes
dvc.lock once, at the end: a `dvc repro` afterwards finds everything up to date.
"""

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
    Executor,
    Job,
    JobResult,
    attempts,
    read_log,
)
from patchscale.runtime.stopping import GRACE, REQUEST_EVERY
from patchscale.study.errors import InputError, Stopped, without_secrets

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage


LOGS = Path("runs/fanout")
GIVE_UP_AFTER = KILL_AFTER + GRACE
"""Seconds after a stop request in which all jobs must have ended; then the driver ends too."""
AddNeeds = Callable[[Job], Job]
"""Returns a job with the resources that it needs."""
DONE = "done"
CACHED = "from the run-cache"
UNCHANGED = "unchanged"
FAILED = "failed"
SKIPPED = "skipped"
STOPPED = "stopped"


@dataclass
class StageGraph:
    """The stages of a fan-out in DVC's order, and the state of each by name."""

    repo: "Repo"
    dependencies: "dict[Stage, set[Stage]]"
    """For each stage, the stages whose outputs it reads."""
    states: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def settle(self, name: str, state: str, detail: str = "") -> None:
        """Set the final state of a stage."""
        self.states[name], self.details[name] = state, without_secrets(detail)


def run_stages(
    graph: StageGraph, executor: Executor, add_needs: AddNeeds, stopped: Callable[[], str]
) -> None:
    """Run the stale stages of a graph; their final states are in the graph afterwards.

    Raises
    ------
    Stopped
        A stop was requested. Finished stages are in dvc.lock, the others resume. It is raised
        `GIVE_UP_AFTER` seconds after the request at the latest.
    """
    sorter = TopologicalSorter(graph.dependencies)
    sorter.prepare()
    running: dict[Future[JobResult], Stage] = {}
    reason, asked_at, ask_again_at = "", 0.0, 0.0
    while sorter.is_active() and not (reason and not running):
        if not reason and (reason := stopped()):
            report(f"{reason}: stopping; every step is kept")
            asked_at = time.monotonic()
        if reason and time.monotonic() >= ask_again_at:
            executor.stop()
            ask_again_at = time.monotonic() + REQUEST_EVERY
        if reason and time.monotonic() > asked_at + GIVE_UP_AFTER:
            for stage in running.values():
                detail = f"not ended {GIVE_UP_AFTER:.0f} s after the stop request"
                graph.settle(stage.addressing, STOPPED, detail)
            break
        ready = () if reason else sorter.get_ready()
        ended = wait(running, timeout=0 if ready else 0.2, return_when=FIRST_COMPLETED).done
        if not ready and not ended:
            continue
        with repository.dvc_lock(graph.repo):
            for stage in ready:
                if job := _job_if_stale(graph, stage, add_needs):
                    try:
                        running[executor.submit(job)] = stage
                    except InputError as error:
                        graph.settle(job.name, FAILED, str(error))
                if stage.addressing in graph.states:
                    sorter.done(stage)
            for future in ended:
                stage = running.pop(future)
                _finish(graph, stage, future, reason)
                sorter.done(stage)
    done = [s for s in graph.dependencies if graph.states.get(s.addressing) in (DONE, CACHED)]
    repository.write_lock(graph.repo, done)
    if reason:
        raise Stopped(f"{reason}: stopped; the same command goes on")


def job_of(stage: "Stage") -> Job:
    """Return the job of a stage, without the resources that it needs."""
    name = stage.addressing
    return Job(name, repository.command_of(stage), log_of(name), repository.outputs_of(stage))


def log_of(name: str) -> Path:
    """Return the file that receives what the command of a stage prints."""
    return (LOGS / f"{name}.log").resolve()


def report(line: str) -> None:
    """Print a line of progress."""
    print(without_secrets(line), file=sys.stderr, flush=True)


def _job_if_stale(graph: StageGraph, stage: "Stage", add_needs: AddNeeds) -> Job | None:
    """Return the job of a stage that has to run; settle the state of any other stage."""
    name = stage.addressing
    names = sorted(each.addressing for each in graph.dependencies[stage])
    if missing := [each for each in names if graph.states[each] in (FAILED, SKIPPED, STOPPED)]:
        graph.settle(name, SKIPPED, f"needs {', '.join(missing)}")
    elif not stage.changed():
        graph.settle(name, UNCHANGED)
    elif repository.restore(stage):
        graph.settle(name, CACHED)
    else:
        job = add_needs(job_of(stage))
        job.log.unlink(missing_ok=True)
        report(f"{name}: queued")
        return job
    return None


def _finish(graph: StageGraph, stage: "Stage", future: Future[JobResult], reason: str) -> None:
    """Settle the state of a stage whose job has ended; commit its outputs if it succeeded."""
    name = stage.addressing
    log = log_of(name)
    unsuccessful = STOPPED if reason else FAILED
    try:
        result = future.result()
    except BaseException as error:  # of the executor: the node was lost or the job cancelled
        graph.settle(name, unsuccessful, " ".join(str(error).split())[:200])
        return
    number = len(attempts(log))
    where = f"on {result.node}" + (f", attempt {number}" if number > 1 else "")
    if not result.succeeded:
        graph.settle(name, unsuccessful, f"{where}: {_failure(log, result)}")
    elif stage.changed_deps():  # the command may have read either version
        graph.settle(name, FAILED, "what it reads was changed while it ran; run it again")
    else:
        repository.commit_outputs(stage)
        graph.seconds[name] = round(result.seconds, 1)
        graph.settle(name, DONE, where)
    settled = f"{len(graph.states)} of {len(graph.dependencies)} stages settled"
    took = f"in {result.seconds:.0f} s {graph.details[name]}"
    report(f"{name}: {graph.states[name]} {took}; {settled}")


def _failure(log: Path, result: JobResult) -> str:
    """Return the exit code of a command and the last line that it printed."""
    lines = [line for line in read_log(log) if line.strip() and not line.startswith(ATTEMPT)]
    return f"exit code {result.exit_code}; {lines[-1] if lines else 'it printed nothing'}"
