"""Executors of stage commands: processes of this machine; the protocol that Ray's follows too.

The command of a stage is a process of its own that writes its outputs into the repository. On a
cluster the repository, with its .venv, lies in a folder that all nodes see under the same path:
it holds code, data, checkpoints and results, and nothing is copied.
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

from patchscale.runtime.retries import ATTEMPTS, is_retried, pause_after
from patchscale.runtime.stopping import GRACE
from patchscale.study.errors import Stopped

ATTEMPT = "== attempt on "
"""Begins the line that precedes each attempt in a log; the node follows."""
KILL_AFTER = 2 * GRACE
"""Seconds after which a command that was asked to stop is killed; its checkpoints are kept.

A search waits for its trials for `GRACE` seconds itself.
"""
SHELL_CHARACTERS = frozenset("|&;<>()$`*?[~#\n")
"""Characters that make a command more than a program and its arguments."""


@dataclass(frozen=True)
class Job:
    """The command of a stage, its log, its outputs, and the resources that it needs."""

    name: str
    command: str
    log: Path
    outs: tuple[Path, ...] = ()
    """Outputs; removed before each attempt, so that none is left over from an earlier one."""
    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    """Bytes."""
    is_search: bool = False
    """Whether the job is a search: on a cluster its trials are tasks with resources of their own,
    and the job itself only coordinates them."""


@dataclass(frozen=True)
class JobResult:
    """The end of a job: exit code of its command, seconds of all attempts, and node."""

    exit_code: int
    seconds: float
    node: str

    @property
    def succeeded(self) -> bool:
        """Whether the command succeeded."""
        return self.exit_code == 0


class Executor(Protocol):
    """Runs jobs, as many at a time as its resources allow."""

    n_gpus: int
    """GPUs that jobs are assigned to; 0 where jobs are not assigned to GPUs."""

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue a job; raise InputError where its resources do not exist."""

    def stop(self) -> None:
        """Ask running jobs to stop, resumable, and begin no other; return at once.

        It may be called again, in case a request was lost.
        """

    def close(self) -> None:
        """Stop the jobs that are left and release the executor's resources."""


def _cores() -> int:
    """Return the cores that this process may use; all of them where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalExecutor:
    """Runs `concurrency` jobs at a time as processes of this machine, which share its cores."""

    n_gpus = 0

    def __init__(self, concurrency: int, root: Path, environment: Mapping[str, str]) -> None:
        threads = max(1, _cores() // concurrency)
        self._root, self._stopping = root, False
        self._environment = {**environment, "OMP_NUM_THREADS": str(threads)}
        self._pool = ThreadPoolExecutor(concurrency)

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue a job; the processes of its training use its share of the cores."""
        return self._pool.submit(
            execute, job, self._root, self._environment, lambda: self._stopping
        )

    def stop(self) -> None:
        """Ask running jobs to stop, resumable, and begin no other; return at once."""
        self._stopping = True
        self._pool.shutdown(wait=False)

    def close(self) -> None:
        """Stop the jobs that are left and wait until they have ended."""
        self.stop()
        self._pool.shutdown()


def execute(
    job: Job,
    root: Path,
    environment: Mapping[str, str],
    stopping: Callable[[], bool],
    node: str = "this machine",
) -> JobResult:
    """Run the command of a job on this machine; repeat it where it was killed or stopped itself.

    The kernel kills a process where memory ran out. A training stops itself with exit code 75 where
    the machine is too hot, where it lost a process, and where its lock is still held by a process
    that has not quite ended. In both cases the next attempt resumes.
    """
    if stopping():
        return JobResult(Stopped.exit_code, 0, node)
    begun, in_shell = time.monotonic(), not SHELL_CHARACTERS.isdisjoint(job.command)
    with job.log.open("ab") as stream:
        while True:
            stream.write(f"{ATTEMPT}{node}\n".encode())
            stream.flush()
            for out in job.outs:
                _remove(out)
            process = subprocess.Popen(
                ["sh", "-c", job.command] if in_shell else shlex.split(job.command),
                cwd=root,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the driver only, which asks jobs to stop
                preexec_fn=partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
            )
            # A training stops its own workers. A shell would not pass the signal on, so that all
            # its processes get it.
            terminate_all = partial(os.killpg, process.pid, signal.SIGTERM)
            code = _wait(process, stopping, terminate_all if in_shell else process.terminate)
            attempt = len(attempts(job.log))
            retry = is_retried(code) and attempt < ATTEMPTS
            if retry and not stopping():
                time.sleep(pause_after(attempt))
            if not retry or stopping():
                return JobResult(code, time.monotonic() - begun, node)


def attempts(log: Path) -> list[str]:
    """Return the node of each attempt that a log records."""
    return [line.removeprefix(ATTEMPT) for line in read_log(log) if line.startswith(ATTEMPT)]


def read_log(log: Path) -> list[str]:
    """Return the lines of a log; none where the file does not exist."""
    return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _wait(
    process: subprocess.Popen[bytes], stopping: Callable[[], bool], terminate: Callable[[], None]
) -> int:
    """Return the exit code of a process; once `stopping`, ask it to stop, in the end kill it."""
    asked_at: float | None = None
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if asked_at is None and stopping():
                terminate()
                asked_at = time.monotonic()
            elif asked_at is not None and time.monotonic() > asked_at + KILL_AFTER:
                os.killpg(process.pid, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, which may be so already."""
    import ctypes

    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
