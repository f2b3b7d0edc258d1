"""Before a pull, what a killed command removed and what is damaged comes back from git."""

import json
import sys
from pathlib import Path

import pytest
from small_study import SmallStudy

from patchscale.study.errors import Stopped
from patchscale.workspace.restore import main

needs_groups = pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")


def restored(capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    main()
    return capsys.readouterr().out.splitlines()


@needs_groups
def test_outputs_of_a_killed_run_come_back_and_nothing_is_made_anew(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    small.end(small.start("dvc", "repro", "--force", "train"))
    assert not (small.path / "metrics/train.json").exists()
    runs = small.runs()
    assert restored(capsys) == [
        "metrics/train.json: removed by a command that was interrupted, restored from git; "
        "to go on with that instead: `dvc repro --force train`"
    ]
    small.do("dvc", "pull", "-q")
    assert "up to date" in small.do("dvc", "repro")
    assert small.runs() == runs
    assert restored(capsys) == []


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ("/a/bin/dvc exp run -S value=2", "`dvc exp run -S value=2`"),
        ("/a/bin/dvc exp run -S a=https://u:pw@h/x", "`dvc exp run -S a=https://h/x`"),
        ("/a/patchscale/fanout/__main__.py --jobs 2", "`python3 dev.py fanout --jobs 2`"),
        ("/a/patchscale/workspace/reset.py", "the same `dvc repro` or `dvc exp run` again"),
    ],
)
def test_the_interrupted_command_is_named_as_it_was_typed(
    small: SmallStudy, capsys: pytest.CaptureFixture[str], program: str, named: str
) -> None:
    output = small.path / "metrics/train.json"
    output.unlink()
    note = {"pid": 2**22 + 1, "cmd": program}  # no process has such a number
    lock = {"write": {str(output): note}, "read": {}}
    (small.path / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    (line,) = restored(capsys)
    assert line.endswith(f"; to go on with that instead: {named}")


@needs_groups
def test_outputs_of_a_stage_that_runs_are_not_restored(small: SmallStudy) -> None:
    process = small.start("dvc", "repro", "--force", "train")
    try:
        with pytest.raises(Stopped, match=f"PID {process.pid}"):
            main()
        assert not (small.path / "metrics/train.json").exists()
    finally:
        small.end(process)


def test_changed_parameters_stay_and_are_reproduced_as_asked(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    (small.path / "params.yaml").write_text("value: 3\n")
    (small.path / "metrics/train.json").unlink()
    first, second = restored(capsys)
    assert first.startswith("metrics/train.json: removed by a command that was interrupted")
    assert "the same `dvc repro` or `dvc exp run` again" in first
    assert second.startswith("params.yaml: not as committed")
    assert second.endswith("`python3 dev.py reset` goes back")
    small.do("dvc", "repro", "-q")
    assert small.text("metrics/train.json") == '{"value": 3}'


@pytest.mark.parametrize("text", ["out 9", None])
def test_a_damaged_or_missing_object_is_named_and_can_be_pulled(
    small: SmallStudy, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    file = small.object()
    file.chmod(0o644)
    file.write_text(text) if text else file.unlink()
    small.do("rm", "-rf", ".dvc/cache", "data")
    name = file.relative_to(small.path).as_posix()
    assert restored(capsys) == [f"{name}: was damaged or missing; restored from git"]
    small.do("dvc", "pull", "-q")
    assert small.text("data/out") == "out 1"


def test_a_half_written_lock_file_blocks_no_command_afterwards(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    (small.path / ".dvc/tmp/rwlock").write_text('{"write": {"/a')
    assert restored(capsys) == []
    assert "up to date" in small.do("dvc", "repro")


def test_code_without_git_has_nothing_to_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert restored(capsys) == []
