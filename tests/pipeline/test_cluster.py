"""A toy grid of 16 cells: the same dvc.lock one after the other, two at a time, and on Ray.

The cluster is two nodes of a core each, on loopback, that share the file system.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from repository import Repository, wait_for
from test_toy_grid import toy_params, toy_repository

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

BUDGETS = {"1K": 6000, "2K": 12000, "3K": 18000, "4K": 24000}
HORIZONS = {"h1": 1, "h2": 2, "h3": 3, "h5": 5}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repo = toy_repository(tmp_path_factory.mktemp("serial"), toy_params(BUDGETS, HORIZONS))
    repo.commit("toy grid")
    repo.do("dvc", "repro", "-q", "--glob", "train@*")
    return repo


@pytest.fixture
def repo(serial: Repository, tmp_path: Path) -> Repository:
    """Return the same repository before anything ran."""
    return serial.clone(tmp_path / "repo")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


def start(repo: Repository, *words: str, cluster: Cluster | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "patchscale.fanout", *words]
    address = {"RAY_ADDRESS": cluster.address} if cluster else {}
    return subprocess.Popen(
        command,
        cwd=repo.path,
        env=repo.environment() | address,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def fan_out(repo: Repository, *words: str, cluster: Cluster | None = None) -> str:
    started = start(repo, *words, cluster=cluster)
    told, said = started.communicate(timeout=400)
    assert started.returncode == 0, told + said
    return told


def lock(repo: Repository) -> bytes:
    return (repo.path / "dvc.lock").read_bytes()


def test_two_at_a_time_leave_the_lock_of_one_after_the_other(
    serial: Repository, repo: Repository
) -> None:
    told = fan_out(repo, "train@*", "--jobs", "2")
    assert told.count(" done ") == 1 + 1 + 1 + 4 + 8 + 16
    assert lock(repo) == lock(serial)
    assert "up to date" in repo.do("dvc", "repro", "--glob", "train@*")


def test_a_cluster_leaves_the_lock_of_one_after_the_other(
    serial: Repository, repo: Repository, cluster: Cluster
) -> None:
    cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    cluster.wait_for_nodes()
    told = fan_out(repo, "train@*", "--engine", "ray", cluster=cluster)
    assert "on 127.0.0.2" in told
    assert told.count("on 127.0.0.2") < told.count(" on ")
    assert lock(repo) == lock(serial)


@pytest.fixture
def two_long(repo: Repository) -> Repository:
    """Return the grid with trainings of some seconds, and all before them done."""
    params = toy_params(BUDGETS, HORIZONS)
    params["budgets"]["2K"]["epochs"] = 120
    params["train"]["patience"] = 120
    (repo.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    repo.do("dvc", "repro", "-q", "hpo@2K-h1", "hpo@2K-h2")
    return repo


def state(repo: Repository, cell: str) -> list[Path]:
    return list(repo.path.glob(f".resume/{cell}-seed0-*/state.json"))


def test_a_lost_node_costs_what_its_checkpoint_lacks(
    two_long: Repository, cluster: Cluster, tmp_path: Path
) -> None:
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    cluster.wait_for_nodes()
    driver = start(two_long, "train@2K-h1", "train@2K-h2", "--engine", "ray", cluster=cluster)
    logs = {cell: two_long.path / f"runs/fanout/train@{cell}.log" for cell in ("2K-h1", "2K-h2")}

    def there() -> list[str]:
        return [c for c, log in logs.items() if log.is_file() and "127.0.0.2" in log.read_text()]

    wait_for(lambda: there() and state(two_long, there()[0]), seconds=120)
    (lost,) = there()
    cluster.remove_node(second, allow_graceful=False)
    told, said = driver.communicate(timeout=400)
    assert driver.returncode == 0, told + said
    (row,) = (line for line in told.splitlines() if line.startswith(f"train@{lost} "))
    assert "on 127.0.0.1" in row or "attempt 2" in row
    assert "resumed after epoch" in logs[lost].read_text()
    before = lock(two_long)
    shutil.rmtree(two_long.path / ".dvc/cache/runs")
    two_long.do("dvc", "repro", "-q", "-f", "-s", f"train@{lost}")
    assert lock(two_long) == before


def test_a_training_killed_for_its_memory_resumes(two_long: Repository) -> None:
    driver = start(two_long, "train@2K-h1")
    wait_for(lambda: state(two_long, "2K-h1"), seconds=120)
    (victim,) = (
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "stages/train.py" in child.cmdline()
    )
    victim.send_signal(signal.SIGKILL)
    told, said = driver.communicate(timeout=400)
    assert driver.returncode == 0, told + said
    assert "attempt 2" in told
    log = (two_long.path / "runs/fanout/train@2K-h1.log").read_text()
    assert "resumed after epoch" in log


def test_a_search_is_the_same_table_on_a_cluster(
    serial: Repository, repo: Repository, cluster: Cluster
) -> None:
    cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    cluster.wait_for_nodes()
    fan_out(repo, "split@h1", "features@a20")
    environment = {"RAY_ADDRESS": cluster.address, "PATCHSCALE_TRIALS": "ray"}
    environment["DVC_ROOT"] = str(repo.path)
    done = subprocess.run(
        [sys.executable, "stages/hpo.py", "1K-h1"],
        cwd=repo.path,
        env=repo.environment() | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("best.yaml", "trials.arrow", "study.journal", "importance.csv", "history.csv"):
        made, expected = (each.path / "data/hpo/1K-h1" / name for each in (repo, serial))
        assert made.read_bytes() == expected.read_bytes()
    assert not list((repo.path / ".resume").glob("hpo-1K-h1-*/"))
