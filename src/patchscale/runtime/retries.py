"""Retries of work that was killed or stopped itself, and shares of a GPU on a cluster."""

import signal

from patchscale.study.errors import Stopped

ATTEMPTS = 4
"""Attempts in all."""
PAUSE = 2.0
"""Seconds between the first attempt and the second; each further pause is twice as long."""
COORDINATOR_GPU_SHARE = 0.05
"""Share of a GPU reserved for the process that coordinates a search: it must see the GPU."""
TRIAL_GPU_SHARE = 0.9
"""Share of a GPU reserved for a trial; beside it there is room for the coordinating process."""


def is_retried(exit_code: int) -> bool:
    """Return whether a command is tried again: it was killed by SIGKILL, or stopped, resumable."""
    return exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL, Stopped.exit_code)


def pause_after(attempt: int) -> float:
    """Return the seconds to wait after an attempt, counted from 1, before the next."""
    return PAUSE * 2.0 ** (attempt - 1)
