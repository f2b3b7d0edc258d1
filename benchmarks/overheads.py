"""Measure what a user waits for besides the work: DVC's own commands, start-up, download.

    python3 dev.py -- python benchmarks/overheads.py [--rounds 5] [--without-experiment]

`dvc status` and `dvc repro` have nothing to do. The experiment shows the published 20M cell in
place of the 2M one; it runs in a clone of the repository, so that the workspace stays as it is.
Start-up is a fresh process that imports what the stage imports and loads the parameters. The whole
of `download` (read, check, write) runs in an empty folder. Medians of interleaved rounds, after one
that is not counted.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXPERIMENT = ("dvc", "exp", "run", "-S", "model.budget=20M", "headline")
STAGES = sorted(file.stem for file in (Path(__file__).parents[1] / "stages").glob("*.py"))
WITH_TORCH = ("settings", "train", "walk")
LIMITS = {
    "dvc status": 2.0,
    "dvc repro, nothing to do": 2.0,
    "experiment on what is published": 6.0,
    "import patchscale": 0.3,
    **{f"start-up of {stage}": 4.0 if stage in WITH_TORCH else 2.0 for stage in STAGES},
    "download, whole": 3.0,
}
"""Seconds that each may take on two idle cores."""


def command(name: str) -> list[str]:
    """Return the process to time."""
    if name.startswith("experiment"):
        return list(EXPERIMENT)
    if name.startswith("dvc"):
        return ["dvc", name.removeprefix("dvc ").partition(",")[0]]
    if name.startswith("download"):
        return [sys.executable, str(Path("stages/download.py").resolve())]
    if name.startswith("import"):
        return [sys.executable, "-c", "import patchscale"]
    stage = name.removeprefix("start-up of ")
    code = (
        f"import runpy; runpy.run_path('stages/{stage}.py'); "
        "from patchscale.study.params import load_params; load_params()"
    )
    return [sys.executable, "-c", code]


def clone(folder: Path) -> None:
    """Make a clone with all published results."""
    subprocess.run(["git", "clone", "-q", ".", str(folder)], check=True)
    subprocess.run(["dvc", "pull", "-q"], check=True, cwd=folder)


def reset(folder: Path) -> None:
    """Bring the clone back to what is committed."""
    (folder / "params.yaml").unlink()
    subprocess.run(["git", "checkout", "-q", "--", "."], check=True, cwd=folder)
    subprocess.run(["dvc", "checkout", "-q"], check=True, cwd=folder)


def main() -> None:
    """Time everything in turn and print a table against the limits."""
    parser = argparse.ArgumentParser(epilog="example: benchmarks/overheads.py --rounds 3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-experiment", action="store_true")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {
        name: []
        for name in LIMITS
        if not (options.without_experiment and name.startswith("experiment"))
    }
    with tempfile.TemporaryDirectory() as temporary:
        empty, cloned = Path(temporary, "empty"), Path(temporary, "clone")
        empty.mkdir()
        for name in ("params.yaml", "grid.yaml"):
            shutil.copy(name, empty)
        if not options.without_experiment:
            clone(cloned)
        folders = {"download": empty, "experiment": cloned}
        for round_ in range(options.rounds + 1):
            for name, taken in seconds.items():
                folder = next((f for key, f in folders.items() if name.startswith(key)), Path())
                started = time.perf_counter()
                subprocess.run(command(name), check=True, capture_output=True, cwd=folder)
                if round_:
                    taken.append(time.perf_counter() - started)
                if folder == cloned:
                    reset(cloned)
    print(f"{'seconds':<32} median    min    max  limit")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        mark = "" if middle <= LIMITS[name] else "  over"
        figures = " ".join(f"{value:6.2f}" for value in (middle, min(taken), max(taken)))
        print(f"{name:<32} {figures} {LIMITS[name]:6.1f}{mark}")


if __name__ == "__main__":
    sys.exit(main() if Path("dvc.yaml").exists() else "run it in the repository's root")
