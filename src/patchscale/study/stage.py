"""Helpers of the stage scripts: exit codes, code dependencies, limits from the environment."""

import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from patchscale.study import paths
from patchscale.study.errors import (
    Ended,
    InputError,
    Stopped,
    of_machine,
    shown,
    without_secrets,
)
from patchscale.study.safe_yaml import read_yaml


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command-line arguments, and exit with a code if it fails.

    A stage that DVC runs without arguments gets the word after the @ in its name: no command of
    dvc.yaml contains a name, which a shell would read.

    Exit codes: 0 success; 2 bad input; 75 stopped, can be resumed; 1 training diverged or search
    failed, each with one line on stderr; 1 with a traceback for a bug. A signal stops `main` at
    once, and so does a file that this machine cannot write. The line contains no password.
    """
    script = Path(sys.argv[0])
    command = script.parent.name if script.stem == "__main__" else script.stem
    name = f"patchscale {command}" if script.is_absolute() else str(script)
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]  # ../dvc.yaml:train@2M-h1
    words = sys.argv[1:] or (words_of(stage) if stage.startswith(f"{script.stem}@") else [])
    try:
        try:
            inspect.signature(main).bind(*words)
        except TypeError as error:
            raise InputError(f"wrong number of arguments ({error})") from None
        _refuse_trials()
        with _signals():
            main(*words)
    except (Exception, KeyboardInterrupt) as error:
        ended = _expected(error)
        if ended is None:
            raise
        print(f"{name}: {without_secrets(str(ended))}", file=sys.stderr)
        sys.exit(ended.exit_code)


def words_of(stage: str) -> list[str]:
    """Return what the script of a stage is given: 2M-h1 of train@2M-h1, nothing of report."""
    _, _, word = stage.partition("@")
    return [word] if word else []


def _expected(error: BaseException) -> Ended | None:
    """Return the expected failure that an exception stands for; None for a bug."""
    if isinstance(error, Ended):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped(f"{error}: stopped; the same command goes on")
    return of_machine(error)


@contextmanager
def _signals() -> Iterator[None]:
    """Let the first signal raise KeyboardInterrupt with its name, and ignore those that follow.

    A signal that was ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def interrupt(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse_trials() -> None:
    """Refuse a value of PATCHSCALE_TRIALS that a search would take for none."""
    text = os.environ.get("PATCHSCALE_TRIALS", "")
    if text not in ("", "ray"):
        raise InputError(
            f"PATCHSCALE_TRIALS: {shown(text)} is not allowed; ray runs the trials of a search on "
            f"a Ray cluster, without a value they run here"
        )


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
            f"PATCHSCALE_MAX_HOURS: {shown(text)} is not allowed; a positive number of hours is "
            f"needed"
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
            f"PATCHSCALE_WORKERS: {shown(text)} is not allowed; a whole number of processes is "
            f"needed, 0 for as many as cores and memory allow"
        )
    return int(text)


def may_compile() -> bool:
    """Return whether layers may be compiled, from PATCHSCALE_COMPILE.

    Raises
    ------
    InputError
        The value is neither 0 nor 1.
    """
    text = os.environ.get("PATCHSCALE_COMPILE", "1")
    if text not in ("0", "1"):
        raise InputError(
            f"PATCHSCALE_COMPILE: {shown(text)} is not allowed; 1 compiles layers where that pays, "
            f"0 never compiles"
        )
    return text == "1"


def code_of(stage: str, root: Path = Path()) -> list[Path]:
    """Return the Python files that dvc.yaml names as dependencies of a stage, sorted."""
    pipeline = read_yaml(root / paths.PIPELINE)
    definition = pipeline["stages"][stage]
    files: list[Path] = []
    for dependency in definition.get("do", definition)["deps"]:
        if dependency.startswith(("src/", "stages/")):
            path = root / dependency
            files += path.rglob("*.py") if path.is_dir() else [path]
    return sorted(files)
