"""Train replicas side by side, each in a process of its own."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, cast

import torch

from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.runtime.progress import Heartbeat, Report, display
from patchscale.runtime.replica import Outcome, Replica, outcome_of
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import Stopped
from patchscale.train import device
from patchscale.train.loop import Trained

POLL = 0.5  # seconds


class Pool:
    """Worker processes that train replicas; a single one is this process.

    Parameters
    ----------
    free
        Memory budget in bytes, shared evenly by the workers.
    progress_files
        Progress files, one for each worker.
    report
        Prints a line.
    stopped
        Returns why to stop, or an empty string.

    The bits of a training do not depend on the number of workers.
    """

    def __init__(
        self, free: int, progress_files: list[Path], report: Report, stopped: Callable[[], str]
    ) -> None:
        self.report = report
        self._progress_files, self._stopped = progress_files, stopped
        self._free = free // len(progress_files)
        self._workers: dict[Connection, BaseProcess] = {}
        self._busy: dict[Connection, int] = {}

    def train(self, replicas: Sequence[Replica]) -> Iterator[tuple[int, Outcome]]:
        """Yield the index and the outcome of each replica, in the order in which they end.

        Raises
        ------
        Stopped
            A stop was requested. Every step made is kept.
        """
        if len(self._progress_files) == 1:
            for number, each in enumerate(replicas):
                heartbeat = Heartbeat(self._progress_files[0], self.report)
                yield number, outcome_of(each, self._free, heartbeat, self._stopped)
                self._refuse_if_stopped()
            return
        if not self._workers:
            self._workers = dict(_start(file, self._free) for file in self._progress_files)
        waiting, idle = list(enumerate(replicas))[::-1], list(self._workers)
        while waiting or self._busy:
            while waiting and idle:
                end, (number, replica) = idle.pop(0), waiting.pop()
                self._busy[end] = number
                with suppress(OSError):  # the worker was killed: `_receive` reports it
                    end.send(replica)
            for end in cast(list[Connection], wait(self._busy, POLL)):
                idle.append(end)
                yield self._busy.pop(end), _receive(self._workers[end], end)
            self._refuse_if_stopped()

    def close(self) -> None:
        """End the workers; their trainings keep every step."""
        for end, process in self._workers.items():
            if end in self._busy:
                process.terminate()
            end.close()  # an idle worker ends when its pipe does
        for process in self._workers.values():
            process.join()

    def _refuse_if_stopped(self) -> None:
        if reason := self._stopped():
            raise Stopped.between_steps(reason)


class ReplicaPool(Protocol):
    """Workers that train replicas, on this machine or on a cluster."""

    report: Report

    def train(self, replicas: Sequence[Replica]) -> Iterator[tuple[int, Outcome]]:
        """Yield the index and the outcome of each replica, in the order in which they end."""

    def close(self) -> None:
        """End the workers; their trainings keep every step."""


MakePool = Callable[[list[Path], Report, Callable[[], str]], ReplicaPool]


@contextmanager
def pool(progress_files: list[Path], title: str, make: MakePool) -> Iterator[ReplicaPool]:
    """Open a pool with one worker for each progress file, with a display and stop requests."""
    with stop_requests(keys=True) as stopped, display(progress_files, title) as report:
        opened = make(progress_files, report, stopped)
        try:
            yield opened
        finally:
            opened.close()


def train_replicas(replicas: list[Replica], title: str) -> list[Trained]:
    """Train the replicates of a cell, as many at a time as cores and memory allow.

    Raises
    ------
    Stopped
        A stop was requested, or a worker was killed. The same command resumes.
    """
    first = replicas[0]
    free = device.available(first.settings.device)
    progress_files = [
        replica.checkpoint.path / "progress.json"
        for replica in replicas[: concurrency(first, len(replicas), free)]
    ]
    trained = {}
    with pool(progress_files, title, partial(Pool, free)) as opened:
        for number, outcome in opened.train(replicas):
            if isinstance(outcome, Exception):
                raise outcome
            trained[number] = outcome
    return [trained[number] for number in range(len(replicas))]


def concurrency(replica: Replica, jobs: int, free: int) -> int:
    """Return how many of `jobs` trainings run at a time: one on a GPU, else by cores and memory."""
    if replica.settings.device != "cpu":
        return 1
    weights = BYTES_PER_WEIGHT[replica.settings.precision] * replica.inputs.shape.n_params
    # half of the memory is left for activations
    return max(1, min(jobs, torch.get_num_threads() // replica.threads, free // (2 * weights)))


def _start(progress_file: Path, free: int) -> tuple[Connection, BaseProcess]:
    """Start a worker; return our end of its pipe, and the process."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, progress_file, free))
    # the worker inherits this: Ctrl-C reaches it through us, even while it starts
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)
    theirs.close()  # now the pipe ends when the worker does
    return ours, process


def _receive(process: BaseProcess, end: Connection) -> Outcome:
    """Return the outcome that a worker sent; a worker that sent none was killed."""
    try:
        outcome: Outcome = end.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        return Stopped.between_steps("a process of the training was killed")
    return outcome


def _work(end: Connection, progress_file: Path, free: int) -> None:
    """Train the replicas that arrive through the pipe, until it ends."""
    with suppress(EOFError, OSError):
        while True:
            replica: Replica = end.recv()
            with stop_requests() as stopped:
                outcome = outcome_of(replica, free, Heartbeat(progress_file), stopped)
            end.send(outcome)
