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
    put_back,
)

YEAR_2001 = 1_000_000_000


@pytest.fixture
def hidden(study: SmallStudy) -> Path:
    """Return a file of another content whose size and time are those in git's index."""
    file = study.path / "metrics/train.json"
    study.do("git", "config", "core.trustctime", "false")  # a test cannot set this time
    os.utime(file, (YEAR_2001, YEAR_2001))
    study.do("git", "update-index", "--refresh")
    file.write_text(file.read_text().replace("1", "2"))
    os.utime(file, (YEAR_2001, YEAR_2001))
    return file


def test_an_edit_that_git_does_not_see_is_found_and_taken_back(
    study: SmallStudy, hidden: Path
) -> None:
    assert study.do("git", "status", "--porcelain") == ""
    study.do("git", "checkout", "--", "metrics")
    assert hidden.read_text() == '{"value": 2}'  # so `git checkout` alone is no way back
    files = head_files(study.path)
    assert differing(study.path, files) == ["metrics/train.json"]
    assert put_back(study.path, files, differing(study.path, files)) == ["metrics/train.json"]
    assert hidden.read_text() == '{"value": 1}'
    assert differing(study.path, files) == []


def test_missing_and_staged_files_are_put_back(study: SmallStudy) -> None:
    (study.path / "metrics/train.json").unlink()
    (study.path / "params.yaml").write_text('{"value": 3}\n')
    study.do("git", "add", "-A")
    files = head_files(study.path)
    changed = differing(study.path, files)
    assert sorted(changed) == ["metrics/train.json", "params.yaml"]
    put_back(study.path, files, changed)
    assert study.do("git", "status", "--porcelain") == ""


def test_an_experiment_changes_parameters_dvc_lock_and_outputs(study: SmallStudy) -> None:
    files = experiment_files(study.path, head_files(study.path))
    assert set(files) == {"params.yaml", "space.yaml", "dvc.lock", "metrics/train.json"}


@pytest.mark.parametrize("words", [[], ["init", "-q"]])
def test_a_folder_without_a_commit_is_refused(tmp_path: Path, words: list[str]) -> None:
    if words:
        git(tmp_path, *words)
    with pytest.raises(InputError, match="not a git repository"):
        head_files(tmp_path)


def test_a_folder_inside_another_repository_is_refused(study: SmallStudy) -> None:
    with pytest.raises(InputError, match="not a git repository of its own"):
        head_files(study.path / "metrics")


def test_a_failure_of_git_is_one_line(study: SmallStudy) -> None:
    (study.path / ".git/index.lock").touch()
    (study.path / "params.yaml").write_text('{"value": 3}\n')
    files = head_files(study.path)
    with pytest.raises(Stopped) as caught:
        put_back(study.path, files, ["params.yaml"])
    line = str(caught.value)
    assert "index.lock" in line
    assert "\n" not in line
    assert study.text("params.yaml") == '{"value": 3}\n'
