"""Command line of the fan-out."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from repository import wait_for
from stub_pipeline import CELL, StubPipeline, collect, fan_out

from patchscale.fanout.__main__ import dry_run, main, make_executor
from patchscale.fanout.driver import CACHED, DONE
from patchscale.study.errors import InputError
from patchscale.study.params import load_params


def start() -> subprocess.Popen[str]:
    """Start a fan-out of the current folder in another process."""
    return subprocess.Popen(
        [sys.executable, "-m", "patchscale.fanout"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lives(process: psutil.Process) -> bool:
    """Return whether a process has not ended."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_dry_run_names_stale_stages_and_those_that_may_follow(
    stub: StubPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    fan_out()
    (stub.path / "cell.py").write_text(CELL + "# another version\n")
    dry_run(collect(), load_params(ROOT))
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:-1]}
    assert list(rows) == ["cell@a", "cell@b", "cell@c", "report"]
    assert " stale " in rows["cell@a"]
    assert " may follow " in rows["report"]
    assert lines[-1] == "4 of 5 stages, 0 s one after the other, without 4 that never ran here"
    assert stub.runs("a") == 1


def test_a_dry_run_of_what_is_up_to_date_says_so(
    stub: StubPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    fan_out()
    capsys.readouterr()
    dry_run(collect(), load_params(ROOT))
    assert capsys.readouterr().out == "nothing to do: none of 5 stages is stale\n"


def test_the_exit_code_is_1_if_a_stage_failed_and_the_table_says_why(
    stub: StubPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.set_behaviour("fail", "b")
    with pytest.raises(SystemExit) as ended:
        main("cell@*", "--jobs", "1")
    assert ended.value.code == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[:-1]] == [
        ["data", "done"],
        ["cell@a", "done"],
        ["cell@b", "failed"],
        ["cell@c", "done"],
    ]
    assert " ".join(rows[2]).endswith("on this machine: exit code 1; b fails")


def test_bad_arguments_are_named(stub: StubPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--jobs: 0 is not allowed; 1 or more"):
        main("--jobs", "0")
    with pytest.raises(InputError, match="cell@z: no such stage"):
        main("cell@z")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed; pip install '.\[ray\]'"):
        make_executor("ray", 1, Path.cwd())


def test_a_killed_driver_takes_its_cells_along_and_finished_ones_are_not_repeated(
    stub: StubPipeline,
) -> None:
    stub.set_behaviour("wait", "b", "c")
    killed = start()
    entries = f".dvc/cache/runs/*/*/{'[0-9a-f]' * 64}"  # DVC writes them under other names first
    wait_for(
        lambda: stub.runs("b") and stub.runs("c") and len(list(stub.path.glob(entries))) == 2,
        seconds=120,
    )
    cells = psutil.Process(killed.pid).children(recursive=True)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (stub.path / "dvc.lock").exists()
    wait_for(lambda: not any(map(lives, cells)), seconds=120)
    stub.let_go()
    assert not (stub.path / "out/b.txt").exists()
    graph = fan_out()
    assert [graph.states[f"cell@{name}"] for name in "abc"] == [CACHED, DONE, DONE]
    assert stub.runs("a") == 1
    assert stub.is_up_to_date()


def test_a_lock_file_that_a_killed_command_left_half_written_stops_nothing(
    stub: StubPipeline,
) -> None:
    (stub.path / ".dvc/tmp/rwlock").write_text('{"out/a.txt": {"wri')
    graph = fan_out()
    assert [graph.states[f"cell@{name}"] for name in "abc"] == [DONE, DONE, DONE]
    assert stub.is_up_to_date()


def test_a_second_fan_out_and_a_repro_beside_one_are_refused(stub: StubPipeline) -> None:
    stub.set_behaviour("wait once", "a")
    first = start()
    wait_for(lambda: stub.runs("a"), seconds=120)
    second = start()
    _, said = second.communicate(timeout=120)
    assert second.returncode == 75
    assert "is busy, it is being blocked by" in said
    assert f"PID {first.pid}" in said
    assert len(said.strip().splitlines()) == 1
    repro = stub.call("dvc", "repro")
    assert repro.returncode != 0
    assert "is busy" in repro.stderr
    stub.let_go()
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert stub.is_up_to_date()


def test_sigterm_stops_the_cells_and_ends_with_exit_code_75(stub: StubPipeline) -> None:
    stub.set_behaviour("wait", "a", "b")
    driver = start()
    wait_for(lambda: stub.runs("a") and stub.runs("b"), seconds=120)
    driver.send_signal(signal.SIGTERM)
    printed, said = driver.communicate(timeout=120)
    assert driver.returncode == 75
    assert said.splitlines()[-1] == (
        "patchscale fanout: SIGTERM: stopped; the same command goes on"
    )
    assert "cell@a  stopped" in printed
