"""When a training should stop (a signal, the key q, the end of dvc), and who may train at all."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

STDIN = 0
KEYS_EVERY = 0.2  # seconds
STARTERS_EVERY = 1.0  # seconds
REQUEST_EVERY = 2.0
"""Seconds after which a task of a cluster that has not ended is asked to stop again."""
GRACE = 120.0
"""Seconds that a training may take to finish a step and write its checkpoint; then it is killed."""


@contextmanager
def stop_requests(*, keys: bool = False) -> Iterator[Callable[[], str]]:
    """Yield a function that tells why to stop: '' or 'SIGTERM', 'q', 'dvc ended', 'parent ended'.

    The block asks between steps, as often as it likes, and ends itself: inside it no signal and no
    second Ctrl-C interrupts what is being written. A SIGHUP that `nohup` ignores stays ignored.
    Outside the main thread, which alone may handle signals, none is heeded.

    Parameters
    ----------
    keys
        Heed the key q where stdin is a terminal and this process is in its foreground; one process
        of a cell does.
    """
    caught: list[str] = []
    watched = starters(os.getpid())
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_signals(caught))
        typed = stack.enter_context(_keyboard()) if keys else None
        next_keys = next_starters = 0.0

        def stopped() -> str:
            nonlocal next_keys, next_starters
            now = time.monotonic()
            if typed and now >= next_keys:
                next_keys = now + KEYS_EVERY
                if "q" in typed():
                    caught.append("q")
            if watched and not caught and now >= next_starters:
                next_starters = now + STARTERS_EVERY
                ended = [name for process, name in watched.items() if not _lives(process)]
                caught.extend(f"{name} ended" for name in ended[-1:])
            return caught[0] if caught else ""

        yield stopped


@cache
def starters(pid: int) -> dict[psutil.Process, str]:
    """Return the processes that `pid` should not outlive, the nearest first, as parent or dvc.

    Below dvc, which tells a stage's command its DVC_STAGE: all ancestors up to dvc. Elsewhere none.
    Looked up once, so that who ended since then is still there.
    """
    found: dict[psutil.Process, str] = {}
    if "DVC_STAGE" in os.environ:
        for ancestor in psutil.Process(pid).parents():
            if _is_dvc(ancestor):
                return {**found, ancestor: "dvc"}
            found[ancestor] = "parent"
    return {}


def _is_dvc(process: psutil.Process) -> bool:
    """Tell whether a process is `dvc`, `python [options] dvc` or `python [options] -m dvc`."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    program, *rest = words or [""]
    while rest and rest[0].startswith("-"):
        if rest.pop(0) == "-c":
            return False
    return "dvc" in {Path(word).stem for word in (program, *rest[:1])}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@contextmanager
def _signals(caught: list[str]) -> Iterator[None]:
    """Append the names of the signals that come to `caught`."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # unknown to Windows
    if hang_up and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)

    def note(number: int, _: object) -> None:
        caught.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if sys.platform == "win32":
    import msvcrt

    @contextmanager
    def _keyboard() -> Iterator[Callable[[], str]]:
        """Yield a function that returns a key typed since it was last called, or ''."""
        yield lambda: msvcrt.getwch() if msvcrt.kbhit() else ""

else:
    import select
    import termios
    import tty

    @contextmanager
    def _keyboard() -> Iterator[Callable[[], str]]:
        """Let keys come without Enter; yield a function that returns what was typed, or ''.

        A process in the background that touches the terminal would be stopped: it leaves it alone.
        """
        if not _in_foreground():
            yield lambda: ""
            return
        before = termios.tcgetattr(STDIN)
        try:
            tty.setcbreak(STDIN, termios.TCSANOW)
            yield _typed
        finally:
            with suppress(termios.error):  # the terminal is closed
                if _in_foreground():
                    termios.tcsetattr(STDIN, termios.TCSANOW, before)

    def _typed() -> str:
        with suppress(OSError):  # the terminal is closed
            if _in_foreground() and select.select([STDIN], [], [], 0)[0]:
                return os.read(STDIN, 1024).decode(errors="replace")
        return ""

    def _in_foreground() -> bool:
        try:
            return os.isatty(STDIN) and os.tcgetpgrp(STDIN) == os.getpgrp()
        except OSError:
            return False
