"""Lock files that one process holds at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from patchscale.study.errors import Stopped
from patchscale.study.files import write_text


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the kernel releases it even if this process is killed.

    Raises
    ------
    Stopped
        Another process holds it; the message names the process, which `<path>.pid` contains.
    """
    from filelock import FileLock, Timeout

    lock, pid_file = FileLock(path), path.with_name(f"{path.name}.pid")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = "unknown"
        with suppress(OSError):
            holder = pid_file.read_text(encoding="utf-8").strip()
        raise Stopped(
            f"{path} is held by process {holder}; the same command works once it has ended"
        ) from None
    try:
        write_text(pid_file, f"{os.getpid()}\n")
        yield
    finally:
        pid_file.unlink(missing_ok=True)
        lock.release()
