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


def test_after_a_refused_experiment_on_top_of_another_all_is_as_committed(
    study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    before = study.tracked()
    study.do("dvc", "exp", "run", "-q", "-S", "value=2")
    study.call("dvc", "exp", "run", "-q", "-S", "value=7")
    assert study.text("data/out") == "out 2"
    (study.path / "notes.txt").write_text("my notes\n")
    (study.path / "metrics/other.json").write_text("{}\n")
    lines = reset(capsys)
    assert lines[0] == "reset: params.yaml, dvc.lock, metrics/train.json: as committed"
    assert lines[2:] == [
        f"reset: {Path('data')}/: as in dvc.lock",
        "reset: left alone, edited: notes.txt",
        "reset: left alone, not tracked by git: metrics/other.json",
        UP_TO_DATE,
    ]
    kept = lines[1].split("`")[1].split()
    assert '"value": 7' in study.do(*kept) or "value: 7" in study.do(*kept)
    assert study.text("data/out") == "out 1"
    assert study.tracked() == before | {"notes.txt": b"my notes\n"}
    assert "up to date" in study.do("dvc", "status")
    assert reset(capsys) == ["reset: nothing to do", *lines[3:]]


@pytest.mark.parametrize("text", ["", '{"write": {"/a', "{}}", '{"write": 1}', "\xff"])
def test_lock_files_left_half_written_are_no_obstacle(
    study: SmallStudy, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    for name in ("rwlock", "lock"):
        (study.path / ".dvc/tmp" / name).write_bytes(text.encode("latin-1"))
    (study.path / "params.yaml").write_text('{"value": 3}\n')
    assert reset(capsys)[-1] == UP_TO_DATE
    assert study.text("params.yaml") == '{"value": 1}\n'


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_reset_refuses_while_another_command_runs(study: SmallStudy) -> None:
    process = study.start("dvc", "repro", "--force")
    (study.path / "params.yaml").write_text('{"value": 3}\n')
    try:
        done = study.call(sys.executable, "-m", "patchscale.workspace.reset")
    finally:
        study.end(process)
    assert done.returncode == 75
    (line,) = done.stderr.splitlines()
    assert f"(PID {process.pid})" in line
    assert study.text("params.yaml") == '{"value": 3}\n'
    assert not (study.path / "metrics/train.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_after_a_killed_experiment_the_branch_is_back_as_well(
    study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    before = study.tracked()
    study.end(study.start("dvc", "exp", "run", "-S", "value=2"))
    assert study.call("git", "symbolic-ref", "HEAD").returncode != 0
    lines = reset(capsys)
    assert lines[0] == "reset: an experiment was interrupted; back on main"
    assert lines[-1] == UP_TO_DATE
    assert study.do("git", "symbolic-ref", "--short", "HEAD") == "main\n"
    assert study.tracked() == before
    assert reset(capsys) == ["reset: nothing to do", UP_TO_DATE]


def test_a_detached_head_of_the_user_stays(
    study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    study.do("git", "checkout", "-q", "--detach")
    assert reset(capsys) == ["reset: nothing to do", UP_TO_DATE]
    assert study.call("git", "symbolic-ref", "HEAD").returncode != 0


def test_a_missing_cache_is_fetched_and_a_damaged_object_restored(
    study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = study.object()
    damaged.chmod(0o644)
    damaged.write_text("out 9")
    study.do("rm", "-rf", ".dvc/cache", "data")
    lines = reset(capsys)
    name = damaged.relative_to(study.path).as_posix()
    assert lines[0] == f"reset: {name}: was damaged or missing; restored from git"
    assert lines[-1] == UP_TO_DATE
    assert study.text("data/out") == "out 1"


def test_edited_code_is_left_alone_and_named(
    study: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    code = study.text("train.py") + "# mine\n"
    (study.path / "train.py").write_text(code)
    assert reset(capsys) == [
        "reset: nothing to do",
        "reset: left alone, edited: train.py",
        "Not up to date: train; `dvc status` says why",
    ]
    assert study.text("train.py") == code


def test_an_output_that_is_nowhere_is_one_line(study: SmallStudy) -> None:
    study.do("rm", "-rf", ".dvc/cache", "data")
    study.do("git", "rm", "-rq", "published")
    study.do("git", "commit", "-qm", "nothing published")
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
