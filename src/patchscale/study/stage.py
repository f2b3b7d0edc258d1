"""Helpers of the stage scripts: exit codes, code dependencies, limits from the environment."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import yaml

from patchscale.study import paths
from patchscale.study.errors import Ended, InputError, disk_fault


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command-line arguments, and exit with a code if it fails.

    Exit codes: 0 success; 2 bad input; 75 stopped, or the disk is full or broken, can be
    resumed; 1 training diverged or search failed, each with one line on stderr; 1 with a traceback
    for a bug.
    """
    script = Path(sys.argv[0])
    name = f"patchscale {script.stem}" if script.is_absolute() else str(script)
    try:
        main(*sys.argv[1:])
    except Ended as error:
        _end(name, error)
    except OSError as error:
        if not (fault := disk_fault(error)):
            raise
        _end(name, fault)


def _end(name: str, error: Ended) -> NoReturn:
    print(f"{name}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def max_hours() -> float:
    """Return the longest training allowed to start, in hours, from PATCHSCALE_MAX_HOURS.

    Raises
    ------
    InputError
        The value is not a positive number.
    """
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
    """Return the largest number of concurrent trials, from PATCHSCALE_WORKERS; 0 means no limit.

    Raises
    ------
    InputError
        The value is not a whole number.
    """
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
