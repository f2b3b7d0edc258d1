"""The replicates of a cell: each in its own process, watched, guarded, tracked and stoppable."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import torch

from patchscale import memory
from patchscale.budget import BYTES_PER_WEIGHT
from patchscale.cell import Inputs
from patchscale.checkpoint import Checkpoint
from patchscale.errors import Diverged, InputError, Stopped
from patchscale.progress import Pulse, Report, display
from patchscale.schedule import Settings
from patchscale.stopping import exclusive, stop_requests
from patchscale.thermal import Guard, sensor_for
from patchscale.tracking import Run, tracking
from patchscale.train import Trained, Watch, train

POLL = 0.5  # seconds


@dataclass(frozen=True)
class Replica:
    """One seed of a cell, with everything a process needs to train it."""

    inputs: Inputs
    settings: Settings
    run: Run
    checkpoint: Checkpoint
    live: Path
    """DVCLive's directory."""
    threads: int
    max_hours: float

    @property
    def pulse(self) -> Path:
        """The file by which a process tells how far it is."""
        return self.checkpoint.path / "progress.json"


def train_replicas(replicas: list[Replica]) -> list[Trained]:
    """Train the replicates of a cell, as many at a time as there are cores and memory for.

    Each is the same bits side by side or one after another.

    Raises
    ------
    Stopped
        A stop was asked for, or a process was killed; the replicates go on where they were.
    """
    first = replicas[0]
    free = memory.available(first.settings.device)
    together = _together(first, len(replicas), free)
    with display([each.pulse for each in replicas], first.run.cell) as report:
        if together == 1:
            return [_train(each, free, report) for each in replicas]
        trained: list[Trained] = []
        for start in range(0, len(replicas), together):
            trained += _side_by_side(replicas[start : start + together], free // together)
        return trained


def _together(replica: Replica, seeds: int, free: int) -> int:
    """Return how many replicates run at a time: one on a GPU, else a core for each thread."""
    if replica.settings.device != "cpu":
        return 1
    weights = BYTES_PER_WEIGHT[replica.settings.precision] * memory.count(replica.inputs.shape)
    # half of the memory is for activations
    return max(1, min(seeds, torch.get_num_threads() // replica.threads, free // (2 * weights)))


def _side_by_side(replicas: list[Replica], free: int) -> list[Trained]:
    """Train each replicate in a process of its own; the first that fails stops the others."""
    with stop_requests(keys=True) as stopped:
        started = [_start(each, free) for each in replicas]
        results: dict[BaseProcess, Trained | Exception] = {}
        asked = False
        while pending := {end: each for each, end in started if each not in results}:
            for end in cast(list[Connection], wait(pending, POLL)):
                results[pending[end]] = _receive(pending[end], end)
            failed = any(isinstance(result, Exception) for result in results.values())
            if not asked and (failed or stopped()):
                asked = True
                for process in pending.values():
                    process.terminate()
        errors = [result for result in results.values() if isinstance(result, Exception)]
        errors.sort(key=lambda error: isinstance(error, Stopped))  # because others failed
        if errors:
            raise Stopped.between_steps(stopped()) if stopped() else errors[0]
    return [result for each, _ in started if isinstance(result := results[each], Trained)]


def _start(replica: Replica, free: int) -> tuple[BaseProcess, Connection]:
    """Start a replicate's process; return it with the end of the pipe its result comes from."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, replica, free))
    # inherited: Ctrl-C is ours to hand on, and no process dies of it while it starts
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)
    theirs.close()  # so that the pipe ends where the process does
    return process, ours


def _receive(process: BaseProcess, end: Connection) -> Trained | Exception:
    """Return how a replicate went; a process that did not tell was killed or has a bug."""
    with suppress(EOFError):
        result: Trained | Exception = end.recv()
        process.join()
        return result
    process.join()
    if process.exitcode == 1:
        return RuntimeError("a replicate failed, as its traceback says")
    return Stopped.between_steps("the process of a replicate was killed")


def _work(end: Connection, replica: Replica, free: int) -> None:
    """Train and send how it went."""
    try:
        end.send(_train(replica, free))
    except (InputError, Stopped, Diverged) as error:
        end.send(error)


def _train(replica: Replica, free: int, report: Report | None = None) -> Trained:
    """Train in this process; without `report`, a process of its own, the parent shows lines."""
    if replica.settings.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else not deterministic
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(replica.threads)
    pulse = Pulse(replica.pulse, report)
    pulse.beat(seed=replica.run.seed)
    guard = Guard(sensor_for(replica.settings.device), pulse.say)
    parent = parent_process()
    alone = parent is None
    with (
        exclusive(replica.checkpoint.path / "lock"),
        stop_requests(keys=alone) as asked,
    ):

        def requested() -> str:
            return asked() or ("" if parent is None or parent.is_alive() else "parent ended")

        def stopped() -> str:
            if not requested() and guard.check(lambda: bool(requested())) == "critical":
                return f"too hot ({guard.celsius} C)"
            return requested()

        watch = Watch(
            report=pulse.say,
            stopped=stopped,
            beat=pulse.beat,
            track=lambda past: tracking(replica.live, replica.run, past, pulse.say),
            celsius=lambda: guard.celsius,
        )
        return train(
            replica.inputs,
            replica.settings,
            replica.run.seed,
            replica.checkpoint,
            max_hours=replica.max_hours,
            free=free,
            watch=watch,
        )
