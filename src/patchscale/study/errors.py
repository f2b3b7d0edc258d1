"""Expected failures of a run, each with its exit code; short messages without passwords."""

import errno
import math
import os
import re
from collections.abc import Iterable
from reprlib import Repr
from urllib.parse import unquote

OF_MACHINE = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENOSPC", "EPERM", "EROFS")
    if hasattr(errno, name)
}
"""Numbers of errors that say that a file cannot be written or read on this machine."""
OF_RUST = re.compile(r"\(os error (\d+)\)")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.I)
"""Begins an address; the one letter of a drive of Windows does not."""
URI = re.compile(r"""\b([a-z][a-z0-9+.-]+:/+)([^\s'"<>]*@)?([^\s'"<>?]*)(\?[^\s'"<>]*)?""", re.I)
QUERY = re.compile(r"""\?[^\s'"<>?]*=[^\s'"<>]*""")
SECRET = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|KEY)$", re.I)
"""Names of variables of the environment whose values are not printed."""


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


class _Short(Repr):
    """Short repr, in which no text keeps a password; one that was cut could not be recognised."""

    def repr_str(self, x: str, level: int) -> str:
        """Return the repr of a text, cut in its middle."""
        return super().repr_str(without_secrets(x), level)


_SHORT = _Short()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr, on one line and cut to 100 characters.

    Passwords in addresses are left out before it is cut.
    """
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def refuse_if_long(what: str, hours: float, limit: float, otherwise: str = "") -> None:
    """Raise InputError where something would take longer than the limit, both in hours.

    `otherwise` is what to do instead of allowing it.
    """
    if hours > limit:
        raise InputError(
            f"{what} would take up to {hours:.1f} h here, the limit is {limit:g} h; allow it with "
            f"PATCHSCALE_MAX_HOURS={math.ceil(hours)}{otherwise}"
        )


def of_machine(error: BaseException, path: object = None) -> Stopped | None:
    """Return the failure that an error of the file system stands for; None for any other error.

    A disk that is full or read-only is no fault of the input: the same command goes on later.
    Libraries written in Rust name the number of the error in their message. `path` is the file that
    could not be written; by default it is the one that the error names.
    """
    number = getattr(error, "errno", None)
    if named := OF_RUST.search(str(error)):
        number = int(named[1])
    if not isinstance(number, int) or number not in OF_MACHINE:
        return None
    file = path or getattr(error, "filename", None)
    where = f"{file}: " if file else ""
    return Stopped(f"{where}{os.strerror(number)}; the same command goes on once this is fixed")


def without_secrets(text: str) -> str:
    """Return a text whose URIs have no user, password and query, for a line or a file.

    Values of variables such as WANDB_API_KEY, and passwords within variables, are removed as well.
    """
    for name, value in os.environ.items():
        is_address = len(value.split()) == 1
        user = value.partition("://")[2].rpartition("@")[0] if is_address else ""
        password = user.partition(":")[2]
        for secret in (value if SECRET.search(name) else "", password, unquote(password)):
            if len(secret) > 3:
                text = text.replace(secret, "***")
    return QUERY.sub("", URI.sub(r"\1\3", text))


def printable(text: object) -> str:
    """Return a text as one line for a terminal; what is not printable becomes a question mark."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def some(names: Iterable[str], most: int = 4) -> str:
    """Return names in a line, and the number of those left out."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
