"""Fanning out over a small real DVC pipeline whose cells fail, die and wait as they are told."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from dvc.repo import Repo
from repository import Repository, wait_for

from patchscale.fanout import driver as driver_module
from patchscale.fanout import executors, repository
from patchscale.fanout.__main__ import dry, engine
from patchscale.fanout.driver import (
    CACHED,
    DONE,
    FAILED,
    LOGS,
    SAME,
    SKIPPED,
    STOPPED,
    Fan,
    fan_out,
)
from patchscale.fanout.executors import Job
from patchscale.fanout.needs import PROCESS, expected, needing
from patchscale.runtime.retries import ATTEMPTS
from patchscale.study.errors import InputError, Stopped
from patchscale.study.params import Params, load_params

PIPELINE = """\
stages:
  data:
    cmd: python data.py
    deps: [data.py]
    outs: [data.txt]
  cell:
    matrix:
      name: [a, b, c]
    cmd: python cell.py ${item.name}
    deps: [cell.py, data.txt]
    outs:
    - out/${item.name}.txt
  report:
    cmd: python report.py
    deps: [out, report.py]
    outs: [report.txt]
"""
DATA = "open('data.txt', 'w').write('numbers')\n"
CELL = """\
import os, signal, sys, time
from pathlib import Path
name, told = sys.argv[1], Path('told') / sys.argv[1]
words = told.read_text().split() if told.exists() else []
if 'once' in words:
    told.unlink()
if 'ignore' in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path('ran', name).open('a').write('x')
if 'wait' in words:
    while not Path('told/go').exists():
        time.sleep(0.05)
if 'fail' in words:
    sys.exit(f'{name} is told to fail')
if 'stop' in words:
    sys.exit(75)
if 'die' in words:
    os.kill(os.getpid(), signal.SIGKILL)
Path('out', name + '.txt').write_text(name + Path('data.txt').read_text())
"""
REPORT = """\
from pathlib import Path
text = ' '.join(path.read_text() for path in sorted(Path('out').glob('*.txt')))
open('report.txt', 'w').write(text)
"""


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    path = tmp_path / "repo"
    path.mkdir()
    repo = Repository(path)
    repo.do("git", "init", "-q", "-b", "main")
    repo.do("dvc", "init", "-q")
    for name, text in {
        "dvc.yaml": PIPELINE,
        "data.py": DATA,
        "cell.py": CELL,
        "report.py": REPORT,
        ".gitignore": "/ran\n/told\n/runs\n/data.txt\n/out\n/report.txt\n",
        ".dvcignore": "/ran\n/told\n/runs\n",
    }.items():
        (path / name).write_text(text)
    for name in ("ran", "told", "out"):
        (path / name).mkdir()
    for name in ("params.yaml", "grid.yaml"):
        shutil.copy(ROOT / name, path)
    repo.commit("pipeline")
    for key, value in repo.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(path)
    monkeypatch.setattr(executors, "PAUSE", 0.05)
    return repo


def as_it_is(job: Job) -> Job:
    return job


def collect(*globs: str) -> Fan:
    repo = Repo(".")
    return Fan(repo, repository.collect(repo, globs))


def fanned(*globs: str, jobs: int = 2, stopped=lambda: "") -> Fan:
    """Fan out in this process, as `main` does."""
    LOGS.mkdir(parents=True, exist_ok=True)
    fan = collect(*globs)
    with repository.alone(fan.repo), engine("local", jobs, Path.cwd()) as opened:
        fan_out(fan, opened, as_it_is, stopped)
    return fan


def runs(repo: Repository, name: str) -> int:
    file = repo.path / "ran" / name
    return len(file.read_text()) if file.exists() else 0


def is_up_to_date(repo: Repository) -> bool:
    return "up to date" in repo.do("dvc", "status")


def test_dvc_finds_everything_up_to_date_and_dvc_lock_is_what_repro_writes(
    repo: Repository, tmp_path: Path
) -> None:
    fan = fanned()
    assert set(fan.verdicts.values()) == {DONE}
    assert is_up_to_date(repo)
    serial = repo.clone(tmp_path / "serial")
    for name in ("ran", "told", "out"):
        (serial.path / name).mkdir()
    serial.do("dvc", "repro", "-q")
    assert (serial.path / "dvc.lock").read_bytes() == (repo.path / "dvc.lock").read_bytes()
    assert set(fanned().verdicts.values()) == {SAME}


def test_only_what_is_asked_for_and_what_it_needs_is_run(repo: Repository) -> None:
    fan = fanned("cell@[ab]")
    assert fan.verdicts == {"data": DONE, "cell@a": DONE, "cell@b": DONE}
    with pytest.raises(InputError, match="no such stage"):
        collect("cell@z")


def test_what_reads_an_output_that_came_out_the_same_is_not_run(repo: Repository) -> None:
    fanned()
    (repo.path / "data.py").write_text(DATA + "# a remark\n")
    fan = fanned()
    assert fan.verdicts.pop("data") == DONE
    assert set(fan.verdicts.values()) == {SAME}
    assert is_up_to_date(repo)


def test_cells_run_side_by_side(repo: Repository) -> None:
    for name in "ab":
        (repo.path / "told" / name).write_text("wait once")

    def go_once_both_run() -> None:
        wait_for(lambda: runs(repo, "a") and runs(repo, "b"))
        (repo.path / "told/go").touch()

    threading.Thread(target=go_once_both_run).start()
    assert set(fanned(jobs=2).verdicts.values()) == {DONE}


def test_a_failed_cell_stops_only_what_reads_from_it(repo: Repository) -> None:
    (repo.path / "told/b").write_text("fail")
    fan = fanned()
    assert fan.verdicts == {
        "data": DONE,
        "cell@a": DONE,
        "cell@b": FAILED,
        "cell@c": DONE,
        "report": SKIPPED,
    }
    assert "exit code 1; b is told to fail" in fan.details["cell@b"]
    assert "needs cell@b" in fan.details["report"]
    assert runs(repo, "b") == 1
    (repo.path / "told/b").unlink()
    again = fanned()
    assert [again.verdicts[f"cell@{name}"] for name in "abc"] == [SAME, DONE, SAME]
    assert is_up_to_date(repo)


@pytest.mark.parametrize("how", ["die", "stop"])
def test_a_cell_that_was_killed_or_stopped_itself_is_tried_again(
    repo: Repository, how: str
) -> None:
    (repo.path / "told/b").write_text(f"{how} once")
    fan = fanned()
    assert set(fan.verdicts.values()) == {DONE}
    assert "attempt 2" in fan.details["cell@b"]
    assert (runs(repo, "a"), runs(repo, "b")) == (1, 2)
    assert is_up_to_date(repo)


def test_a_cell_that_is_killed_every_time_is_given_up(repo: Repository) -> None:
    (repo.path / "told/b").write_text("die")
    fan = fanned()
    assert fan.verdicts["cell@b"] == FAILED
    assert runs(repo, "b") == ATTEMPTS


def test_a_dependency_changed_while_a_cell_ran_is_no_result(repo: Repository) -> None:
    (repo.path / "told/b").write_text("wait once")

    def change_once_it_runs() -> None:
        wait_for(lambda: runs(repo, "b"))
        (repo.path / "cell.py").write_text(CELL + "# another version\n")
        (repo.path / "told/go").touch()

    threading.Thread(target=change_once_it_runs).start()
    fan = fanned("cell@b")
    assert fan.verdicts["cell@b"] == FAILED
    assert "changed while it ran" in fan.details["cell@b"]
    assert "cell@b" not in yaml.safe_load((repo.path / "dvc.lock").read_text())["stages"]


def test_a_stop_keeps_what_is_finished_and_the_next_one_goes_on(repo: Repository) -> None:
    for name in "bc":
        (repo.path / "told" / name).write_text("wait")
    with pytest.raises(Stopped, match="SIGTERM"):
        fanned(jobs=3, stopped=lambda: "SIGTERM" if (repo.path / "out/a.txt").exists() else "")
    assert "cell@a" in yaml.safe_load((repo.path / "dvc.lock").read_text())["stages"]
    (repo.path / "told/go").touch()
    again = fanned()
    assert [again.verdicts[f"cell@{name}"] for name in "abc"] == [SAME, DONE, DONE]
    assert runs(repo, "a") == 1


def test_outputs_of_a_cell_that_never_began_stay_where_they_are(repo: Repository) -> None:
    fanned()
    (repo.path / "cell.py").write_text(CELL + "# another version\n")
    (repo.path / "told/a").write_text("wait")
    with pytest.raises(Stopped):
        fanned(jobs=1, stopped=lambda: "SIGTERM" if runs(repo, "a") == 2 else "")
    assert [path.name for path in sorted((repo.path / "out").iterdir())] == ["b.txt", "c.txt"]


def test_a_version_that_was_run_before_comes_back_from_the_run_cache(repo: Repository) -> None:
    fanned()
    for text, verdict in [("open('data.txt', 'w').write('others')\n", DONE), (DATA, CACHED)]:
        (repo.path / "data.py").write_text(text)
        assert set(fanned().verdicts.values()) == {verdict}
        assert is_up_to_date(repo)
    assert (repo.path / "report.txt").read_text() == "anumbers bnumbers cnumbers"
    assert runs(repo, "a") == 2
    (repo.path / "out/a.txt").write_text("a file of somebody")
    assert fanned().verdicts["cell@a"] == CACHED
    assert (repo.path / "out/a.txt").read_text() == "anumbers"


def test_a_command_may_be_a_list_or_need_a_shell(repo: Repository) -> None:
    stages = yaml.safe_load(PIPELINE)["stages"]
    stages["report"]["cmd"] = [
        "python report.py > said",
        "cat report.txt said > all && mv all report.txt",
    ]
    (repo.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert set(fanned().verdicts.values()) == {DONE}
    assert is_up_to_date(repo)
    stages["report"]["cmd"] = "echo $$ > pid; sleep 60; true"
    (repo.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    begun = time.monotonic()
    with pytest.raises(Stopped):
        fanned(stopped=lambda: "SIGTERM" if (repo.path / "pid").exists() else "")
    assert time.monotonic() - begun < 30


def driver(repo: Repository) -> subprocess.Popen[str]:
    """Start a fan-out in another process."""
    return subprocess.Popen(
        [sys.executable, "-m", "patchscale.fanout"],
        cwd=repo.path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_killed_driver_takes_its_cells_along_and_what_was_finished_is_not_repeated(
    repo: Repository,
) -> None:
    for name in "bc":
        (repo.path / "told" / name).write_text("wait")
    killed = driver(repo)
    log = repo.path / ".dvc/cache/runs"
    wait_for(lambda: runs(repo, "b") and runs(repo, "c") and len(list(log.glob("*/*/*"))) == 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (repo.path / "dvc.lock").exists()
    (repo.path / "told/go").touch()
    time.sleep(0.5)
    assert not (repo.path / "out/b.txt").exists()
    fan = fanned()
    assert [fan.verdicts[f"cell@{name}"] for name in "abc"] == [CACHED, DONE, DONE]
    assert runs(repo, "a") == 1
    assert is_up_to_date(repo)


def test_a_second_fan_out_and_a_repro_beside_one_are_refused(repo: Repository) -> None:
    (repo.path / "told/a").write_text("wait once")
    first = driver(repo)
    wait_for(lambda: runs(repo, "a"))
    second = driver(repo)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 75
    assert "is busy, it is being blocked by" in said
    assert f"PID {first.pid}" in said
    assert len(said.strip().splitlines()) == 1
    repro = repo.call("dvc", "repro")
    assert repro.returncode != 0
    assert "is busy" in repro.stderr
    (repo.path / "told/go").touch()
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert is_up_to_date(repo)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"Ray is not installed; pip install '.\[ray\]'"),
        engine("ray", 1, Path.cwd()),
    ):
        pass


@pytest.fixture
def params() -> Params:
    return load_params(ROOT)


def test_a_training_asks_for_its_threads_and_the_memory_of_its_weights(
    params: Params,
) -> None:
    def ask(n_gpus: int, stage: str) -> Job:
        return needing(params, n_gpus, Job(stage, "", Path("log")))

    run = params.budgets["20M"].run
    cell = ask(0, "train@20M-h1")
    assert cell.cpus == run.threads * run.seeds
    weights = 20 * params.budgets["20M"].n_params * run.seeds
    assert weights < cell.memory < 3 * weights + 5 * 2**30
    on_gpu = ask(8, "train@20M-h1")
    assert (on_gpu.cpus, on_gpu.gpus) == (run.threads, 1)
    assert on_gpu.memory < cell.memory
    untrained = ask(8, "train@2B-h1")
    assert (untrained.gpus, untrained.memory) == (0, PROCESS)
    assert ask(8, "hpo@2M-h1").spreads


def test_a_time_is_that_of_the_last_run_or_of_another_training_by_size(
    params: Params,
) -> None:
    known = {"train@2M-h1": 100.0, "report": 7.0}
    assert expected("report", params, known) == 7
    assert expected("train@2M-h1", params, known) == 100
    assert expected("train@20M-h1", params, known) == 1000
    assert expected("headline", params, known) is None
    assert expected("train@2B-h1", params, known) is None


def test_a_dry_run_names_what_is_stale_and_what_may_follow(
    repo: Repository, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    fanned()
    (repo.path / "cell.py").write_text(CELL + "# another version\n")
    dry(collect(), params)
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:-1]}
    assert list(rows) == ["cell@a", "cell@b", "cell@c", "report"]
    assert " stale " in rows["cell@a"]
    assert " may follow " in rows["report"]
    assert runs(repo, "a") == 1


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(InputError, match=f"RAY_ADDRESS: '{address}' does not answer"),
        engine("ray", 1, Path.cwd()),
    ):
        pass


@pytest.fixture
def waiting(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Return the pipeline with three cells that wait; a stop must end within two minutes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in "abc":
        (repo.path / "told" / name).write_text("wait")

    def fail(number: int, frame: object) -> None:
        raise TimeoutError("the fan-out did not end")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(120)
    yield repo
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def stop_on_ray(repo: Repository) -> Fan:
    """Fan out on Ray, one cell at a time, with a stop once the first has begun."""

    def begun() -> str:
        return "q" if any(runs(repo, name) for name in "abc") else ""

    fan = collect("cell@*")
    LOGS.mkdir(parents=True, exist_ok=True)
    with engine("ray", 1, Path.cwd()) as opened, pytest.raises(Stopped):
        fan_out(fan, opened, partial(replace, cpus=os.cpu_count()), begun)
    assert fan.verdicts.pop("data") == DONE
    assert set(fan.verdicts.values()) == {STOPPED}
    return fan


def test_a_stop_on_ray_ends_running_and_queued_cells(waiting: Repository) -> None:
    pytest.importorskip("ray")
    stop_on_ray(waiting)
    assert sum(runs(waiting, name) for name in "abc") == 1


def test_a_stop_on_ray_needs_no_cancellation(
    waiting: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "cancel", lambda reference: None)
    stop_on_ray(waiting)
    assert sum(runs(waiting, name) for name in "abc") == 1


def test_a_lost_cancellation_on_ray_is_repeated(
    waiting: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    cancel, lost = ray.cancel, []

    def lose_the_first(reference: object) -> None:
        if reference in lost:
            cancel(reference)
        lost.append(reference)

    monkeypatch.setattr(ray, "cancel", lose_the_first)
    monkeypatch.setattr(Path, "touch", lambda path: None)
    stop_on_ray(waiting)
    assert not Path("runs/fanout/stop").exists()


def test_a_cluster_that_loses_every_request_is_left(
    waiting: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "cancel", lambda reference: None)
    monkeypatch.setattr(Path, "touch", lambda path: None)
    monkeypatch.setattr(driver_module, "GIVE_UP_AFTER", 1.0)
    fan = stop_on_ray(waiting)
    assert fan.details["cell@a"] == "not ended 1 s later"


def test_a_cell_that_does_not_stop_is_killed(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo.path / "told/a").write_text("ignore wait")
    monkeypatch.setattr(executors, "KILL_AFTER", 0.5)
    with pytest.raises(Stopped):
        fanned("cell@a", stopped=lambda: "SIGTERM" if runs(repo, "a") else "")
    assert runs(repo, "a") == 1


def test_stopped_is_said_of_cells_that_had_to_stop(repo: Repository) -> None:
    (repo.path / "told/a").write_text("wait")
    fan = collect("cell@a")
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        repository.alone(fan.repo),
        engine("local", 1, Path.cwd()) as opened,
        pytest.raises(Stopped),
    ):
        fan_out(fan, opened, as_it_is, lambda: "q" if runs(repo, "a") else "")
    assert fan.verdicts == {"data": DONE, "cell@a": STOPPED}
    assert list((repo.path / "out").iterdir()) == []
