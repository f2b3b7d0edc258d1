"""A stage ends with an exit code that says what happened, and at most one line on stderr."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from patchscale.study.errors import Diverged, InputError, SearchFailed, Stopped
from patchscale.study.stage import run


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "2M-h1"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("params.yaml: train.seeds: 0 is not allowed"), 2),
        (Stopped("stopped; 3 epochs are kept"), 75),
        (Diverged("2M-h1: the loss of epoch 3 is not finite"), 1),
        (SearchFailed("2M-h1: none of 3 trials was completed"), 1),
        (KeyboardInterrupt("SIGTERM"), 75),
        (OSError(28, "No space left on device", "data/x"), 75),
        (PermissionError(13, "Permission denied", "data/x"), 75),
        (InputError("http://me:hunter2@host: does not answer"), 2),
    ],
)
def test_expected_failure_is_an_exit_code_and_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def main(cell: str) -> None:
        raise error

    with pytest.raises(SystemExit) as raised:
        run(main)
    assert raised.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    told = str(error).replace("me:hunter2@", "")
    if isinstance(error, KeyboardInterrupt):
        told = "SIGTERM: stopped; the same command goes on"
    if isinstance(error, OSError):
        told = f"data/x: {error.strerror}; the same command goes on once this is fixed"
    assert printed.err == f"stages/train.py: {told}\n"


def test_success_returns_and_passes_the_arguments_on(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    run(seen.append)
    assert seen == ["2M-h1"]
    assert capsys.readouterr() == ("", "")


def test_bug_keeps_its_traceback() -> None:
    def main(cell: str) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(main)


SCRIPT = """
import sys
from patchscale.study import errors
from patchscale.study.stage import run

def main(kind):
    if kind == "KeyError":
        raise KeyError("a bug")
    if kind != "done":
        raise getattr(errors, kind)("what happened")

if __name__ == "__main__":
    run(main)
"""


def finished(folder: Path, script: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run a script in a folder; return its exit code and the lines of its stderr."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(("kind", "code"), [("done", 0), ("InputError", 2), ("Stopped", 75)])
def test_process_ends_with_the_exit_code(tmp_path: Path, kind: str, code: int) -> None:
    script = tmp_path / "stage.py"
    script.write_text(SCRIPT)
    lines = ["patchscale stage: what happened"] if code else []
    assert finished(tmp_path, script, kind) == (code, lines)


def test_process_with_a_bug_ends_with_1_and_a_traceback(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(SCRIPT)
    code, lines = finished(tmp_path, script, "KeyError")
    assert code == 1
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "KeyError: 'a bug'"


WAITS = """
import sys, time
from pathlib import Path
from patchscale.study.files import replacing
from patchscale.study.stage import run

def main(name):
    with replacing(Path(name)) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(120)

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_any_stage_with_75_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "stage.py").write_text(WAITS)
    process = subprocess.Popen(
        [sys.executable, "stage.py", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert told == f"stage.py: {number.name}: stopped; the same command goes on\n"
    assert process.returncode == 75
    assert [file.name for file in tmp_path.iterdir()] == ["stage.py"]


def test_stage_without_its_params_ends_with_2_and_names_them(tmp_path: Path) -> None:
    missing = finished(tmp_path, ROOT / "stages/check.py")
    assert missing == (2, ["patchscale check: params.yaml: missing"])
    assert list(tmp_path.iterdir()) == []
