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

import torch
import torch.distributed as dist

from patchscale.errors import InputError, Stopped
from patchscale.stopping import stop_requests

TO_FAIL = 2.0
"""Seconds from the first failure in which others may tell of theirs."""
TO_STOP = 60.0
"""Seconds from the first that stopped in which others may finish what they write."""


def rank() -> int:
    """Return which of the processes this is; 0 where there is only one."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


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
