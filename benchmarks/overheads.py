"""Measure what a user waits for besides the work: no-op repro, import, start-up, download.

    python3 dev.py -- python benchmarks/overheads.py

Start-up is a fresh process that imports what the stage imports and loads params.yaml. The whole of
`download` (read, check, write) runs in an empty folder. Medians of five interleaved rounds, after
one that is not counted.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
LIMITS = {
    "dvc repro, nothing to do": 5.0,
    "import patchscale": 0.3,
    **{f"start-up of {stage}": 2.0 for stage in ("check", "download", "features", "split")},
    **{f"start-up of {stage}": 2.0 for stage in ("baselines", "hpo", "backtest", "weights")},
    **{f"start-up of {stage}": 2.0 for stage in ("headline", "report")},
    "start-up of train": 4.0,
    "download, whole": 3.0,
}


def command(name: str) -> list[str]:
    """Return the process to time."""
    if name.startswith("dvc"):
        return ["dvc", "repro"]
    if name.startswith("download"):
        return [sys.executable, str(Path("stages/download.py").resolve())]
    if name.startswith("import"):
        return [sys.executable, "-c", "import patchscale"]
    stage = name.removeprefix("start-up of ")
    code = (
        f"import runpy; runpy.run_path('stages/{stage}.py'); from patchscale import config, paths; "
        "config.load_params()"
    )
    return [sys.executable, "-c", code]


def main() -> None:
    """Time everything in turn and print a table against the limits."""
    seconds: dict[str, list[float]] = {name: [] for name in LIMITS}
    with tempfile.TemporaryDirectory() as empty:
        shutil.copy("params.yaml", empty)
        for round_ in range(ROUNDS + 1):
            for name, taken in seconds.items():
                folder = empty if name.startswith("download") else "."
                started = time.perf_counter()
                subprocess.run(command(name), check=True, capture_output=True, cwd=folder)
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
