"""Measure the stages that make the data, each as a fresh process, against their limits.

    python3 dev.py -- python benchmarks/data.py

Runs in an empty folder with this repository's params.yaml, so nothing here is touched. Medians of
five rounds, after one that is not counted.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
LIMITS = {"download": 3.0}


def main() -> None:
    """Time every stage in turn and print a table against the limits."""
    root = Path.cwd()
    seconds: dict[str, list[float]] = {name: [] for name in LIMITS}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(root / "params.yaml", folder)
        for round_ in range(ROUNDS + 1):
            for words, taken in seconds.items():
                stage, *rest = words.split()
                command = [sys.executable, str(root / "stages" / f"{stage}.py"), *rest]
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, cwd=folder)
                if round_:
                    taken.append(time.perf_counter() - started)
    print(f"{'seconds':<28} median    min    max  limit")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        mark = "" if middle <= LIMITS[name] else "  over"
        figures = " ".join(f"{value:6.2f}" for value in (middle, min(taken), max(taken)))
        print(f"{name:<28} {figures} {LIMITS[name]:6.1f}{mark}")


if __name__ == "__main__":
    sys.exit(main() if Path("dvc.yaml").exists() else "run it in the repository's root")
