"""Fan-outs of the stub pipeline: order, states, dvc.lock, and stop requests."""

import threading
from pathlib import Path

import pytest
import yaml
from repository import wait_for
from stub_pipeline import CELL, DATA, FOLDERS, PIPELINE, StubPipeline, collect, fan_out

from patchscale.fanout.driver import CACHED, DONE, FAILED, SKIPPED, STOPPED, UNCHANGED
from patchscale.runtime.retries import ATTEMPTS
from patchscale.study.errors import InputError, Stopped


def test_dvc_finds_everything_up_to_date_and_dvc_lock_is_what_repro_writes(
    stub: StubPipeline, tmp_path: Path
) -> None:
    graph = fan_out()
    assert set(graph.states.values()) == {DONE}
    assert stub.is_up_to_date()
    serial = stub.clone(tmp_path / "serial")
    for name in FOLDERS:
        (serial.path / name).mkdir()
    serial.do("dvc", "repro", "-q")
    assert (serial.path / "dvc.lock").read_bytes() == (stub.path / "dvc.lock").read_bytes()
    assert set(fan_out().states.values()) == {UNCHANGED}


def test_only_the_stages_asked_for_and_their_dependencies_run(stub: StubPipeline) -> None:
    graph = fan_out("cell@[ab]")
    assert graph.states == {"data": DONE, "cell@a": DONE, "cell@b": DONE}
    with pytest.raises(InputError, match="no such stage"):
        collect("cell@z")


def test_a_stage_does_not_run_where_the_outputs_it_reads_are_unchanged(stub: StubPipeline) -> None:
    fan_out()
    (stub.path / "data.py").write_text(DATA + "# a comment\n")
    graph = fan_out()
    assert graph.states.pop("data") == DONE
    assert set(graph.states.values()) == {UNCHANGED}
    assert stub.is_up_to_date()


def test_cells_run_side_by_side(stub: StubPipeline) -> None:
    stub.set_behaviour("wait once", "a", "b")

    def let_go_once_both_run() -> None:
        wait_for(lambda: stub.runs("a") and stub.runs("b"), seconds=120)
        stub.let_go()

    threading.Thread(target=let_go_once_both_run).start()
    assert set(fan_out(jobs=2).states.values()) == {DONE}


def test_a_failed_cell_stops_only_the_stages_that_read_its_outputs(stub: StubPipeline) -> None:
    stub.set_behaviour("fail", "b")
    graph = fan_out()
    assert graph.states == {
        "data": DONE,
        "cell@a": DONE,
        "cell@b": FAILED,
        "cell@c": DONE,
        "report": SKIPPED,
    }
    assert "exit code 1; b fails" in graph.details["cell@b"]
    assert "needs cell@b" in graph.details["report"]
    assert stub.runs("b") == 1
    (stub.path / "behaviour/b").unlink()
    again = fan_out()
    assert [again.states[f"cell@{name}"] for name in "abc"] == [UNCHANGED, DONE, UNCHANGED]
    assert stub.is_up_to_date()


@pytest.mark.parametrize("how", ["die", "stop"])
def test_a_cell_that_was_killed_or_stopped_itself_is_tried_again(
    stub: StubPipeline, how: str
) -> None:
    stub.set_behaviour(f"{how} once", "b")
    graph = fan_out()
    assert set(graph.states.values()) == {DONE}
    assert "attempt 2" in graph.details["cell@b"]
    assert (stub.runs("a"), stub.runs("b")) == (1, 2)
    assert stub.is_up_to_date()


def test_a_cell_that_is_killed_every_time_is_given_up(stub: StubPipeline) -> None:
    stub.set_behaviour("die", "b")
    graph = fan_out()
    assert graph.states["cell@b"] == FAILED
    assert stub.runs("b") == ATTEMPTS


def test_a_result_is_discarded_if_a_dependency_changed_while_the_cell_ran(
    stub: StubPipeline,
) -> None:
    stub.set_behaviour("wait once", "b")

    def change_once_it_runs() -> None:
        wait_for(lambda: stub.runs("b"), seconds=120)
        (stub.path / "cell.py").write_text(CELL + "# another version\n")
        stub.let_go()

    threading.Thread(target=change_once_it_runs).start()
    graph = fan_out("cell@b")
    assert graph.states["cell@b"] == FAILED
    assert "changed while it ran" in graph.details["cell@b"]
    assert "cell@b" not in yaml.safe_load((stub.path / "dvc.lock").read_text())["stages"]


def test_a_stop_keeps_finished_stages_and_the_next_fan_out_runs_the_others(
    stub: StubPipeline,
) -> None:
    stub.set_behaviour("wait", "b", "c")
    with pytest.raises(Stopped, match="SIGTERM"):
        fan_out(jobs=3, stopped=lambda: "SIGTERM" if (stub.path / "out/a.txt").exists() else "")
    assert "cell@a" in yaml.safe_load((stub.path / "dvc.lock").read_text())["stages"]
    stub.let_go()
    again = fan_out()
    assert [again.states[f"cell@{name}"] for name in "abc"] == [UNCHANGED, DONE, DONE]
    assert stub.runs("a") == 1


def test_outputs_of_a_cell_that_did_not_begin_are_kept(stub: StubPipeline) -> None:
    fan_out()
    (stub.path / "cell.py").write_text(CELL + "# another version\n")
    stub.set_behaviour("wait", "a")
    with pytest.raises(Stopped):
        fan_out(jobs=1, stopped=lambda: "SIGTERM" if stub.runs("a") == 2 else "")
    assert [path.name for path in sorted((stub.path / "out").iterdir())] == ["b.txt", "c.txt"]


def test_outputs_of_a_version_that_ran_before_are_restored_from_the_run_cache(
    stub: StubPipeline,
) -> None:
    fan_out()
    for text, state in [("open('data.txt', 'w').write('others')\n", DONE), (DATA, CACHED)]:
        (stub.path / "data.py").write_text(text)
        assert set(fan_out().states.values()) == {state}
        assert stub.is_up_to_date()
    assert (stub.path / "report.txt").read_text() == "anumbers bnumbers cnumbers"
    assert stub.runs("a") == 2
    (stub.path / "out/a.txt").write_text("edited by hand")
    assert fan_out().states["cell@a"] == CACHED
    assert (stub.path / "out/a.txt").read_text() == "anumbers"


def test_a_command_may_be_a_list_or_need_a_shell(stub: StubPipeline) -> None:
    stages = yaml.safe_load(PIPELINE)["stages"]
    stages["report"]["cmd"] = [
        "python report.py > said",
        "cat report.txt said > all && mv all report.txt",
    ]
    (stub.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert set(fan_out().states.values()) == {DONE}
    assert stub.is_up_to_date()


def test_a_cell_that_had_to_stop_is_stopped_and_not_failed(stub: StubPipeline) -> None:
    stub.set_behaviour("wait", "a")
    graph = collect("cell@a")
    with pytest.raises(Stopped):
        fan_out(graph=graph, stopped=lambda: "q" if stub.runs("a") else "")
    assert graph.states == {"data": DONE, "cell@a": STOPPED}
    assert list((stub.path / "out").iterdir()) == []
