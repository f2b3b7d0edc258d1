"""The two ways a run ends early on purpose, with their exit codes."""


class InputError(Exception):
    """Bad input: one line that names the key or file, the value and what is allowed (exit 2)."""

    exit_code = 2


class Stopped(Exception):
    """Stopped on purpose and resumable by the same command (exit 75)."""

    exit_code = 75
