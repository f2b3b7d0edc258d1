"""Trials as tasks of a Ray cluster: their number, their results, and how they are stopped."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from repository import wait_for

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.replica import Replica
from patchscale.runtime.stopping import stop_requests
from patchscale.study.errors import Stopped
from patchscale.train.settings import Settings

ray = pytest.importorskip("ray")
from patchscale.runtime import ray_pool  # noqa: E402
from patchscale.runtime.ray_pool import RayPool, concurrency  # noqa: E402

pytestmark = pytest.mark.usefixtures("deadline")
SETTINGS = Settings(
    lr=1e-3,
    weight_decay=0.0,
    warmup=0.0,
    epochs=1,
    batch_size=8,
    patience=1,
    min_delta=0.0,
    clip=1.0,
)
Task = Callable[[Replica, Path], object]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    yield
    ray.shutdown()


@pytest.fixture
def trial(tmp_path: Path) -> Replica:
    """Return a trial without data: the tasks of these tests do not train."""
    return Replica("trial", None, SETTINGS, 0, Checkpoint(tmp_path / "trial"), threads=1)


def stopped_once_begun(
    task: Task, trial: Replica, state: Path, monkeypatch: pytest.MonkeyPatch
) -> RayPool:
    """Return a pool that was stopped after its task had written `state`."""
    monkeypatch.setattr(ray_pool, "_train_on_node", task)
    pool = RayPool([state], print, lambda: "SIGTERM" if state.exists() else "")
    with pytest.raises(Stopped, match="SIGTERM: stopped, every step is kept"):
        next(pool.train([trial]))
    return pool


def test_each_trial_has_the_result_of_its_task(
    trial: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_train_on_node", lambda replica, path: (replica.seed, path.name))
    states = [tmp_path / "0.json", tmp_path / "1.json"]
    pool = RayPool(states, print, lambda: "")
    found = dict(pool.train([replace(trial, seed=seed) for seed in range(5)]))
    assert [found[place][0] for place in range(5)] == [0, 1, 2, 3, 4]
    assert {name for _, name in found.values()} == {"0.json", "1.json"}
    pool.close()


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_is_tried_four_times(
    trial: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(replica: Replica, path: Path) -> None:
        with path.open("a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_pool, "_train_on_node", killed)
    ((_, outcome),) = RayPool([tmp_path / "runs"], print, lambda: "").train([trial])
    assert isinstance(outcome, Stopped)
    assert "a trial was lost (WorkerCrashedError)" in str(outcome)
    assert (tmp_path / "runs").read_text() == "xxxx"


def test_closing_stops_a_trial_between_steps_though_cancellations_are_lost(
    trial: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(replica: Replica, path: Path) -> None:
        with stop_requests() as stopped:
            path.write_text("training")
            while not stopped():
                time.sleep(0.02)
            path.write_text(f"stopped by {stopped()}")

    cancel, lost = ray.cancel, []

    def lose_two(reference: object, **options: bool) -> None:
        if len(lost) < 2:
            lost.append(reference)
        else:
            cancel(reference, **options)

    monkeypatch.setattr(ray_pool, "REQUEST_EVERY", 0.2)
    monkeypatch.setattr(ray, "cancel", lose_two)
    state = tmp_path / "state"
    stopped_once_begun(train, trial, state, monkeypatch).close()
    assert len(lost) == 2
    assert state.read_text() == "stopped by SIGINT"


def test_closing_kills_a_trial_that_does_not_stop(
    trial: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(replica: Replica, path: Path) -> None:
        with stop_requests():
            path.write_text(str(os.getpid()))
            time.sleep(3600)

    monkeypatch.setattr(ray_pool, "REQUEST_EVERY", 0.1)
    monkeypatch.setattr(ray_pool, "GRACE", 0.5)
    state = tmp_path / "state"
    stopped_once_begun(train, trial, state, monkeypatch).close()
    wait_for(lambda: not Path("/proc", state.read_text()).exists(), seconds=120)


def test_as_many_trials_at_a_time_as_the_cluster_has_cores_for(trial: Replica) -> None:
    assert concurrency(trial, 5) == 2
    assert concurrency(trial, 1) == 1
    assert concurrency(replace(trial, threads=2), 5) == 1
    assert concurrency(replace(trial, threads=3), 5) == 1
    on_gpu = replace(trial, settings=replace(SETTINGS, device="cuda"))
    assert concurrency(on_gpu, 5) == 1
