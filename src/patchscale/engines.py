"""Where stages run: processes of this machine, or the nodes of a Ray cluster with the same folder.

A stage's command is a process of its own that writes the outputs of its stage, into the repository
itself: on a cluster the repository, with .venv, lies in a folder that every node sees under the
same path. That folder carries code, data, checkpoints and results; nothing is copied.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from patchscale.errors import InputError, Stopped

ATTEMPTS = 4
PAUSE = 2.0
"""Seconds before a second attempt, twice that before a third and so on."""
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
GLIMPSE = 0.05
"""Of a GPU, for the process of a search: it must see one, its trials take 0.9 (cluster.GPUS)."""
ATTEMPT = "== attempt on "
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
        """Let running jobs stop, resumable, and no other begin."""

    def close(self) -> None:
        """End what the engine started."""


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
            if stopping() or not again or count >= ATTEMPTS:
                return Outcome(code, time.monotonic() - begun, node)
            time.sleep(PAUSE * 2 ** (count - 1))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _wait(
    process: subprocess.Popen[bytes], stopping: Callable[[], bool], stop: Callable[[], None]
) -> int:
    """Wait for a process, which is asked to stop when `stopping` says so or we are interrupted."""
    asked = False
    try:
        while True:
            try:
                return process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if stopping() and not asked:
                    stop()
                    asked = True
    except BaseException:
        stop()
        process.wait()
        raise


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
        """Let running jobs stop, resumable, and no other begin."""
        self._stopping = True
        self._threads.shutdown()

    def close(self) -> None:
        """End the threads; a job that is left stops."""
        self.stop()


class Cluster:
    """The nodes of a Ray cluster; RAY_ADDRESS names it, else one is started on this machine."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--engine ray: Ray is not installed; pip install '.[ray]'") from None
        self._ray, self._root = ray, root
        wanted = os.environ.get("RAY_ADDRESS", "")
        try:
            _knock(wanted)
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        except OSError:
            raise InputError(
                f"RAY_ADDRESS: {wanted!r} does not answer; `ray start --head` starts a cluster and "
                "names its address"
            ) from None
        address = ray.get_runtime_context().gcs_address
        self._environment = dict(environment) | {"RAY_ADDRESS": address, "PATCHSCALE_TRIALS": "ray"}
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        self.n_gpus = int(sum(node.get("GPU", 0) for node in self._nodes))
        self._references: list[Any] = []

    def submit(self, job: Job) -> Future[Outcome]:
        """Queue a job; raise InputError where no node has what it needs."""
        if job.spreads:  # a little of a GPU lets it see that there is one
            job = replace(job, cpus=0, gpus=GLIMPSE * job.gpus, memory=0)
        wanted = {"GPU": job.gpus, "memory": job.memory}
        able = [n for n in self._nodes if all(n.get(k, 0) >= v for k, v in wanted.items())]
        if not able:
            raise InputError(
                f"{job.name}: needs {job.memory / 2**30:.1f} GiB and {job.gpus} GPU; the largest "
                f"node has {max(n.get('memory', 0) for n in self._nodes) / 2**30:.1f} GiB"
            )
        cpus = min(job.cpus, int(max(node.get("CPU", 0) for node in able)))
        remote = self._ray.remote(
            num_cpus=cpus, num_gpus=job.gpus, memory=job.memory, max_retries=ATTEMPTS - 1
        )(_on_node)
        reference = remote.remote(job, self._root, self._environment)
        self._references.append(reference)
        future: Future[Outcome] = reference.future()
        return future

    def stop(self) -> None:
        """Let running jobs stop, resumable, and no other begin."""
        for reference in self._references:
            self._ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster, which ends what is left of our jobs."""
        self._ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at host:port; Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _on_node(job: Job, root: Path, environment: dict[str, str]) -> Outcome:
    """Run a job on the node that Ray chose."""
    import ray

    node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    if not job.log.parent.is_dir():
        raise InputError(f"node {node} does not see {root}; every node must")
    own = {key: os.environ[key] for key in ("CUDA_VISIBLE_DEVICES",) if key in os.environ}
    threads = {"OMP_NUM_THREADS": str(max(1, job.cpus))}
    return execute(job, root, environment | own | threads, lambda: False, node)


@contextmanager
def engine(name: str, jobs: int, root: Path) -> Iterator[Engine]:
    """Open the engine of a name, `local` or `ray`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = dict(os.environ) | {"PATH": path, "DVC_ROOT": str(root)}
    opened = Local(jobs, root, environment) if name == "local" else Cluster(root, environment)
    try:
        yield opened
    finally:
        opened.close()
