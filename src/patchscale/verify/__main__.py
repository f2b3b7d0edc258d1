"""Check on this machine that the code produces the results of dvc.lock.

    python -m patchscale.verify                                   records, then everything again
    python -m patchscale.verify --level records                   hashes, parameters, commands
    python -m patchscale.verify --level retrain --cell 2M-h1      and train a cell again
    python -m patchscale.verify --quick                           what `dev.py repro` does

The level `records` compares dvc.lock with files, cache, parameters and the names of the stages. The
level `recompute` also makes bars, features and splits again and compares every byte, predicts with
the published weights, and makes baselines, backtests and report again from the published
probabilities. `--quick` omits the records and what is made from probabilities.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchscale.study.errors import InputError, without_secrets
from patchscale.study.lock import locked_stages
from patchscale.study.stage import run
from patchscale.verify.records import (
    DIFFERS,
    REPRODUCED,
    UNAVAILABLE,
    WITHIN,
    Check,
    cached,
    records,
)
from patchscale.verify.remake import JUDGING_STAGES, recompute, regenerate, retrain, trained_cells

LEVELS = ("records", "recompute", "retrain")


def main(*words: str) -> None:
    """Print what differs or is not available, and a summary; exit 1 where anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m patchscale.verify",
        description="Check that dvc.lock's results are what the code produces.",
        epilog="example: python -m patchscale.verify --level retrain --cell 2M-h1",
    )
    parser.add_argument("--level", choices=LEVELS, default="recompute", help="how far to go")
    parser.add_argument("--cell", help="which cell `retrain` trains again, such as 2M-h1")
    parser.add_argument(
        "--quick", action="store_true", help="omit records, baselines, backtests and report"
    )
    options = parser.parse_args(words)
    root = Path.cwd()
    stages = locked_stages(root / "dvc.lock")
    if (options.level == "retrain") != (options.cell is not None):
        raise InputError("--cell: goes with --level retrain, and it with a cell")
    allowed = trained_cells(stages, root)
    if options.cell not in (None, *allowed):
        raise InputError(
            f"--cell: {options.cell!r} is not a trained cell; allowed: {', '.join(allowed)}"
        )
    checks: list[Check] = []
    for check in run_checks(stages, root, options.level, options.quick, options.cell):
        checks.append(check)
        if check.verdict != REPRODUCED or check.detail:
            line = f"{check.verdict:<17} {check.what}  {check.detail}"
            print(without_secrets(line), flush=True)
    counts = Counter(check.verdict for check in checks)
    verdicts = (REPRODUCED, WITHIN, DIFFERS, UNAVAILABLE)
    print("verify: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts))
    if counts[DIFFERS]:
        sys.exit(1)


def run_checks(
    stages: dict[str, Any], root: Path, level: str, quick: bool, cell: str | None
) -> Iterator[Check]:
    """Yield the checks of a level, as they are made."""
    if not quick:
        yield from records(stages, root)
        yield from cached(stages, root)
    if level == "records":
        return
    yield from regenerate(stages, root)
    yield from recompute(stages, root)
    if not quick:
        yield from regenerate(stages, root, JUDGING_STAGES)
    if cell is not None:
        yield retrain(cell, root)


if __name__ == "__main__":
    run(main)
