"""Fan-outs side by side and on Ray leave the dvc.lock of a serial `dvc repro`; none loses a step.

The nodes of a cluster are processes of this machine with a core each, at addresses of their own.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from repository import Repository, wait_for
from stub_pipeline import PIPELINE, StubPipeline, fan_out
from toy import Study, toy_params, toy_repository

from patchscale.fanout.driver import DONE

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow
CELLS = "train@?K-h1"
LONG = "train@2K-h1"
SEARCH = "data/hpo/1K-h1"


@pytest.fixture(scope="module", autouse=True)
def one_order() -> Iterator[None]:
    """Fix the order in which DVC runs a few of many stages: it comes from a set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "0")
        yield


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a toy study in which nothing has run."""
    repo = toy_repository(tmp_path_factory.mktemp("fresh") / "study", toy_params())
    repo.commit("toy study")
    return repo


@pytest.fixture(scope="module")
def serial(fresh: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the toy study after a serial `dvc repro` of two cells, of which one is searched."""
    repo = fresh.copy(tmp_path_factory.mktemp("serial") / "study")
    repo.do("dvc", "repro", "-q", "--glob", CELLS)
    return repo


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a cluster of two nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def start(repo: Repository, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Start a fan-out in another process."""
    return subprocess.Popen(
        [sys.executable, "-m", "patchscale.fanout", *words],
        cwd=repo.path,
        env=repo.environment() | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def table_of(driver: subprocess.Popen[str]) -> str:
    """Wait for a fan-out, which must succeed; return the table that it prints."""
    printed, said = driver.communicate(timeout=400)
    assert driver.returncode == 0, printed + said
    return printed


def lock(repo: Repository) -> bytes:
    return (repo.path / "dvc.lock").read_bytes()


def test_two_at_a_time_leave_the_lock_of_a_serial_repro(
    fresh: Study, serial: Study, tmp_path: Path
) -> None:
    repo = fresh.copy(tmp_path / "study")
    table = table_of(start(repo, CELLS, "--jobs", "2"))
    stages = ("check", "download", "features@a20", "split@h1", "hpo@1K-h1", "hpo@2K-h1")
    done = [line.split()[0] for line in table.splitlines() if " done " in line]
    assert set(done) == {*stages, "train@1K-h1", "train@2K-h1"}
    assert lock(repo) == lock(serial)
    assert "up to date" in repo.do("dvc", "repro", "--glob", CELLS)


def test_a_cluster_leaves_the_lock_of_a_serial_repro(
    fresh: Study, serial: Study, cluster: Cluster, tmp_path: Path
) -> None:
    repo = fresh.copy(tmp_path / "study")
    table_of(start(repo, CELLS, "--engine", "ray", RAY_ADDRESS=cluster.address))
    assert lock(repo) == lock(serial)


def test_a_search_whose_trials_are_tasks_of_a_cluster_has_the_same_table(
    serial: Study, cluster: Cluster, tmp_path: Path
) -> None:
    repo = serial.copy(tmp_path / "study")
    for path in (repo.path / SEARCH).iterdir():
        path.unlink()
    done = subprocess.run(
        [sys.executable, "stages/hpo.py", "1K-h1"],
        cwd=repo.path,
        env=repo.environment()
        | {
            "RAY_ADDRESS": cluster.address,
            "PATCHSCALE_TRIALS": "ray",
            "DVC_ROOT": str(repo.path),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (serial.path / SEARCH).iterdir()}
    assert names == {"best.yaml", "trials.arrow", "study.journal", "importance.csv", "history.csv"}
    for name in names:
        assert (repo.path / SEARCH / name).read_bytes() == (
            serial.path / SEARCH / name
        ).read_bytes()
    assert not list((repo.path / ".resume").glob("hpo-1K-h1-*/"))


def test_sixteen_cells_use_both_nodes_and_leave_the_lock_of_a_serial_repro(
    stub: StubPipeline, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = yaml.safe_load(PIPELINE)
    names = list("abcdefghijklmnop")
    pipeline["stages"]["cell"]["matrix"]["name"] = names
    (stub.path / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    serial = stub.copy(tmp_path / "serial")
    serial.do("dvc", "repro", "-q")
    stub.set_behaviour("wait", *names)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)

    def stopped() -> str:
        """Let the cells go once two of them run: a node has one core."""
        if sum(map(stub.runs, names)) == 2:
            stub.let_go()
        return ""

    graph = fan_out(engine="ray", stopped=stopped)
    assert set(graph.states.values()) == {DONE}
    nodes = {graph.details[f"cell@{name}"] for name in names}
    assert len(nodes) == 2
    assert "on 127.0.0.2" in nodes
    assert lock(stub) == lock(serial)


@pytest.fixture(scope="module")
def long(fresh: Study, serial: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the toy study with a training of some seconds, and all stages before it done."""
    repo = serial.copy(tmp_path_factory.mktemp("long") / "study")
    params = repo.read("params.yaml")
    params["budgets"]["2K"]["start"]["epochs"] = 60
    params["budgets"]["2K"]["settings"] = "table"
    repo.write("params.yaml", params)
    repo.do("dvc", "repro", "-q", "hpo@2K-h1")
    return repo


@pytest.fixture(scope="module")
def undisturbed(long: Study, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the dvc.lock of the long training."""
    repo = long.copy(tmp_path_factory.mktemp("undisturbed") / "study")
    repo.do("dvc", "repro", "-q", LONG)
    return lock(repo)


def training(repo: Study) -> psutil.Process:
    """Wait for the first checkpoint of the long training; return its process, which is halted."""
    wait_for(lambda: list(repo.path.glob(".resume/2K-h1-seed0-*/state.json")), seconds=120)
    (process,) = (
        each
        for each in psutil.process_iter(["cmdline", "cwd"])
        if each.info["cwd"] == str(repo.path) and "stages/train.py" in each.info["cmdline"]
    )
    process.suspend()
    return process


def log(repo: Study) -> str:
    return (repo.path / f"runs/fanout/{LONG}.log").read_text()


def test_a_training_on_a_node_that_is_lost_resumes_on_another(
    long: Study, undisturbed: bytes, tmp_path: Path
) -> None:
    repo = long.copy(tmp_path / "study")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    cluster.wait_for_nodes()
    try:
        driver = start(repo, LONG, "--engine", "ray", RAY_ADDRESS=cluster.address)
        training(repo)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3")
        cluster.remove_node(second, allow_graceful=False)
        table = table_of(driver)
    finally:
        cluster.shutdown()
    assert f"{LONG}  done" in table
    assert "on 127.0.0.3, attempt 2" in table
    assert "== attempt on 127.0.0.2" in log(repo)
    assert "resumed after epoch" in log(repo)
    assert lock(repo) == undisturbed


def test_a_training_that_is_killed_as_for_lack_of_memory_resumes(
    long: Study, undisturbed: bytes, tmp_path: Path
) -> None:
    repo = long.copy(tmp_path / "study")
    driver = start(repo, LONG)
    training(repo).send_signal(signal.SIGKILL)
    assert "attempt 2" in table_of(driver)
    assert "resumed after epoch" in log(repo)
    assert lock(repo) == undisturbed
