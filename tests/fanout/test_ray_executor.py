"""Fan-outs of the stub pipeline on a Ray cluster, and stop requests that are lost there."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from stub_pipeline import StubPipeline, collect, fan_out

from patchscale.fanout import driver
from patchscale.fanout.__main__ import make_executor
from patchscale.fanout.driver import DONE, STOPPED, StageGraph
from patchscale.fanout.executors import Job
from patchscale.fanout.ray_executor import STOP_FILE
from patchscale.study.errors import InputError, Stopped

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.usefixtures("deadline")
ONE_AT_A_TIME = partial(replace, cpus=1)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a cluster of one core."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def on_ray(stub: StubPipeline, address: str, monkeypatch: pytest.MonkeyPatch) -> StubPipeline:
    """Return the stub pipeline with RAY_ADDRESS set."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    return stub


def stop_once_begun(stub: StubPipeline) -> StageGraph:
    """Fan out on Ray, one cell at a time, with a stop request once the first cell has begun."""
    stub.set_behaviour("wait", "a", "b", "c")
    graph = collect("cell@*")
    begun = lambda: "q" if any(map(stub.runs, "abc")) else ""  # noqa: E731
    with pytest.raises(Stopped, match="q: stopped; the same command goes on"):
        fan_out(engine="ray", add_needs=ONE_AT_A_TIME, stopped=begun, graph=graph)
    assert graph.states.pop("data") == DONE
    assert set(graph.states.values()) == {STOPPED}
    return graph


def test_all_stages_run_and_dvc_finds_them_up_to_date(on_ray: StubPipeline) -> None:
    graph = fan_out(engine="ray", add_needs=ONE_AT_A_TIME)
    assert set(graph.states.values()) == {DONE}
    assert on_ray.is_up_to_date()


def test_a_stop_ends_running_and_queued_cells(on_ray: StubPipeline) -> None:
    stop_once_begun(on_ray)
    assert sum(map(on_ray.runs, "abc")) == 1
    assert not STOP_FILE.exists()


def test_a_stop_needs_no_cancellation(
    on_ray: StubPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cancel", lambda task: None)
    stop_once_begun(on_ray)
    assert sum(map(on_ray.runs, "abc")) == 1


def test_a_cancellation_that_is_lost_is_repeated(
    on_ray: StubPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel: Callable[[object], None] = ray.cancel
    lost: list[object] = []

    def lose_the_first(task: object) -> None:
        if task in lost:
            cancel(task)
        lost.append(task)

    monkeypatch.setattr(driver, "REQUEST_EVERY", 0.5)
    monkeypatch.setattr(ray, "cancel", lose_the_first)
    monkeypatch.setattr(Path, "touch", lambda path: None)  # no node sees the stop file
    stop_once_begun(on_ray)


def test_a_cluster_that_loses_every_request_is_left(
    on_ray: StubPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cancel", lambda task: None)
    monkeypatch.setattr(Path, "touch", lambda path: None)
    monkeypatch.setattr(driver, "GIVE_UP_AFTER", 1.0)
    graph = stop_once_begun(on_ray)
    assert graph.details["cell@a"] == "not ended 1 s after the stop request"


def test_a_job_that_fits_no_node_is_refused(on_ray: StubPipeline) -> None:
    executor = make_executor("ray", 1, Path.cwd())
    with pytest.raises(InputError, match=r"train@x: needs 1024\.0 GiB and 0 GPU; the largest"):
        executor.submit(Job("train@x", "true", Path("log"), memory=2**40))
    executor.close()


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"RAY_ADDRESS: '{address}': does not answer"):
        make_executor("ray", 1, Path(os.curdir))
