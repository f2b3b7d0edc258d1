"""Requests to stop a training: a signal, the key q, the end of dvc or of a parent process."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType

import psutil

from patchscale.study.errors import Stopped

STDIN = 0
KEYS_EVERY = 0.2
"""Seconds between two looks at the keyboard."""
ANCESTORS_EVERY = 1.0
"""Seconds between two looks at the ancestors of this process."""
REQUEST_EVERY = 2.0
"""Seconds after which a task of a cluster that has not ended is asked to stop again."""
PARENT = "PATCHSCALE_PARENT"
"""Variable in which a process that starts the processes of a training gives them its id."""
GRACE = 120.0
"""Seconds that a training may take to finish a step and write its checkpoint; then it is killed."""


@contextmanager
def stop_requests(*, keys: bool = False) -> Iterator[Callable[[], str]]:
    """Yield a function that returns why to stop: 'SIGTERM', 'q', 'dvc ended', ..., or ''.

    The block calls it between steps and ends by itself. Inside the block no signal, and no second
    Ctrl-C, interrupts the writing of a file. A SIGHUP that `nohup` ignores stays ignored. Only the
    main thread can handle signals; in any other thread they are not noticed here.

    Parameters
    ----------
    keys
        Whether the key q is a request, where stdin is a terminal and this process is in its
        foreground. Only one process of a cell may read the keyboard.
    """
    caught: list[str] = []
    ancestors = ancestors_to_dvc(os.getpid())
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_signals(caught))
        read_keys = stack.enter_context(_keyboard()) if keys else None
        next_keys = next_ancestors = 0.0

        def stopped() -> str:
            nonlocal next_keys, next_ancestors
            now = time.monotonic()
            if read_keys and now >= next_keys:
                next_keys = now + KEYS_EVERY
                if "q" in read_keys():
                    caught.append("q")
            if ancestors and not caught and now >= next_ancestors:
                next_ancestors = now + ANCESTORS_EVERY
                ended = [name for process, name in ancestors.items() if not _lives(process)]
                caught.extend(f"{name} ended" for name in ended[-1:])
            return caught[0] if caught else ""

        yield stopped


@contextmanager
def interruptible(stopped: Callable[[], str]) -> Iterator[None]:
    """End the block once `stopped` returns a reason, which another thread asks for.

    It is meant for a block that computes for long and writes no file of the study, such as a
    compilation. Processes that the block has started are ended with it. Outside the main thread,
    which alone can be interrupted, the block runs to its end.

    Raises
    ------
    Stopped
        There was a reason to stop.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    reasons: list[str] = []
    over = threading.Event()
    before = set(psutil.Process().children(recursive=True))

    def watch() -> None:
        while not over.wait(KEYS_EVERY):
            if reasons or (reason := stopped()):
                reasons.append(reasons[0] if reasons else reason)
                for process in {*psutil.Process().children(recursive=True)} - before:
                    with suppress(psutil.Error):
                        process.terminate()
                _interrupt(main)  # again and again: an exception in a destructor gets lost

    def end(number: int, frame: FrameType | None) -> None:
        if reasons and not over.is_set():
            raise KeyboardInterrupt
        if callable(handler):
            handler(number, frame)

    handler = signal.signal(signal.SIGINT, end)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            over.set()
    except BaseException:  # the interrupt, or what the end of a compiler leads to
        over.set()
        if reasons:
            raise Stopped.between_steps(reasons[0]) from None
        raise
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)


def _interrupt(thread: threading.Thread) -> None:
    """Send SIGINT to a thread of this process; it ends a system call that waits."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    elif thread.ident is not None:
        signal.pthread_kill(thread.ident, signal.SIGINT)


@cache
def ancestors_to_dvc(pid: int) -> dict[psutil.Process | None, str]:
    """Return the ancestors of a process up to dvc, nearest first, each with "parent" or "dvc".

    A training must not outlive them. An ancestor that ended before it was looked for is None.
    Outside a stage, where dvc has not set DVC_STAGE, only a parent is looked for that has written
    its id into `PARENT`. The result is cached, so that it still contains a process that has ended
    since.
    """
    process = psutil.Process(pid)
    found: dict[psutil.Process | None, str] = {}
    if "DVC_STAGE" in os.environ:
        for ancestor in process.parents():
            if _is_dvc(ancestor):
                return {**found, ancestor: "dvc"}
            if _adopts(ancestor, process):
                return {**found, None: "dvc"}
            if not _in_stage(ancestor):
                return {}  # a program that uses DVC as a library
            found[ancestor] = "parent"
    elif parent := os.environ.get(PARENT):
        started_by = process.parent()
        is_here = started_by is not None and str(started_by.pid) == parent
        return {started_by if is_here else None: "parent"}
    return {}


def _in_stage(process: psutil.Process) -> bool:
    """Return whether dvc gave a process the environment of a stage."""
    try:
        return "DVC_STAGE" in process.environ()
    except (psutil.Error, OSError):
        return False


def _adopts(ancestor: psutil.Process, process: psutil.Process) -> bool:
    """Return whether an ancestor may have a process of a stage only because dvc has ended.

    The kernel gives orphans to process 1 or to a process of another session, such as that of a
    user's systemd. A program that uses DVC as a library shares its session with the stage.
    """
    if sys.platform == "win32":
        return False
    try:
        return ancestor.pid == 1 or os.getsid(ancestor.pid) != os.getsid(process.pid)
    except OSError:  # it has just ended
        return True


def _is_dvc(process: psutil.Process) -> bool:
    """Return whether a process is `dvc`, `python [options] dvc` or `python [options] -m dvc`."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    program, *rest = words or [""]
    while rest and rest[0].startswith("-"):
        if rest.pop(0) == "-c":
            return False
    return "dvc" in {Path(word).stem for word in (program, *rest[:1])}


def _lives(process: psutil.Process | None) -> bool:
    if process is None:
        return False
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@contextmanager
def _signals(caught: list[str]) -> Iterator[None]:
    """Append the names of the signals that this process receives to `caught`."""
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
        """Yield a function that returns a key typed since the last call, or ''."""
        yield lambda: msvcrt.getwch() if msvcrt.kbhit() else ""

else:
    import select
    import termios
    import tty

    @contextmanager
    def _keyboard() -> Iterator[Callable[[], str]]:
        """Read keys without Enter; yield a function that returns those typed, or ''.

        A process in the background does not touch the terminal, since the kernel would halt it.
        """
        if not _in_foreground():
            yield lambda: ""
            return
        before = termios.tcgetattr(STDIN)
        try:
            tty.setcbreak(STDIN, termios.TCSANOW)
            yield _read_keys
        finally:
            with suppress(termios.error):  # the terminal is closed
                if _in_foreground():
                    termios.tcsetattr(STDIN, termios.TCSANOW, before)

    def _read_keys() -> str:
        with suppress(OSError):  # the terminal is closed
            if _in_foreground() and select.select([STDIN], [], [], 0)[0]:
                return os.read(STDIN, 1024).decode(errors="replace")
        return ""

    def _in_foreground() -> bool:
        try:
            return os.isatty(STDIN) and os.tcgetpgrp(STDIN) == os.getpgrp()
        except OSError:
            return False
