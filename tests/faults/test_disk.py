"""A training whose folder is read-only or full ends with 75 and a line, and leaves no part."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent
TRAINS = f"""
import sys
sys.path.append({str(HERE)!r})
from dataclasses import replace
from pathlib import Path
from patchscale.study.stage import run

def main(folder, workers):
    import tiny
    from patchscale.runtime import pool
    pool.concurrency = lambda replica, jobs, free: int(workers)
    settings = replace(tiny.SETTINGS, epochs=1)
    pool.train_replicas(tiny.replicas(Path(folder) / "run", settings), "tiny")

if __name__ == "__main__":
    run(main)
"""


def trained(folder: Path, options: str, workers: int, home: Path) -> tuple[int, list[str], str]:
    """Train in a file system of its own; return the exit code, the lines, and the hidden files."""
    script = folder.parent / "trains.py"
    script.write_text(TRAINS)
    words = [sys.executable, str(script), str(folder), str(workers)]
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}" || exit 99; "$@"; code=$?;'
    mount += f' find "{folder}" -name ".*"; exit $code'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", *words],
        env=os.environ | {"HOME": str(home), "PATCHSCALE_COMPILE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    return done.returncode, done.stderr.splitlines(), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="only Linux has name spaces")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("options", "reason"),
    [("ro", "Read-only file system"), ("size=16k", "No space left on device")],
)
def test_a_folder_that_cannot_be_written_ends_a_training_with_75(
    tmp_path: Path, options: str, reason: str, workers: int
) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    code, lines, hidden = trained(folder, options, workers, Path("/dev/null"))
    assert code == 75
    assert f"{reason}; the same command goes on once this is fixed" in lines[-1]
    assert not [line for line in lines if line.startswith("Traceback")]
    assert hidden == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="only Linux has name spaces")
def test_a_home_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    code, lines, _ = trained(folder, "size=9m", 1, Path("/dev/null/home"))
    assert code == 0, lines
