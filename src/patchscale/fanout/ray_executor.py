"""Executor of stage commands as tasks of a Ray cluster whose nodes see the same folder."""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchscale.fanout.executors import Job, JobResult, execute
from patchscale.runtime.cluster import connect
from patchscale.runtime.retries import ATTEMPTS, COORDINATOR_GPU_SHARE
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import InputError

STOP_FILE = Path("runs/fanout/stop")
"""Exists while the jobs of a fan-out are asked to stop; all nodes see it."""


class RayExecutor:
    """Runs jobs on the cluster that RAY_ADDRESS names, else on one that it starts here.

    Raises
    ------
    InputError
        Ray is not installed, or no cluster answers at RAY_ADDRESS.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        connect()
        import ray

        self._ray, self._root = ray, root
        address = ray.get_runtime_context().gcs_address
        self._environment = {**environment, "RAY_ADDRESS": address, "PATCHSCALE_TRIALS": "ray"}
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        self.n_gpus = int(sum(node.get("GPU", 0) for node in self._nodes))
        self._tasks: dict[Future[JobResult], Any] = {}
        self._stop_file = root / STOP_FILE
        self._stop_file.unlink(missing_ok=True)

    def submit(self, job: Job) -> Future[JobResult]:
        """Queue a job; raise InputError where no node has the memory or the GPU that it needs."""
        if job.is_search:  # a share of a GPU makes the GPU visible to the coordinating process
            job = replace(job, cpus=0, gpus=COORDINATOR_GPU_SHARE * job.gpus, memory=0)
        needed = {"GPU": job.gpus, "memory": job.memory}
        able = [n for n in self._nodes if all(n.get(k, 0) >= v for k, v in needed.items())]
        if not able:
            raise InputError(
                f"{job.name}: needs {job.memory / 2**30:.1f} GiB and {job.gpus} GPU; the largest "
                f"node has {max(n.get('memory', 0) for n in self._nodes) / 2**30:.1f} GiB"
            )
        cpus = min(job.cpus, int(max(node.get("CPU", 0) for node in able)))
        remote = self._ray.remote(
            num_cpus=cpus, num_gpus=job.gpus, memory=job.memory, max_retries=ATTEMPTS - 1
        )(_run_on_node)
        task = remote.remote(job, self._root, self._environment)
        future: Future[JobResult] = task.future()
        self._tasks[future] = task
        return future

    def stop(self) -> None:
        """Ask running jobs to stop, resumable, and begin no other; return at once.

        Ray may lose the cancellation of a task that is just starting. Such a task finds the stop
        file, and the next call cancels it again.
        """
        self._stop_file.parent.mkdir(parents=True, exist_ok=True)
        self._stop_file.touch()
        for future, task in self._tasks.items():
            if not future.done():
                self._ray.cancel(task)

    def close(self) -> None:
        """Disconnect from the cluster, which kills the jobs that are left."""
        self._ray.shutdown()
        self._stop_file.unlink(missing_ok=True)


def _run_on_node(job: Job, root: Path, environment: dict[str, str]) -> JobResult:
    """Run a job on the node that Ray chose."""
    import ray

    node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    if not job.log.parent.is_dir():
        raise InputError(f"node {node} does not see {root}; every node must")
    assigned = {key: os.environ[key] for key in ("CUDA_VISIBLE_DEVICES",) if key in os.environ}
    threads = {"OMP_NUM_THREADS": str(max(1, job.cpus))}
    stop_file = root / STOP_FILE
    with stop_requests() as stopped:  # a running task receives its cancellation as SIGINT
        return execute(
            job,
            root,
            environment | assigned | threads,
            lambda: bool(stopped()) or stop_file.exists(),
            node,
        )
