"""`dev.py reset` goes back to what is committed, after any end of an experiment."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_study import SmallStudy

from patchscale.study.errors import InputError, Stopped
from patchscale.workspace.reset import main

UP_TO_DATE = "Data and pipelines are up to date."


def reset(capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    main()
    return capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_after_a_refused_experiment_on_top_of_another_all_is_as_committed(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    before = small.tracked()
    small.do("dvc", "exp", "run", "-q", "-S", "value=2")
    small.call("dvc", "exp", "run", "-q", "-S", "value=7")
    assert small.text("data/out") == "out 2"
    (small.path / "notes.txt").write_text("my notes\n")
    (small.path / "metrics/other.json").write_text("{}\n")
    lines = reset(capsys)
    assert lines[0] == "reset: params.yaml, dvc.lock, metrics/train.json: as committed"
    assert lines[2:] == [
        f"reset: checked, {Path('data')}/: as in dvc.lock",
        "reset: left alone, edited: notes.txt",
        "reset: left alone, not tracked by git: metrics/other.json",
        UP_TO_DATE,
    ]
    kept = lines[1].split("`")[1].split()
    assert small.do(*kept) == "value: 7\n"
    assert small.text("data/out") == "out 1"
    assert small.tracked() == before | {"notes.txt": b"my notes\n"}
    assert "up to date" in small.do("dvc", "status")
    assert reset(capsys) == ["reset: nothing to do", *lines[3:]]


@pytest.mark.parametrize("text", ["", '{"write": {"/a', "{}}", '{"write": 1}', "\xff"])
def test_lock_files_left_half_written_are_no_obstacle(
    small: SmallStudy, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    for name in ("rwlock", "lock"):
        (small.path / ".dvc/tmp" / name).write_bytes(text.encode("latin-1"))
    (small.path / "params.yaml").write_text("value: 3\n")
    assert reset(capsys)[-1] == UP_TO_DATE
    assert small.text("params.yaml") == "value: 1\n"


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_reset_refuses_while_another_command_runs(small: SmallStudy) -> None:
    process = small.start("dvc", "repro", "--force")
    (small.path / "params.yaml").write_text("value: 3\n")
    try:
        done = small.call(sys.executable, "-m", "patchscale.workspace.reset")
    finally:
        small.end(process)
    assert done.returncode == 75
    (line,) = done.stderr.splitlines()
    assert f"(PID {process.pid})" in line
    assert small.text("params.yaml") == "value: 3\n"
    assert not (small.path / "metrics/train.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_after_a_killed_experiment_the_branch_is_back_as_well(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    before = small.tracked()
    small.end(small.start("dvc", "exp", "run", "-S", "value=2"))
    assert small.call("git", "symbolic-ref", "HEAD").returncode != 0
    lines = reset(capsys)
    assert lines[0] == "reset: an experiment was interrupted; back on main"
    assert lines[-1] == UP_TO_DATE
    assert small.do("git", "symbolic-ref", "--short", "HEAD") == "main\n"
    assert small.tracked() == before
    assert reset(capsys) == ["reset: nothing to do", UP_TO_DATE]


def test_a_detached_head_of_the_user_stays(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    small.do("git", "checkout", "-q", "--detach")
    assert reset(capsys) == ["reset: nothing to do", UP_TO_DATE]
    assert small.call("git", "symbolic-ref", "HEAD").returncode != 0


def test_a_missing_cache_is_fetched_and_a_damaged_object_restored(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = small.object()
    damaged.chmod(0o644)
    damaged.write_text("out 9")
    small.do("rm", "-rf", ".dvc/cache", "data")
    lines = reset(capsys)
    name = damaged.relative_to(small.path).as_posix()
    assert lines[0] == f"reset: {name}: was damaged or missing; restored from git"
    assert lines[-1] == UP_TO_DATE
    assert small.text("data/out") == "out 1"


def test_edited_code_is_left_alone_and_named(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    code = small.text("train.py") + "# mine\n"
    (small.path / "train.py").write_text(code)
    assert reset(capsys) == [
        "reset: nothing to do",
        "reset: left alone, edited: train.py",
        "Not up to date: train; `dvc status` says why",
    ]
    assert small.text("train.py") == code


def test_an_output_that_is_nowhere_is_one_line(small: SmallStudy) -> None:
    small.do("rm", "-rf", ".dvc/cache", "data")
    small.do("git", "rm", "-rq", "published")
    small.do("git", "commit", "-qm", "nothing published")
    with pytest.raises(Stopped) as caught:
        main()
    assert "data" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_and_folders_without_git_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reset takes no words"):
        main("all")
    done = subprocess.run(
        [sys.executable, "-m", "patchscale.workspace.reset"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
