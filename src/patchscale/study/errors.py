"""The ways a run ends early, with their exit codes."""


class Ended(Exception):
    """An expected end: one line and an exit code, no traceback."""

    exit_code: int


class InputError(Ended):
    """Bad input: one line that names the key or file, the value and what is allowed (exit 2)."""

    exit_code = 2


class Stopped(Ended):
    """Stopped on purpose and resumable by the same command (exit 75)."""

    exit_code = 75

    @classmethod
    def between_steps(cls, reason: str) -> "Stopped":
        """Return what ends a training whose steps are all in its checkpoint."""
        return cls(f"{reason}: stopped, every step is kept; the same command resumes")


class Diverged(Ended):
    """A loss is not finite: one line that says where and what was good before (exit 1)."""

    exit_code = 1


class SearchFailed(Ended):
    """No trial of a search was completed: one line with the first reason (exit 1)."""

    exit_code = 1
