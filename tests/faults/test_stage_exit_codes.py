import subprocess
import sys

import pytest
from conftest import ROOT

from patchscale.study.errors import InputError, SearchFailed, Stopped
from patchscale.study.stage import run


@pytest.fixture(autouse=True)
def words(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "2M-h1"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("params.yaml: train.seeds: 0 is not allowed"), 2),
        (Stopped("stopped; 3 epochs are kept"), 75),
        (SearchFailed("2M-h1: none of 3 trials was completed"), 1),
    ],
)
def test_an_expected_end_is_an_exit_code_and_one_line(capsys, error, code):
    def main(cell: str) -> None:
        raise error

    with pytest.raises(SystemExit) as raised:
        run(main)
    assert raised.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.endswith(f": {error}\n")


def test_success_returns_and_hands_the_words_over(capsys):
    seen = []
    run(seen.append)
    assert seen == ["2M-h1"]
    assert capsys.readouterr() == ("", "")


def test_a_bug_keeps_its_traceback():
    def main(cell: str) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(main)


SCRIPT = """
import sys
from patchscale import errors
from patchscale.stage import run

def main(kind):
    if kind == "KeyError":
        raise KeyError("a bug")
    if kind != "done":
        raise getattr(errors, kind)("what happened")

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.parametrize(
    ("kind", "code"), [("done", 0), ("InputError", 2), ("Stopped", 75), ("KeyError", 1)]
)
def test_a_script_ends_with_the_code_of_the_contract(tmp_path, kind, code):
    script = tmp_path / "stage.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), kind], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    lines = done.stderr.splitlines()
    if code in (2, 75):
        assert lines == [f"patchscale {script.stem}: what happened"]
    elif code == 1:
        assert lines[0].startswith("Traceback")
        assert lines[-1] == "KeyError: 'a bug'"
    else:
        assert lines == []


def test_a_stage_without_its_params_ends_with_2_and_names_them(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages/check.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == "patchscale check: params.yaml: missing"
    assert list(tmp_path.iterdir()) == []
