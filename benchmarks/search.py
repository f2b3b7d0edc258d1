"""Measure what a search costs besides its trainings, and what a second worker brings.

    python3 dev.py -- python benchmarks/search.py 2M-h1 --trials 8 --epochs 6 --workers 1 2

The stage runs whole, in a process of its own and an empty folder, with short unpruned trials.
Overhead is the share of the workers' time that no trial was trained in: start-up, Optuna, storage,
pipes, waiting for the last of a batch. The study alone is the same trials without training.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from patchscale.features.tiers import tier_features
from patchscale.hpo.space import distributions, shapes
from patchscale.hpo.study import TrialResult, search
from patchscale.study import paths
from patchscale.study.files import read_arrow
from patchscale.study.params import load_best, load_params, split_cell

STAGE = Path("stages/hpo.py").resolve()


def whole_stage(cell: str, workers: int, trials: int, epochs: int) -> tuple[float, float]:
    """Run the stage; return its seconds and those of its trials."""
    with tempfile.TemporaryDirectory() as folder:
        budget, _ = split_cell(cell)
        params = yaml.safe_load(paths.PARAMS.read_text())
        params["study"]["search"][budget] = True
        params["budgets"][budget]["epochs"] = epochs
        params["hpo"] |= {"trials": trials, "workers": workers}
        params["hpo"]["pruning"]["startup"] = trials
        Path(folder, paths.PARAMS).write_text(yaml.safe_dump(params))
        for name in ("data/features", "data/splits", "src"):
            shutil.copytree(name, Path(folder, name), ignore=shutil.ignore_patterns("*.pyc"))
        env = os.environ | {"DVC_ROOT": folder, "PATCHSCALE_MAX_HOURS": "100"}
        started = time.perf_counter()
        words = [sys.executable, str(STAGE), cell]
        subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True)
        wall = time.perf_counter() - started
        costs = read_arrow(Path(folder, paths.costs(cell)))
        return wall, float(costs["seconds"].sum())


def study_alone(cell: str, trials: int) -> float:
    """Return the seconds of asking, telling and storing, 20 epochs a trial."""
    params = load_params()
    best = load_best(params, cell)
    budget = params.budgets[split_cell(cell)[0]]
    model = params.model
    size = {"patch_length": model.patch_length, "n_patches": model.n_patches}
    size["n_features"] = len(tier_features(params.features.tier))
    allowed = shapes(params.hpo.space, budget.n_params, **size)
    space = distributions(params.hpo.space, allowed)
    rules = params.hpo.model_copy(update={"trials": trials})

    def evaluate(batch, curves):
        for number, drawn in batch.items():
            yield (
                number,
                TrialResult("COMPLETE", [drawn["lr"] + 1 / epoch for epoch in range(1, 21)]),
            )

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        first = best.model_dump(include=set(space))
        search(cell, space, allowed, first, rules, evaluate, Path(folder), lambda line: None)
        return time.perf_counter() - started


def main() -> None:
    """Print a line for each number of workers."""
    parser = argparse.ArgumentParser(description="Measure the overhead of a search.")
    parser.add_argument("cell", help="such as 2M-h1")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    words = parser.parse_args()
    alone = study_alone(words.cell, 50)
    print(f"{words.cell}: 50 trials asked, told and stored in {alone:.1f} s", flush=True)
    walls = {}
    for workers in words.workers:
        wall, trained = whole_stage(words.cell, workers, words.trials, words.epochs)
        walls[workers] = wall
        print(
            f"{workers} worker(s): {wall:.1f} s, {trained:.1f} s of {words.trials} trials of "
            f"{words.epochs} epochs; overhead {1 - trained / wall / workers:.0%}, "
            f"{walls[words.workers[0]] / wall:.2f} x the first",
            flush=True,
        )


if __name__ == "__main__":
    main()
