"""What every stage script shares: the exit-code contract around its main function."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from patchscale.errors import Ended, InputError


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command-line words; end with the exit code of the contract.

    0 done, 2 bad input (one line on stderr), 75 stopped and resumable, 1 diverged or nothing
    found (one line) or a bug (traceback).
    """
    script = Path(sys.argv[0])
    name = f"patchscale {script.stem}" if script.is_absolute() else str(script)
    try:
        main(*sys.argv[1:])
    except Ended as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def max_hours() -> float:
    """Return the longest training that may start, from the environment."""
    text = os.environ.get("PATCHSCALE_MAX_HOURS", "2")
    try:
        hours = float(text)
    except ValueError:
        hours = float("nan")
    if not hours > 0:
        raise InputError(
            f"PATCHSCALE_MAX_HOURS: {text!r} is not allowed; a positive number of hours is needed"
        )
    return hours
