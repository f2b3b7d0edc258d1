"""Pool that trains the trials of a search as tasks of the Ray cluster that RAY_ADDRESS names.

Checkpoints and progress are files in the folder that all nodes see, so that a trial whose worker or
node is lost resumes elsewhere.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.cluster import connect
from patchscale.runtime.pool import POLL
from patchscale.runtime.progress import Heartbeat, Report
from patchscale.runtime.replica import Outcome, Replica, outcome_of
from patchscale.runtime.retries import ATTEMPTS, TRIAL_GPU_SHARE
from patchscale.runtime.stopping import GRACE, REQUEST_EVERY, stop_requests
from patchscale.study.errors import InputError, Stopped
from patchscale.train import device

try:
    import ray
except ImportError:
    raise InputError("PATCHSCALE_TRIALS=ray: Ray is not installed; pip install '.[ray]'") from None


def concurrency(trial: Replica, batch: int) -> int:
    """Return how many trials of a batch the cluster trains at a time, at least 1.

    A trial takes a GPU, or a core for each of its threads.
    """
    connect()
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if trial.settings.device == "cuda":
        return max(1, min(batch, int(total.get("GPU", 0))))
    return max(1, min(batch, int(total.get("CPU", 1)) // trial.threads))


class RayPool:
    """Trains replicas as tasks of the cluster, with the same results as `runtime.pool.Pool`.

    Parameters
    ----------
    progress_files
        Files for the state of a replica; as many replicas are trained at a time.
    report
        Receives lines for the user.
    stopped
        Returns why to stop, or ''.
    """

    def __init__(
        self, progress_files: list[Path], report: Report, stopped: Callable[[], str]
    ) -> None:
        connect()
        self.report = report
        self._progress_files, self._stopped = [file.resolve() for file in progress_files], stopped
        self._running: dict[Any, tuple[int, Path]] = {}

    def train(self, replicas: Sequence[Replica]) -> Iterator[tuple[int, Outcome]]:
        """Yield the outcome of each replica, after its index, in the order in which they end.

        Raises
        ------
        Stopped
            A stop was requested; every step is in a checkpoint.
        """
        waiting, idle = list(enumerate(replicas))[::-1], list(self._progress_files)
        while waiting or self._running:
            while waiting and idle:
                number, replica = waiting.pop()
                file = idle.pop()
                checkpoint = Checkpoint(replica.checkpoint.path.resolve())
                task = ray.remote(
                    num_cpus=replica.threads,
                    num_gpus=TRIAL_GPU_SHARE if replica.settings.device == "cuda" else 0,
                    max_retries=ATTEMPTS - 1,
                )(_train_on_node)
                reference = task.remote(replace(replica, checkpoint=checkpoint), file)
                self._running[reference] = number, file
            ended, _ = ray.wait(list(self._running), timeout=POLL)
            for reference in ended:
                number, file = self._running.pop(reference)
                idle.append(file)
                yield number, _outcome(reference)
            if reason := self._stopped():
                raise Stopped.between_steps(reason)

    def close(self) -> None:
        """Stop the tasks between steps; kill those that have not ended after `GRACE` seconds.

        Ray may lose the cancellation of a task that is just starting, so it is repeated.
        """
        running, deadline = list(self._running), time.monotonic() + GRACE
        while running and time.monotonic() < deadline:
            for reference in running:
                ray.cancel(reference)
            _, running = ray.wait(running, num_returns=len(running), timeout=REQUEST_EVERY)
        for reference in running:
            ray.cancel(reference, force=True)


def _outcome(reference: Any) -> Outcome:
    """Return the result of a task; Stopped where its worker was lost in all attempts."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Stopped.between_steps(f"a trial was lost ({type(error).__name__})")
    return outcome


def _train_on_node(replica: Replica, progress_file: Path) -> Outcome:
    """Train on the node that Ray chose, in the share of its memory that belongs to the threads."""
    here = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    cores = next(node["Resources"]["CPU"] for node in nodes if node["NodeID"] == here)
    free = int(device.available(replica.settings.device) * replica.threads / max(cores, 1))
    with stop_requests() as stopped:
        return outcome_of(replica, free, Heartbeat(progress_file), stopped)
