"""Stages as tasks of a Ray cluster whose nodes see the same folder."""

import os
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchscale.fanout.executors import Job, Outcome, execute
from patchscale.runtime.retries import ATTEMPTS, GLIMPSE
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import InputError

STOP_FILE = Path("runs/fanout/stop")
"""Exists while the jobs of a fan-out are asked to stop; every node sees it."""


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
        self._references: dict[Future[Outcome], Any] = {}
        self._stop_file = root / STOP_FILE
        self._stop_file.unlink(missing_ok=True)

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
        future: Future[Outcome] = reference.future()
        self._references[future] = reference
        return future

    def stop(self) -> None:
        """Ask running jobs to stop, resumable, and begin no other; return at once.

        Ray may lose the cancellation of a task that is just starting; such a task finds the stop
        file. A task for which no node is free finds no file, but its cancellation is not lost.
        """
        self._stop_file.parent.mkdir(parents=True, exist_ok=True)
        self._stop_file.touch()
        for future, reference in self._references.items():
            if not future.done():
                self._ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster, which kills what is left of our jobs."""
        self._ray.shutdown()
        self._stop_file.unlink(missing_ok=True)


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
    stop_file = root / STOP_FILE
    with stop_requests() as stopped:  # cancelling a task that runs is a SIGINT
        return execute(
            job,
            root,
            environment | own | threads,
            lambda: bool(stopped()) or stop_file.exists(),
            node,
        )
