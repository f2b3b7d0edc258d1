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


class Diverged(Ended):
    """Loss that is not finite; the message says where it occurred (exit code 1)."""

    exit_code = 1


class SearchFailed(Ended):
    """Search without a completed trial; the message holds the first reason (exit code 1)."""

    exit_code = 1


def disk_fault(error: BaseException, path: object = None) -> Stopped | None:
    """Return the error that says that the disk is at fault, None where it is not.

    Parameters
    ----------
    error
        What was raised. Errors of Rust libraries, such as safetensors, name their number in the
        text only.
    path
        File that could not be written; by default the one that the error names.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(found[1])
    if number not in FAULTS:
        return None
    where = path or getattr(error, "filename", None) or "a file"
    reason = os.strerror(number)
    return Stopped(f"{where}: {reason}; once the disk is in order, the same command goes on")
