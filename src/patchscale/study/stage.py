"""What every stage script shares: exit codes, its code by dvc.yaml, and switches of the machine."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from patchscale.study import paths
from patchscale.study.errors import Ended, InputError


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command-line words; end with the exit code of the contract.

    0 done, 2 bad input (one line on stderr), 75 stopped and resumable, 1 diverged or nothing
    found (one line) or a bug (traceback).
    """
    script = Path(sys.argv[0])
    name = f"patchscale {script.stem}" if script.is_absolute() else str(script)
    try:
        main(*sys.argv[1:])
    except Ended as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def max_hours() -> float:
    """Return the longest training that may start, from the environment."""
    text = os.environ.get("PATCHSCALE_MAX_HOURS", "2")
    try:
        hours = float(text)
    except ValueError:
        hours = float("nan")
    if not hours > 0:
        raise InputError(
            f"PATCHSCALE_MAX_HOURS: {text!r} is not allowed; a positive number of hours is needed"
        )
    return hours


def max_workers() -> int:
    """Return the most trials trained at a time, from the environment; 0 sets no limit."""
    text = os.environ.get("PATCHSCALE_WORKERS", "0")
    if not text.isascii() or not text.isdigit():
        raise InputError(
            f"PATCHSCALE_WORKERS: {text!r} is not allowed; a whole number of processes is needed, "
            f"0 for as many as cores and memory allow"
        )
    return int(text)


def code_of(stage: str, root: Path = Path()) -> list[Path]:
    """Return the Python files that dvc.yaml names as dependencies of a stage, sorted."""
    pipeline = yaml.load((root / paths.PIPELINE).read_text("utf-8"), Loader=yaml.CSafeLoader)
    definition = pipeline["stages"][stage]
    files: list[Path] = []
    for dependency in definition.get("do", definition)["deps"]:
        if dependency.startswith(("src/", "stages/")):
            path = root / dependency
            files += path.rglob("*.py") if path.is_dir() else [path]
    return sorted(files)
