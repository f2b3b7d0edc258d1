"""Files are compared with the last commit by content, whatever git's index says."""

import os
from pathlib import Path

import pytest
from small_study import SmallStudy

from patchscale.study.errors import InputError, Stopped
from patchscale.workspace.committed import (
    differing,
    experiment_files,
    git,
    head_files,
    outputs,
    put_back,
)

YEAR_2001 = 1_000_000_000


@pytest.fixture
def hidden(small: SmallStudy) -> Path:
    """Return a file of another content whose size and time are those in git's index."""
    file = small.path / "metrics/train.json"
    small.do("git", "config", "core.trustctime", "false")  # a test cannot set this time
    os.utime(file, (YEAR_2001, YEAR_2001))
    small.do("git", "update-index", "--refresh")
    file.write_text(file.read_text().replace("1", "2"))
    os.utime(file, (YEAR_2001, YEAR_2001))
    return file


def test_an_edit_that_git_does_not_see_is_found_and_taken_back(
    small: SmallStudy, hidden: Path
) -> None:
    assert small.do("git", "status", "--porcelain") == ""
    small.do("git", "checkout", "--", "metrics")
    assert hidden.read_text() == '{"value": 2}'  # so `git checkout` alone is no way back
    files = head_files(small.path)
    assert differing(small.path, files) == ["metrics/train.json"]
    assert put_back(small.path, files, differing(small.path, files)) == ["metrics/train.json"]
    assert hidden.read_text() == '{"value": 1}'
    assert differing(small.path, files) == []


def test_missing_and_staged_files_are_put_back(small: SmallStudy) -> None:
    (small.path / "metrics/train.json").unlink()
    (small.path / "params.yaml").write_text("value: 3\n")
    small.do("git", "add", "-A")
    files = head_files(small.path)
    changed = differing(small.path, files)
    assert sorted(changed) == ["metrics/train.json", "params.yaml"]
    put_back(small.path, files, changed)
    assert small.do("git", "status", "--porcelain") == ""


def test_an_experiment_changes_parameters_dvc_lock_and_outputs(small: SmallStudy) -> None:
    files = experiment_files(small.path, head_files(small.path))
    assert set(files) == {"params.yaml", "space.yaml", "dvc.lock", "metrics/train.json"}


@pytest.mark.parametrize("words", [[], ["init", "-q"]])
def test_a_folder_without_a_commit_is_refused(tmp_path: Path, words: list[str]) -> None:
    if words:
        git(tmp_path, *words)
    with pytest.raises(InputError, match="not a git repository"):
        head_files(tmp_path)


def test_a_folder_inside_another_repository_is_refused(small: SmallStudy) -> None:
    with pytest.raises(InputError, match="not a git repository of its own"):
        head_files(small.path / "metrics")


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("stages: " + "[" * 100_000, "HEAD:dvc.lock: line 1: nested more than 20 deep"),
        ("stages: [unclosed", "HEAD:dvc.lock: not valid YAML ("),
        ("stages: 3\n", "HEAD:dvc.lock: damaged"),
        ("- 3\n", "HEAD:dvc.lock: damaged"),
        ("stages: {a: {outs: [3]}}\n", "HEAD:dvc.lock: damaged"),
    ],
    ids=range(5),
)
def test_a_damaged_lock_of_the_last_commit_is_one_line(
    tmp_path: Path, content: str, shown: str
) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "dvc.lock").write_text(content)
    git(tmp_path, "add", "dvc.lock")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    git(tmp_path, *who, "commit", "-qm", "damaged")
    with pytest.raises(InputError) as caught:
        outputs(tmp_path, head_files(tmp_path))
    line = str(caught.value)
    assert line.startswith(shown)
    assert "\n" not in line


def test_a_failure_of_git_is_one_line(small: SmallStudy) -> None:
    (small.path / ".git/index.lock").touch()
    (small.path / "params.yaml").write_text("value: 3\n")
    files = head_files(small.path)
    with pytest.raises(Stopped) as caught:
        put_back(small.path, files, ["params.yaml"])
    line = str(caught.value)
    assert "index.lock" in line
    assert "\n" not in line
    assert small.text("params.yaml") == "value: 3\n"
