"""A disk that is full, too small or read-only ends a stage with one line and exit code 75."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, random_bars, write_study
from tiny import SETTINGS, problem, replicas

from patchscale.bars import canonical_csv
from patchscale.runtime import checkpoint
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.progress import Heartbeat
from patchscale.runtime.replica import outcome_of
from patchscale.study import paths
from patchscale.study.errors import Stopped
from patchscale.study.files import write_text
from patchscale.study.params import load_params
from patchscale.study.stage import run
from patchscale.train.callbacks import Callbacks
from patchscale.train.loop import train

LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Quiet(Callbacks):
    """Callbacks that report nothing."""

    def report(self, line: str) -> None:
        """Report nothing."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a folder with the bars of a study."""
    dates = {"validation_from": "2001-12-03", "test_from": "2002-10-01"}
    changes = [(f"params/datasets/gspc/{key}", value) for key, value in dates.items()]
    write_study(tmp_path, *changes, ("params/split/min_samples", 20), ("params/split/min_class", 5))
    params = load_params(tmp_path)
    raw = tmp_path / paths.raw(params.dataset, params.data.series)
    write_text(raw, canonical_csv(random_bars(900)))
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_stage_whose_output_does_not_fit_leaves_no_half_of_it(study: Path) -> None:
    script = str(ROOT / "stages/split.py")
    words = [sys.executable, "-c", LIMITED, script, "h1"]
    done = subprocess.run(words, cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    (line,) = done.stderr.splitlines()
    assert line == (
        "patchscale split: data/split/h1.arrow: File too large; the same command goes on once "
        "this is fixed"
    )
    assert list((study / "data/split").iterdir()) == []
    done = subprocess.run([sys.executable, script, "h1"], cwd=study, check=False)
    assert done.returncode == 0
    assert [file.name for file in (study / "data/split").iterdir()] == ["h1.arrow"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_error_outside_of_a_file_of_ours_is_a_line_too(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), ".dvc/tmp/rwlock")

    monkeypatch.setattr(sys, "argv", ["stages/hpo.py"])
    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 75
    assert capsys.readouterr().err == (
        f"stages/hpo.py: .dvc/tmp/rwlock: {os.strerror(number)}; the same command goes on once "
        "this is fixed\n"
    )


def test_another_error_of_the_system_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise ConnectionResetError(errno.ECONNRESET, "a bug")

    monkeypatch.setattr(sys, "argv", ["stages/hpo.py"])
    with pytest.raises(ConnectionResetError):
        run(main)


def test_a_training_goes_on_to_the_same_bits_after_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = problem()
    whole = train(inputs, SETTINGS, 0, Checkpoint(tmp_path / "whole"), callbacks=Quiet())
    save_file, calls = checkpoint.save_file, 0

    def full_once(tensors: Any, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            path.write_bytes(b"half")
            raise checkpoint.SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            )
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full_once)
    cut = Checkpoint(tmp_path / "cut")
    with pytest.raises(Stopped, match=r"safetensors: No space left on device; the same command"):
        train(inputs, SETTINGS, 0, cut, callbacks=Quiet())
    assert not [file for file in cut.path.iterdir() if file.name.endswith(".tmp")]
    resumed = train(inputs, SETTINGS, 0, cut, callbacks=Quiet())
    assert resumed.history == whole.history
    best = [best_weights(run) for run in (cut, Checkpoint(tmp_path / "whole"))]
    assert best[0] == best[1]


def best_weights(run: Checkpoint) -> dict[str, list[Any]]:
    """Return the best weights of a run as lists."""
    return {name: tensor.tolist() for name, tensor in run.best().items()}


def test_a_trial_on_a_full_disk_is_stopped_and_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (replica, _) = replicas(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "lock"))

    monkeypatch.setattr("patchscale.runtime.replica.train", full)
    outcome = outcome_of(replica, 2**30, Heartbeat(tmp_path / "progress.json"), lambda: "")
    assert isinstance(outcome, Stopped)
    assert str(outcome).startswith(f"{tmp_path / 'lock'}: No space left on device")


def test_progress_that_cannot_be_written_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    Heartbeat(tmp_path / "progress.json").update(epoch=1)
    assert list(tmp_path.iterdir()) == []
