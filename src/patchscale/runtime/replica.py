"""Trainings side by side, each in its own process: watched, guarded, tracked and stoppable."""

import math
import os
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing import parent_process

import torch

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.progress import Heartbeat, Report
from patchscale.runtime.thermal import Guard, sensor_for
from patchscale.study.errors import Ended
from patchscale.train import device
from patchscale.train.inputs import Inputs
from patchscale.train.loop import Log, Trained, Watch, train
from patchscale.train.settings import Settings

Outcome = Trained | Exception


def untracked(past: list[dict[str, float]], report: Report) -> AbstractContextManager[Log]:
    """Follow nothing."""
    return nullcontext(lambda values: None)


def never(losses: list[float]) -> bool:
    """Tell that a training may go on."""
    return False


@dataclass(frozen=True)
class Replica:
    """One training, with everything a process needs for it: a seed of a cell, or a trial."""

    name: str
    """What people call it."""
    inputs: Inputs
    settings: Settings
    seed: int
    checkpoint: Checkpoint
    threads: int
    max_hours: float = math.inf
    track: Callable[..., AbstractContextManager[Log]] = untracked
    """Opened with the rows of past epochs and what reports a line; sent to other processes."""
    enough: Callable[[list[float]], bool] = never
    """Tells, of the validation log-losses so far, whether to end; sent to other processes."""
    quiet: bool = False
    """Whether plan and pace stay unsaid."""


def outcome_of(
    replica: Replica, free: int, heartbeat: Heartbeat, stopped: Callable[[], str]
) -> Outcome:
    """Return how a training went; the traceback of a bug is printed here, where it is known."""
    try:
        return _train(replica, free, heartbeat, stopped)
    except Ended as error:
        return error
    except Exception as error:
        traceback.print_exc()
        return RuntimeError(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _train(replica: Replica, free: int, heartbeat: Heartbeat, asked: Callable[[], str]) -> Trained:
    settings = replica.settings
    if settings.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else not deterministic
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(replica.threads)
    if settings.compiled:
        torch.compiler.reset()  # else a process gives up compiling after a few shapes
    device.forget_peak(settings.device)
    heartbeat.update(name=replica.name)
    guard = Guard(sensor_for(settings.device), heartbeat.report)
    parent = parent_process()

    def requested() -> str:
        return asked() or ("" if parent is None or parent.is_alive() else "parent ended")

    def stopped() -> str:
        if not requested() and guard.check(lambda: bool(requested())) == "critical":
            return f"too hot ({guard.celsius} C)"
        return requested()

    watch = Watch(
        report=(lambda line: None) if replica.quiet else heartbeat.report,
        stopped=stopped,
        beat=heartbeat.update,
        track=lambda past: replica.track(past, heartbeat.report),
        celsius=lambda: guard.celsius,
        enough=replica.enough,
    )
    with file_lock(replica.checkpoint.path / "lock"):
        return train(
            replica.inputs,
            settings,
            replica.seed,
            replica.checkpoint,
            max_hours=replica.max_hours,
            free=free,
            watch=watch,
        )
