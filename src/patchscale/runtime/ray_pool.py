"""The trials of a search as tasks of the Ray cluster that RAY_ADDRESS names.

Checkpoints and progress are files of the folder that every node sees: a trial whose worker or node
is lost resumes elsewhere.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.pool import POLL
from patchscale.runtime.progress import Pulse, Report
from patchscale.runtime.replica import Outcome, Replica, outcome_of
from patchscale.runtime.retries import ATTEMPTS, GPUS
from patchscale.runtime.stopping import GRACE, REQUEST_EVERY, stop_requests
from patchscale.study.errors import Stopped
from patchscale.train import device


def connect() -> None:
    """Join the cluster, unless this process has."""
    if not ray.is_initialized():
        ray.init(log_to_driver=False, configure_logging=False)


def places(replica: Replica, batch: int) -> int:
    """Return how many trials like this one the cluster trains at a time."""
    connect()
    room = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if replica.settings.device == "cuda":
        return max(1, min(batch, int(room.get("GPU", 0))))
    return max(1, min(batch, int(room.get("CPU", 1)) // replica.threads))


class ClusterPool:
    """Trains replicas as tasks, one for each of `pulses` at a time; the bits are a Pool's."""

    def __init__(self, pulses: list[Path], report: Report, stopped: Callable[[], str]) -> None:
        connect()
        self.report = report
        self._pulses, self._stopped = [pulse.resolve() for pulse in pulses], stopped
        self._busy: dict[Any, tuple[int, Path]] = {}

    def train(self, replicas: Sequence[Replica]) -> Iterator[tuple[int, Outcome]]:
        """Yield how each replica went, with its place in `replicas`, as they end.

        Raises
        ------
        Stopped
            A stop was asked for; every step is kept.
        """
        waiting, idle = list(enumerate(replicas))[::-1], list(self._pulses)
        while waiting or self._busy:
            while waiting and idle:
                number, replica = waiting.pop()
                pulse = idle.pop()
                kept = Checkpoint(replica.checkpoint.path.resolve())
                task = ray.remote(
                    num_cpus=replica.threads,
                    num_gpus=GPUS if replica.settings.device == "cuda" else 0,
                    max_retries=ATTEMPTS - 1,
                )(_on_node)
                self._busy[task.remote(replace(replica, checkpoint=kept), pulse)] = number, pulse
            ended, _ = ray.wait(list(self._busy), timeout=POLL)
            for reference in ended:
                number, pulse = self._busy.pop(reference)
                idle.append(pulse)
                yield number, _result(reference)
            if reason := self._stopped():
                raise Stopped.between_steps(reason)

    def close(self) -> None:
        """Stop the tasks between steps; kill those that have not ended after `GRACE` seconds.

        Ray may lose the cancellation of a task that is just starting, so it is repeated.
        """
        running, deadline = list(self._busy), time.monotonic() + GRACE
        while running and time.monotonic() < deadline:
            for reference in running:
                ray.cancel(reference)
            _, running = ray.wait(running, num_returns=len(running), timeout=REQUEST_EVERY)
        for reference in running:
            ray.cancel(reference, force=True)


def _result(reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Stopped.between_steps(f"a trial was lost ({type(error).__name__})")
    return outcome


def _on_node(replica: Replica, pulse: Path) -> Outcome:
    """Train on the node that Ray chose, with its core's share of the memory."""
    here = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    cores = next(node["Resources"]["CPU"] for node in nodes if node["NodeID"] == here)
    free = int(device.available(replica.settings.device) * replica.threads / max(cores, 1))
    with stop_requests() as stopped:
        return outcome_of(replica, free, Pulse(pulse), stopped)
