"""Expected failures of a run, each with its exit code."""

import errno
import os
import re

FAULTS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
}
"""Errors of a disk: full, over quota or limit, read-only, not allowed, broken."""


class Ended(Exception):
    """Base of all expected failures: a message of one line and an exit code, no traceback."""

    exit_code: int


class InputError(Ended):
    """Bad input; the message names file or key, value, and what is allowed (exit code 2)."""

    exit_code = 2


class Stopped(Ended):
    """Stopped before the end; the same command resumes (exit code 75)."""

    exit_code = 75

    @classmethod
    def between_steps(cls, reason: str) -> "Stopped":
        """Return the error of a training that stops with all its steps in a checkpoint."""
        return cls(f"{reason}: stopped, every step is kept; the same command resumes")

    @classmethod
    def by_disk(cls, what: str, reason: str) -> "Stopped":
        """Return the error of a run whose disk is full, read-only or broken."""
        return cls(f"{what} ({reason}); once the disk is in order, the same command goes on")


class Diverged(Ended):
    """Loss that is not finite; the message says where it occurred (exit code 1)."""

    exit_code = 1


class SearchFailed(Ended):
    """Search without a completed trial; the message holds the first reason (exit code 1)."""

    exit_code = 1


def disk_fault(error: BaseException) -> str:
    """Return why the disk could not be written or read, '' where the error is another one.

    Errors of Rust libraries, such as safetensors, name the number in their text only.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(found[1])
    return os.strerror(number) if number in FAULTS else ""
