"""One training in this process: deterministic, guarded against heat, tracked and stoppable."""

import math
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any

import torch

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.progress import Heartbeat, Report
from patchscale.runtime.stopping import interruptible
from patchscale.runtime.thermal import Guard, sensor_for
from patchscale.study.errors import Ended, of_machine
from patchscale.train.callbacks import Callbacks, Log
from patchscale.train.device import prepare
from patchscale.train.engine import Engine
from patchscale.train.inputs import Inputs
from patchscale.train.loop import Trained, train
from patchscale.train.settings import Settings

Outcome = Trained | Exception
"""Result of a training, or the error that ended it."""


def untracked(past: list[dict[str, float]], report: Report) -> AbstractContextManager[Log]:
    """Open no tracker."""
    return nullcontext(lambda values: None)


@dataclass(frozen=True)
class Replica:
    """One training, with all that a process needs for it: a seed of a cell, or a trial."""

    name: str
    """Name shown in progress."""
    inputs: Inputs
    settings: Settings
    seed: int
    checkpoint: Checkpoint
    threads: int
    max_hours: float = math.inf
    track: Callable[..., AbstractContextManager[Log]] = untracked
    """Opens trackers, given the rows of finished epochs and a reporter; must be picklable."""
    quiet: bool = False
    """Whether plan and pace are not reported."""

    @property
    def steps(self) -> int:
        """Optimiser steps of the training."""
        samples = len(self.inputs.train.rows)
        return self.settings.epochs * math.ceil(samples / self.settings.batch_size)

    def hours(self, steps: int, limit: float) -> float:
        """Return the expected hours of `steps` on its threads, as `Engine.hours` does."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        hours = Engine(self.inputs, self.settings, self.seed).hours(steps, limit)
        torch.set_num_threads(threads)
        return hours


class ReplicaCallbacks(Callbacks):
    """Callbacks that report through a heartbeat file and watch signals, parent and temperature."""

    def __init__(self, replica: Replica, heartbeat: Heartbeat, asked: Callable[[], str]) -> None:
        self._replica, self._heartbeat, self._asked = replica, heartbeat, asked
        self._guard = Guard(sensor_for(replica.settings.device), heartbeat.report)
        self._parent = parent_process()

    def report(self, line: str) -> None:
        """Report one line, unless the replica is quiet."""
        if not self._replica.quiet:
            self._heartbeat.report(line)

    def heartbeat(self, **state: Any) -> None:
        """Write the state of the run."""
        self._heartbeat.update(**state)

    def stop_reason(self) -> str:
        """Return why to stop: a request, the end of the parent, or a critical temperature."""
        if not self._requested() and self._guard.check(self._is_requested) == "critical":
            return f"too hot ({self._guard.celsius} C)"
        return self._requested()

    def interruptible(self) -> AbstractContextManager[None]:
        """Return a block that a request, or the end of the parent, ends at once."""
        return interruptible(self._requested)

    def celsius(self) -> float | None:
        """Return the last temperature that the guard read."""
        return self._guard.celsius

    def track(self, past: list[dict[str, float]]) -> AbstractContextManager[Log]:
        """Open the replica's trackers."""
        return self._replica.track(past, self._heartbeat.report)

    def _requested(self) -> str:
        orphaned = self._parent is not None and not self._parent.is_alive()
        return self._asked() or ("parent ended" if orphaned else "")

    def _is_requested(self) -> bool:
        return bool(self._requested())


def outcome_of(
    replica: Replica, free: int, heartbeat: Heartbeat, stopped: Callable[[], str]
) -> Outcome:
    """Train a replica within `free` bytes and return its result or its error.

    The traceback of an unexpected error is printed here: it does not survive the way back to
    another process.
    """
    try:
        return run(replica, free, heartbeat, stopped)
    except Ended as error:
        return error
    except Exception as error:
        if stopped_by := of_machine(error):
            return stopped_by
        traceback.print_exc()
        return RuntimeError(f"{type(error).__name__}: {' '.join(str(error).split())}")


def run(replica: Replica, free: int, heartbeat: Heartbeat, stopped: Callable[[], str]) -> Trained:
    """Train a replica within `free` bytes; raise what ends it early."""
    settings = replica.settings
    prepare(settings.device, replica.threads, settings.compiled)
    heartbeat.update(name=replica.name)
    with file_lock(replica.checkpoint.path / "lock"):
        return train(
            replica.inputs,
            settings,
            replica.seed,
            replica.checkpoint,
            max_hours=replica.max_hours,
            free=free,
            callbacks=ReplicaCallbacks(replica, heartbeat, stopped),
        )
