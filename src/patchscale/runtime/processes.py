"""Start and join the processes that share one training.

The variables RANK and WORLD_SIZE number the processes: `launch` sets them on one machine, torchrun
on several.
"""

import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist

from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.progress import Heartbeat, display
from patchscale.runtime.replica import Replica
from patchscale.runtime.sharded_checkpoint import ShardedCheckpoint
from patchscale.runtime.stopping import PARENT, stop_requests
from patchscale.study.errors import InputError, Stopped
from patchscale.train import device
from patchscale.train.callbacks import Callbacks, Log
from patchscale.train.loop import Trained, train
from patchscale.train.sharded import SHARDED, rank, size

SECONDS_TO_FAIL = 2.0
"""From the first failure, time for other processes to report theirs."""
SECONDS_TO_STOP = 60.0
"""From the first process that stopped, time for others to finish writing."""
ANOTHER = "another process of the training"


def launch(processes: int) -> int:
    """Run this script again in several processes and return the exit code of the stage.

    Where one process fails, the others are ended: they would wait for it for ever.

    Raises
    ------
    Stopped
        A process was killed. The same command resumes from the last checkpoint.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared[PARENT] = str(os.getpid())
    started = [
        subprocess.Popen(
            [sys.executable, *sys.argv],
            env=os.environ | shared | {"RANK": str(number), "LOCAL_RANK": str(number)},
        )
        for number in range(processes)
    ]
    asked, since = False, 0.0
    ended: list[subprocess.Popen[bytes]] = []
    with stop_requests() as stopped:
        while None in (codes := [each.poll() for each in started]):
            time.sleep(0.2)
            if stopped() and not asked:  # the processes agree on the step after which they stop
                asked = True
                started[0].terminate()
            failed = {*codes} - {None, 0}
            since = since or (time.monotonic() if failed else 0.0)
            patience = SECONDS_TO_STOP if failed == {Stopped.exit_code} else SECONDS_TO_FAIL
            if failed and time.monotonic() - since > patience:
                ended = [each for each in started if each.poll() is None]
                for each in ended:
                    each.kill()
                    each.wait()
    ours = [each.returncode for each in started if each not in ended]
    if min(ours) < 0:
        raise Stopped("a process of the training was killed; the same command goes on")
    return max(ours)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the process group of a training on `device`."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif device != "cpu":
        raise InputError(f"run.processes: several are not possible on {device}")
    torch.use_deterministic_algorithms(True)
    # harmless: nothing here writes into the logits that the model returns
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


class ShardedCallbacks(Callbacks):
    """Callbacks of one process of a shared training: silent, and agreed with the others."""

    def __init__(self, asked: Callable[[], str]) -> None:
        self._asked = asked

    def report(self, line: str) -> None:
        """Report nothing; the first process does."""

    def agree(self, wanted: bool) -> bool:
        """Tell whether any process wants it."""
        flag = torch.tensor(int(wanted))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def stop_reason(self) -> str:
        """Return why to stop, the same decision in all processes."""
        reason = self._asked()
        return (reason or ANOTHER) if self.agree(bool(reason)) else ""


class FirstProcessCallbacks(ShardedCallbacks):
    """Callbacks of the first process, which also reports progress and opens the trackers."""

    def __init__(self, asked: Callable[[], str], replica: Replica, heartbeat: Heartbeat) -> None:
        super().__init__(asked)
        self._replica, self._heartbeat = replica, heartbeat

    def report(self, line: str) -> None:
        """Report one line."""
        self._heartbeat.report(line)

    def heartbeat(self, **state: Any) -> None:
        """Write the state of the run."""
        self._heartbeat.update(**state)

    def track(self, past: list[dict[str, float]]) -> AbstractContextManager[Log]:
        """Open the replica's trackers."""
        return self._replica.track(past, self._heartbeat.report)


def memory_budget(replica: Replica) -> int:
    """Return the memory budget of an unsharded model, in bytes, the same in all processes.

    A process holds a share of weights, gradients and moments; the shares of the others are added
    to its free memory.
    """
    settings = replica.settings
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", size())) if settings.device == "cpu" else 1
    free = torch.tensor(device.available(settings.device) // processes)
    dist.all_reduce(free, dist.ReduceOp.MIN)
    static = BYTES_PER_WEIGHT[settings.precision] * replica.inputs.shape.n_params
    return int(free) + static * (size() - 1) // size()


def train_sharded(replicas: list[Replica], title: str) -> list[Trained]:
    """Train the replicates of a cell one after another, each over all processes.

    Raises
    ------
    Stopped
        A stop was requested in one of the processes. Every step made is kept.
    """
    with joined(replicas[0].settings.device):
        return [_train(replica, title) for replica in replicas]


def _train(replica: Replica, title: str) -> Trained:
    torch.set_num_threads(replica.threads)
    checkpoint = ShardedCheckpoint(replica.checkpoint.path)
    free = memory_budget(replica)

    def fit(callbacks: Callbacks) -> Trained:
        return train(
            replica.inputs,
            replica.settings,
            replica.seed,
            checkpoint,
            free=free,
            callbacks=callbacks,
            parallel=SHARDED,
        )

    with stop_requests() as asked:
        if rank():
            return fit(ShardedCallbacks(asked))
        progress = replica.checkpoint.path / "progress.json"
        with display([progress], title) as report, file_lock(replica.checkpoint.path / "lock"):
            heartbeat = Heartbeat(progress, report)
            heartbeat.update(name=f"{replica.name}, {size()} processes")
            return fit(FirstProcessCallbacks(asked, replica, heartbeat))
