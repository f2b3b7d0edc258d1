"""The processes that share one training: who starts them, which one this is, how they join.

RANK and WORLD_SIZE tell processes who they are: `launch` starts them on one machine, torchrun on
several.
"""

import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist

from patchscale.model.patchtst import count
from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.progress import Heartbeat, display
from patchscale.runtime.replica import Replica
from patchscale.runtime.sharded_checkpoint import ShardedCheckpoint
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import InputError, Stopped
from patchscale.train import device
from patchscale.train.loop import Trained, Watch, train
from patchscale.train.sharded import ShardedEngine, rank, size

TO_FAIL = 2.0
"""Seconds from the first failure in which others may tell of theirs."""
TO_STOP = 60.0
"""Seconds from the first that stopped in which others may finish what they write."""


def launch(processes: int) -> int:
    """Run this script again in so many processes; return the exit code of the contract.

    Where one ends with an error the others, which would wait for it for ever, are ended too.

    Raises
    ------
    Stopped
        One of them was killed; the same command goes on from the last checkpoint.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
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
            if stopped() and not asked:  # they agree among themselves on the step
                asked = True
                started[0].terminate()
            failed = {*codes} - {None, 0}
            since = since or (time.monotonic() if failed else 0.0)
            patience = TO_STOP if failed == {Stopped.exit_code} else TO_FAIL
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
    """Let this process be one of those that share a training on `device`."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif device != "cpu":
        raise InputError(f"train.processes: more than one is not possible on {device}")
    torch.use_deterministic_algorithms(True)
    # nothing here writes into the logits that the model returns
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


ANOTHER = "another process of the training"


def room(replica: Replica) -> int:
    """Return the bytes a model may take as if one process held it all, the same in all of them."""
    settings = replica.settings
    free = torch.tensor(device.available(settings.device) // _processes_here(settings.device))
    dist.all_reduce(free, dist.ReduceOp.MIN)
    static = BYTES_PER_WEIGHT[settings.precision] * count(replica.inputs.shape)
    return int(free) + static * (size() - 1) // size()


def _processes_here(device: str) -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if device == "cpu" else 1


def train_sharded(replicas: list[Replica], title: str) -> list[Trained]:
    """Train the replicates of a cell one after another, each over all processes.

    Raises
    ------
    Stopped
        A stop was asked for in one of the processes; every step is kept.
    """
    with joined(replicas[0].settings.device):
        return [_train(replica, title) for replica in replicas]


def _train(replica: Replica, title: str) -> Trained:
    torch.set_num_threads(replica.threads)
    checkpoint = ShardedCheckpoint(replica.checkpoint.path)
    free = room(replica)
    with stop_requests() as asked:

        def agreed(wanted: bool) -> bool:
            flag = torch.tensor(int(wanted))
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            return bool(flag)

        def stopped() -> str:
            reason = asked()
            return (reason or ANOTHER) if agreed(bool(reason)) else ""

        silent = Watch(report=lambda line: None, stopped=stopped, agreed=agreed)
        arguments = (replica.inputs, replica.settings, replica.seed, checkpoint)
        if rank():
            return train(*arguments, free=free, watch=silent, engine=ShardedEngine)
        progress_file = replica.checkpoint.path / "progress.json"
        with display([progress_file], title) as report, file_lock(replica.checkpoint.path / "lock"):
            heartbeat = Heartbeat(progress_file, report)
            heartbeat.update(name=f"{replica.name}, {size()} processes")
            watch = replace(
                silent,
                report=heartbeat.report,
                beat=heartbeat.update,
                track=lambda past: replica.track(past, heartbeat.report),
            )
            return train(*arguments, free=free, watch=watch, engine=ShardedEngine)
