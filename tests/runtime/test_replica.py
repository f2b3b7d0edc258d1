import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
import torch
from conftest import ROOT
from tiny import LONG, SETTINGS, replicas

from patchscale.runtime import pool as pools
from patchscale.runtime import replica as module
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.pool import Pool, concurrency, pool, train_replicas
from patchscale.runtime.replica import Replica
from patchscale.runtime.thermal import Reading
from patchscale.study.errors import InputError, Stopped


def side_by_side(monkeypatch, number: int) -> None:
    monkeypatch.setattr(pools, "concurrency", lambda replica, seeds, free: min(seeds, number))


def same(one: Replica, other: Replica) -> bool:
    ours, theirs = one.checkpoint.best(), other.checkpoint.best()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_replicates_are_the_same_bits_side_by_side_or_in_any_order(tmp_path, monkeypatch):
    side_by_side(monkeypatch, 1)
    alone = replicas(tmp_path / "alone", seeds=(1, 0))
    histories = [each.history for each in train_replicas(alone, "tiny-h1")]
    side_by_side(monkeypatch, 2)
    together = replicas(tmp_path / "together")
    assert [each.history for each in train_replicas(together, "tiny-h1")] == histories[::-1]
    assert same(together[0], alone[1])
    assert same(together[1], alone[0])
    assert not same(*together)


def test_as_many_train_together_as_threads_and_memory_allow(tmp_path, monkeypatch):
    (each,) = replicas(tmp_path, seeds=(0,))
    weights = 16 * each.inputs.shape.n_params
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert concurrency(each, 5, 10**9) == 5
    assert concurrency(replace(each, threads=3), 5, 10**9) == 2
    assert concurrency(replace(each, threads=9), 5, 10**9) == 1
    assert concurrency(each, 5, 2 * 3 * weights) == 3
    assert concurrency(each, 5, 1) == 1
    on_gpu = replace(each, settings=replace(SETTINGS, device="cuda"))
    assert concurrency(on_gpu, 5, 10**9) == 1


def test_the_replicate_that_fails_stops_the_others_and_its_error_is_raised(tmp_path, monkeypatch):
    side_by_side(monkeypatch, 2)
    first, second = replicas(tmp_path, LONG)
    with pytest.raises(InputError, match="epochs would take up to"):
        train_replicas([first, replace(second, max_hours=1e-9)], "tiny-h1")
    if kept := first.checkpoint.load("cpu", print):  # else it was stopped while it started
        assert len(kept[1]["history"]) < LONG.epochs
    assert second.checkpoint.load("cpu", print) is None


def test_a_pool_trains_more_replicas_than_it_has_workers_and_goes_on(tmp_path, monkeypatch):
    progress_files = [tmp_path / "worker-0.json", tmp_path / "worker-1.json"]
    three, later = replicas(tmp_path, seeds=(0, 1, 2)), replicas(tmp_path, seeds=(3,))
    with pool(progress_files, "tiny-h1", partial(Pool, 10**9)) as opened:
        ended = dict(opened.train(three))
        first = {process.pid for process in opened._workers.values()}
        ((_, ended[3]),) = opened.train(later)
        assert {process.pid for process in opened._workers.values()} == first
    assert sorted(ended) == [0, 1, 2, 3]
    side_by_side(monkeypatch, 1)
    alone = train_replicas(replicas(tmp_path / "alone", seeds=range(4)), "tiny-h1")
    assert [ended[seed].history for seed in range(4)] == [each.history for each in alone]


def test_a_worker_killed_while_it_waits_is_a_stop(tmp_path):
    progress_files = [tmp_path / "worker-0.json", tmp_path / "worker-1.json"]
    first, later = replicas(tmp_path)
    with pool(progress_files, "tiny-h1", partial(Pool, 10**9)) as opened:
        dict(opened.train([first]))
        for process in opened._workers.values():
            process.kill()
            process.join()
        ((_, outcome),) = opened.train([later])
    assert isinstance(outcome, Stopped)
    assert "was killed" in str(outcome)


def loud(*words: object) -> NoReturn:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_is_an_outcome_of_its_replica_alone(tmp_path, capfd, workers):
    progress_files = [tmp_path / f"worker-{number}.json" for number in range(workers)]
    good, bad = replicas(tmp_path)
    with pool(progress_files, "tiny-h1", partial(Pool, 10**9)) as opened:
        ended = dict(opened.train([replace(bad, track=loud), good]))
    assert isinstance(ended[0], RuntimeError)
    assert str(ended[0]) == "ZeroDivisionError: a bug"
    assert len(ended[1].history) == SETTINGS.epochs
    assert capfd.readouterr().err.count("Traceback") == 1


def test_a_replicate_that_another_process_trains_is_refused(tmp_path, monkeypatch):
    side_by_side(monkeypatch, 1)
    (each,) = replicas(tmp_path, seeds=(0,))
    with (
        file_lock(each.checkpoint.path / "lock"),
        pytest.raises(Stopped, match=f"held by process {os.getpid()}"),
    ):
        train_replicas([each], "tiny-h1")


def test_a_machine_too_hot_stops_a_training_that_then_goes_on(tmp_path, monkeypatch, capsys):
    side_by_side(monkeypatch, 1)
    readings = iter([Reading(50.0), Reading(96.0)])
    monkeypatch.setattr(module, "sensor_for", lambda device: lambda: next(readings))
    monkeypatch.setattr(module, "Guard", lambda *words: Guard(*words, interval=0.0))
    (each,), (cool,) = replicas(tmp_path, seeds=(0,)), replicas(tmp_path / "cool", seeds=(0,))
    with pytest.raises(Stopped, match=r"too hot \(96.0 C\)"):
        train_replicas([each], "tiny-h1")
    assert "96.0 C: too hot" in capsys.readouterr().err
    assert each.checkpoint.load("cpu", print)[1]["step"] == 1

    monkeypatch.setattr(module, "sensor_for", lambda device: lambda: Reading(60.0))
    (trained,), (whole,) = train_replicas([each], "tiny-h1"), train_replicas([cool], "tiny-h1")
    assert trained.history == whole.history
    assert same(each, cool)
    rows = (tmp_path / "live0/plots/metrics/temperature.tsv").read_text().splitlines()
    assert len(rows) == 1 + SETTINGS.epochs
    assert rows[-1].split("\t")[-1] == "60.0"


Guard = module.Guard

SCRIPT = """
    import sys
    from functools import partial
    from pathlib import Path
    from patchscale.runtime import pool
    from patchscale.study.stage import run
    from tiny import LONG, SETTINGS, replicas

    def main(folder, kind):
        pool.concurrency = lambda each, seeds, free: seeds
        if kind == "one of two":
            progress_files = [Path(folder) / f"worker-{number}.json" for number in range(2)]
            with pool.pool(progress_files, "tiny-h1", partial(pool.Pool, 10**9)) as opened:
                list(opened.train(replicas(Path(folder), LONG, seeds=(0,))))
        settings = LONG if kind == "long" else SETTINGS
        pool.train_replicas(replicas(Path(folder), settings), "tiny-h1")
        print("trained")

    if __name__ == "__main__":
        run(main)
"""


@pytest.fixture
def start(tmp_path):
    """Return what starts a trainer of two replicates in processes of their own."""
    script = tmp_path / "trainer.py"
    script.write_text(textwrap.dedent(SCRIPT))
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    started = []

    def call(folder: Path, kind: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder), kind],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.wait()


def wait_for_epochs(folder: Path, seeds=(0, 1)) -> list[psutil.Process]:
    """Wait until every replicate has finished an epoch; return the processes that train."""
    states = [folder / f"state{seed}" for seed in seeds]
    until = time.monotonic() + 200
    while not all((state / "state.json").exists() for state in states):
        assert time.monotonic() < until
        time.sleep(0.05)
    return [psutil.Process(int((state / "lock.pid").read_text())) for state in states]


def resumes(folder: Path, epochs: int) -> None:
    for seed in (0, 1):
        lines = []
        kept = Checkpoint(folder / f"state{seed}").load("cpu", lines.append)
        assert lines == []
        assert len(kept[1]["history"]) >= epochs


def test_a_signal_stops_all_replicates_with_exit_75(tmp_path, start):
    process = start(tmp_path, "long")
    workers = wait_for_epochs(tmp_path)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 75, err
    assert out == ""
    last = err.splitlines()[-1]
    assert "stopped" in last
    assert "the same command resumes" in last
    assert "Traceback" not in err
    assert not any(worker.is_running() for worker in workers)
    resumes(tmp_path, 1)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_every_process_and_stops_cleanly(tmp_path, start):
    process = start(tmp_path, "long")
    wait_for_epochs(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 75
    assert "Traceback" not in err
    resumes(tmp_path, 1)


@pytest.mark.slow
def test_a_killed_replicate_stops_the_others_with_exit_75(tmp_path, start):
    process = start(tmp_path, "long")
    wait_for_epochs(tmp_path)[1].kill()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 75
    assert "a process of the training was killed" in err.splitlines()[-1]
    assert "Traceback" not in err
    resumes(tmp_path, 1)


@pytest.mark.slow
def test_a_worker_without_work_does_not_outlive_a_killed_trainer(tmp_path, start):
    process = start(tmp_path, "one of two")
    wait_for_epochs(tmp_path, seeds=(0,))
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(started, timeout=100)
    assert len(started) >= 2
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_replicates_do_not_outlive_a_killed_trainer_and_the_same_command_goes_on(tmp_path, start):
    whole = start(tmp_path / "whole", "short")
    process = start(tmp_path, "long")
    workers = wait_for_epochs(tmp_path)
    process.kill()
    for worker in workers:
        worker.wait(timeout=200)
    resumes(tmp_path, 1)
    whole.communicate(timeout=200)
    assert whole.returncode == 0
    for seed in (0, 1):
        live = tmp_path / "whole" / f"live{seed}"
        assert json.loads((live / "metrics.json").read_text())["step"] == SETTINGS.epochs
