"""The command of a job: attempts, its shell, and how it is stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest
from repository import wait_for

from patchscale.fanout import executors
from patchscale.fanout.executors import Job, LocalExecutor, attempts, execute, read_log
from patchscale.runtime import retries
from patchscale.runtime.retries import ATTEMPTS


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Return a function that makes a job of a command; retries begin at once."""
    monkeypatch.setattr(retries, "PAUSE", 0.0)
    return lambda command, *outs: Job("job", command, tmp_path / "job.log", outs)


def run(job: Job, stopping: Callable[[], bool] = lambda: False) -> int:
    return execute(job, job.log.parent, {"PATH": "/usr/bin:/bin"}, stopping).exit_code


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 75", "exit 137"])
def test_a_command_that_was_killed_or_stopped_itself_is_tried_four_times(job, end: str) -> None:
    each = job(f"echo begun; {end}")
    assert run(each) in (-9, 75, 137)
    assert attempts(each.log) == ["this machine"] * ATTEMPTS
    assert read_log(each.log).count("begun") == ATTEMPTS == 4


@pytest.mark.parametrize("end", ["exit 0", "exit 1", "exit 2", "kill -15 $$"])
def test_a_command_that_succeeded_or_failed_is_not_repeated(job, end: str) -> None:
    each = job(f"echo begun; {end}")
    run(each)
    assert len(attempts(each.log)) == 1


def test_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE", 2.0)
    assert [retries.pause_after(attempt) for attempt in (1, 2, 3)] == [2, 4, 8]


def test_outputs_of_an_earlier_attempt_are_removed(job, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert run(job("ls", tmp_path / "folder", tmp_path / "file", tmp_path / "absent")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.log"]


def test_a_job_that_is_to_stop_does_not_begin(job) -> None:
    each = job("echo begun")
    assert run(each, stopping=lambda: True) == 75
    assert not each.log.exists()


def test_a_stop_during_a_pause_ends_the_attempts(job) -> None:
    each = job("echo begun; exit 75")
    assert run(each, stopping=lambda: "begun" in read_log(each.log)) == 75
    assert len(attempts(each.log)) == 1


def test_all_processes_of_a_shell_are_stopped(job, tmp_path: Path) -> None:
    each = job("(echo begun; sleep 1000; echo on) | cat")
    assert run(each, stopping=lambda: "begun" in read_log(each.log)) == -15
    assert read_log(each.log)[1:] == ["begun"]


def test_a_command_that_does_not_stop_is_killed(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "KILL_AFTER", 0.5)
    each = job("trap '' TERM; echo begun; while true; do sleep 0.1; done")
    assert run(each, stopping=lambda: "begun" in read_log(each.log)) == -9
    assert len(attempts(each.log)) == 1


def test_closing_stops_running_and_queued_jobs(job, tmp_path: Path) -> None:
    each = job("echo begun; sleep 1000")
    executor = LocalExecutor(1, tmp_path, {"PATH": "/usr/bin:/bin"})
    running, queued = executor.submit(each), executor.submit(each)
    wait_for(lambda: "begun" in read_log(each.log), seconds=120)
    executor.close()
    assert (running.result().exit_code, queued.result().exit_code) == (-15, 75)
    assert len(attempts(each.log)) == 1
