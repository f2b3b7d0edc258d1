"""What tests share that kill processes: a process of its own that forks and prints outcomes."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def outcomes_of(script: str, directory: Path) -> dict[str, Any]:
    """Run a test file as a script; return the JSON it prints.

    Starting Python and torch takes seconds, so it forks all that are killed.
    """
    words = [sys.executable, script, str(directory)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, Any] = json.loads(done.stdout)
    return outcomes


def fork(run: Callable[[], None], begun: Callable[[], None] = lambda: None) -> int:
    """Run in a child process; return its id once `begun` has been called there."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            begun()
            os.write(writing, b"x")
            run()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return child


def ended(child: int) -> int:
    """Wait for a child; return its exit code, negative where a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
