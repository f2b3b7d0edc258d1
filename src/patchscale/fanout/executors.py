"""Where stages run: processes of this machine, or the nodes of a Ray cluster with the same folder.

A stage's command is a process of its own that writes the outputs of its stage, into the repository
itself: on a cluster the repository, with .venv, lies in a folder that every node sees under the
same path. That folder carries code, data, checkpoints and results; nothing is copied.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from patchscale.runtime.retries import ATTEMPTS, KILLED, PAUSE
from patchscale.runtime.stopping import GRACE
from patchscale.study.errors import Stopped

ATTEMPT = "== attempt on "
KILL_AFTER = 2 * GRACE
"""Seconds after which a command that was asked to stop is killed; its checkpoints are kept.

A search waits for its trials for `GRACE` seconds itself.
"""
SHELL = frozenset("|&;<>()$`*?[~#\n")
"""Characters that make a command more than a program and its arguments."""


@dataclass(frozen=True)
class Job:
    """A stage's command, where it writes what it says, what it makes, and what it needs."""

    name: str
    command: str
    log: Path
    outs: tuple[Path, ...] = ()
    """Removed before it runs, so that what is there afterwards is its own."""
    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    """Bytes."""
    spreads: bool = False
    """Whether on a cluster its work is tasks of their own; then itself takes next to nothing."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    code: int
    seconds: float
    node: str

    @property
    def done(self) -> bool:
        """Whether the command succeeded."""
        return self.code == 0


class Engine(Protocol):
    """Runs jobs, as many at a time as there is room for."""

    n_gpus: int
    """Of the cluster, for jobs of one each; 0 here, where a job takes what it finds."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Queue a job."""

    def stop(self) -> None:
        """Ask running jobs to stop, resumable, and begin no other; return at once.

        It may be called again, in case a request was lost.
        """

    def close(self) -> None:
        """Stop what is left and end what the engine started."""


def attempts(log: Path) -> list[str]:
    """Return the node of every attempt that a log tells of."""
    return [line.removeprefix(ATTEMPT) for line in lines_of(log) if line.startswith(ATTEMPT)]


def lines_of(log: Path) -> list[str]:
    """Return the lines of a log, none where it is not there."""
    return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []


def execute(
    job: Job,
    root: Path,
    environment: Mapping[str, str],
    stopping: Callable[[], bool],
    node: str = "this machine",
) -> Outcome:
    """Run a job's command here, again where it was killed or stopped: it resumes.

    Killed is what the kernel does where memory ran out; stopped, with exit code 75, what a training
    does that is too hot, lost a process, or finds the lock of one that has not quite ended.
    """
    if stopping():
        return Outcome(Stopped.exit_code, 0, node)
    begun, shell = time.monotonic(), not SHELL.isdisjoint(job.command)
    with job.log.open("ab") as stream:
        while True:
            stream.write(f"{ATTEMPT}{node}\n".encode())
            stream.flush()
            for out in job.outs:
                _remove(out)
            process = subprocess.Popen(
                ["sh", "-c", job.command] if shell else shlex.split(job.command),
                cwd=root,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to hand on
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
            # a training is asked alone, its workers follow it; a shell would not hand it on
            stop = partial(os.killpg, process.pid, signal.SIGTERM) if shell else process.terminate
            code = _wait(process, stopping, stop)
            again = code == Stopped.exit_code or code in KILLED
            count = len(attempts(job.log))
            if again and count < ATTEMPTS and not stopping():
                time.sleep(PAUSE * 2 ** (count - 1))
            if not again or count >= ATTEMPTS or stopping():
                return Outcome(code, time.monotonic() - begun, node)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _wait(
    process: subprocess.Popen[bytes], stopping: Callable[[], bool], stop: Callable[[], None]
) -> int:
    """Return the exit code of a process; once `stopping`, ask it to stop, in the end kill it."""
    asked_at: float | None = None
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if asked_at is None and stopping():
                stop()
                asked_at = time.monotonic()
            elif asked_at is not None and time.monotonic() > asked_at + KILL_AFTER:
                os.killpg(process.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    """Let the kernel kill this process with the one that started it; nobody else would."""
    import ctypes

    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


class Local:
    """Processes of this machine, `jobs` at a time, which share its cores."""

    n_gpus = 0

    def __init__(self, jobs: int, root: Path, environment: Mapping[str, str]) -> None:
        self._root, self._environment, self._stopping = root, environment, False
        self._threads = ThreadPoolExecutor(jobs)
        self._cores = max(1, len(os.sched_getaffinity(0)) // jobs)

    def submit(self, job: Job) -> Future[Outcome]:
        """Queue a job; its training processes take its share of the cores."""
        environment = dict(self._environment) | {"OMP_NUM_THREADS": str(self._cores)}
        return self._threads.submit(execute, job, self._root, environment, lambda: self._stopping)

    def stop(self) -> None:
        """Ask running jobs to stop, resumable, and begin no other; return at once."""
        self._stopping = True
        self._threads.shutdown(wait=False)

    def close(self) -> None:
        """Stop the jobs that are left and wait until they have ended."""
        self.stop()
        self._threads.shutdown()
