"""Code dependencies of a stage, and limits from the environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchscale.study.errors import InputError
from patchscale.study.stage import code_of, max_hours, max_workers, may_compile

PIPELINE = """\
vars:
- grid.yaml
stages:
  split:
    matrix:
      horizon: [h1]
    cmd: python stages/split.py
    deps:
    - data/raw/gspc
    - src/patchscale/bars.py
    - src/patchscale/split
    - stages/split.py
  train:
    foreach: ${cells}
    do:
      cmd: python stages/train.py
      deps:
      - src/patchscale/train
      - stages/train.py
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a folder with a pipeline of two stages and their code."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    for name in (
        "data/raw/gspc/sp500.py",
        "src/patchscale/bars.py",
        "src/patchscale/check.py",
        "src/patchscale/split/__init__.py",
        "src/patchscale/split/labels.py",
        "src/patchscale/split/notes.txt",
        "src/patchscale/split/__pycache__/labels.cpython-313.pyc",
        "src/patchscale/train/deep/er.py",
        "stages/split.py",
        "stages/train.py",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "files"),
    [
        (
            "split",
            [
                "src/patchscale/bars.py",
                "src/patchscale/split/__init__.py",
                "src/patchscale/split/labels.py",
                "stages/split.py",
            ],
        ),
        ("train", ["src/patchscale/train/deep/er.py", "stages/train.py"]),
    ],
)
def test_code_of_a_stage_is_all_python_below_its_dependencies(
    repository: Path, monkeypatch: pytest.MonkeyPatch, stage: str, files: list[str]
) -> None:
    assert code_of(stage, repository) == [repository / name for name in files]
    monkeypatch.chdir(repository)
    assert code_of(stage) == [Path(name) for name in files]


def test_limits_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATCHSCALE_MAX_HOURS", raising=False)
    monkeypatch.delenv("PATCHSCALE_WORKERS", raising=False)
    monkeypatch.delenv("PATCHSCALE_COMPILE", raising=False)
    assert max_hours() == 2.0
    assert max_workers() == 0
    assert may_compile()


def test_limits_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHSCALE_MAX_HOURS", "0.5")
    monkeypatch.setenv("PATCHSCALE_WORKERS", "12")
    assert max_hours() == 0.5
    assert max_workers() == 12
    for text, answer in (("0", False), ("1", True)):
        monkeypatch.setenv("PATCHSCALE_COMPILE", text)
        assert may_compile() is answer


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "two", "1h"])
def test_hours_that_are_no_positive_number_are_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PATCHSCALE_MAX_HOURS", text)
    with pytest.raises(InputError, match=f"^PATCHSCALE_MAX_HOURS: '{text}' is not allowed; "):
        max_hours()


@pytest.mark.parametrize("text", ["", "-1", "1.5", "all", "²", "٣"])
def test_workers_that_are_no_whole_number_are_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PATCHSCALE_WORKERS", text)
    with pytest.raises(InputError, match=f"^PATCHSCALE_WORKERS: '{text}' is not allowed; "):
        max_workers()


@pytest.mark.parametrize("text", ["", "no", "2", "01"])
def test_a_switch_that_is_neither_0_nor_1_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PATCHSCALE_COMPILE", text)
    with pytest.raises(InputError, match=f"^PATCHSCALE_COMPILE: '{text}' is not allowed; "):
        may_compile()


@pytest.mark.parametrize(("text", "code"), [("rya", 2), ("Ray", 2), ("ray", 0), ("", 0)])
def test_a_place_of_trials_that_does_not_exist_is_refused_before_anything_runs(
    text: str, code: int
) -> None:
    script = "from patchscale.study.stage import run; run(lambda: print('ran'))"
    environment = os.environ | {"PATCHSCALE_TRIALS": text}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "" if code else "ran\n")
    if code:
        (line,) = done.stderr.splitlines()
        assert f"PATCHSCALE_TRIALS: '{text}' is not allowed; ray runs the trials" in line
