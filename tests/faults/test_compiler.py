"""A compiler that does not work, or never ends: a line and no traceback, and nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from repository import wait_for

HERE = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="shell scripts stand in for a compiler"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler"),
]
TRAINS = f"""
import json, sys
sys.path.append({str(HERE)!r})
from dataclasses import replace
from pathlib import Path
from patchscale.study.stage import run

def main(folder, probe):
    import tiny
    from patchscale.runtime.pool import train_replicas
    from patchscale.train.settings import WORTH_COMPILING, worth_compiling
    compiled = probe == "no" or worth_compiling(WORTH_COMPILING, "cpu")
    settings = replace(tiny.SETTINGS, epochs=1, compiled=compiled)
    (trained,) = train_replicas(tiny.replicas(Path(folder), settings, seeds=(0,)), "tiny")
    print(json.dumps([compiled, len(trained.history)]))

if __name__ == "__main__":
    run(main)
"""
NEVER_ENDS = """#!/bin/sh
case "$*" in *--version*|*-dumpversion*) exec g++ "$@";; esac
sleep 1000 &
echo $! > "$MARK.new"
mv "$MARK.new" "$MARK"
wait
"""


def command(folder: Path, probe: str) -> list[str]:
    """Return the command of a training whose layers are compiled, if that works."""
    script = folder / "trains.py"
    script.write_text(TRAINS)
    return [sys.executable, str(script), str(folder / "run"), probe]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")} | variables


def trained(folder: Path, probe: str, **variables: str) -> tuple[int, str, list[str]]:
    """Train; return the exit code, what was printed, and the lines about compiling."""
    done = subprocess.run(
        command(folder, probe),
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "compiled" in line]
    return done.returncode, done.stdout, lines


def in_mount(options: str, path: Path, words: list[str]) -> list[str]:
    """Return the command in which a path is a file system of its own."""
    mount = f'mount -t tmpfs -o {options} tmpfs "{path}" && exec "$@"'
    return ["unshare", "-m", "sh", "-c", mount, "sh", *words]


def test_a_training_goes_on_uncompiled_and_says_why(tmp_path: Path) -> None:
    code, printed, lines = trained(tmp_path, "yes", CXX="/bin/false")
    assert (code, printed) == (0, "[false, 1]\n")
    (line,) = lines
    assert line.startswith("layers are not compiled, which takes longer: ")
    assert "/bin/false" in line


@pytest.mark.parametrize("options", ["noexec", "size=1m"])
def test_a_temporary_folder_that_does_not_do_is_named(options: str, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if subprocess.run(in_mount(options, mounted, ["true"]), capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    variables = environment(tmp_path, TMPDIR=str(mounted))
    del variables["TORCHINDUCTOR_CACHE_DIR"]
    done = subprocess.run(
        in_mount(options, mounted, command(tmp_path, "yes")),
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[false, 1]\n"), done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "not compiled" in line]
    assert len(line) < 250


def test_a_compiler_that_fails_later_ends_the_training_with_75_and_a_line(tmp_path: Path) -> None:
    code, _, lines = trained(tmp_path, "no", CXX="/bin/false")
    assert code == 75
    assert lines[-1].endswith("PATCHSCALE_COMPILE=0 trains without compiling")
    assert trained(tmp_path, "yes", PATCHSCALE_COMPILE="0") == (0, "[false, 1]\n", [])


@pytest.fixture
def compiling(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Yield a training that waits for its compiler."""
    compiler, mark = tmp_path / "compiler", tmp_path / "mark"
    compiler.write_text(NEVER_ENDS)
    compiler.chmod(0o755)
    process = subprocess.Popen(
        command(tmp_path, request.param),
        env=environment(tmp_path, CXX=str(compiler), MARK=str(mark)),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(mark.exists)
    yield process
    process.kill()
    with suppress(psutil.Error):
        psutil.Process(int(mark.read_text())).kill()


@pytest.mark.parametrize("compiling", ["yes", "no"], ids=["probe", "step"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_compilation_within_ten_seconds(
    compiling: subprocess.Popen[str], number: signal.Signals, tmp_path: Path
) -> None:
    compiling.send_signal(number)
    _, told = compiling.communicate(timeout=10)
    assert compiling.returncode == 75
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith(f"patchscale trains: {number.name}: stopped")
    assert list((tmp_path / "run").glob("*/.*")) == []
