"""Expected failures of a run, each with its exit code, and values in their messages."""

from reprlib import Repr


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


_SHORT = Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr, on one line and cut to 100 characters."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."
