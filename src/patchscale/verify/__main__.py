"""Check on this machine that the code produces the results of dvc.lock.

    patchscale verify                                   records, then everything again
    patchscale verify --level published                 what `dvc pull` reads
    patchscale verify --level records                   and hashes, parameters, commands
    patchscale verify --level retrain --cell 2M-h1      and train a cell again
    patchscale verify --quick                           what `dev.py repro` does

What is compared is what dvc.yaml declares, as DVC resolves it. A command in dvc.lock is never run.
The level `records` compares dvc.lock with that, and with files, cache and parameters. The level
`recompute` makes bars, features, splits and all that needs no training again and compares every
byte. It predicts with the published weights, and makes baselines, backtests and report again from
the published probabilities. `--quick` omits what is made from probabilities.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchscale.study import paths
from patchscale.study.errors import InputError, without_secrets
from patchscale.study.lock import dvc_md5
from patchscale.study.params import load_params
from patchscale.study.parser import parser
from patchscale.study.stage import run
from patchscale.verify.foreign import staying
from patchscale.verify.objects import cached, published
from patchscale.verify.pipeline import Declared, declared_stages
from patchscale.verify.predictions import recompute
from patchscale.verify.records import (
    DIFFERS,
    REPRODUCED,
    UNAVAILABLE,
    WITHIN,
    Check,
    records,
)
from patchscale.verify.remake import DATA_STAGES, JUDGING_STAGES, costly, regenerate, retrain
from patchscale.verify.strict_lock import strict_stages
from patchscale.verify.walk import compare_walks

LEVELS = ("published", "records", "recompute", "retrain")


def main(*words: str) -> None:
    """Print what differs or is not available, and a summary; exit 1 where anything differs."""
    command = parser(
        "verify",
        "Check that the results in dvc.lock are what the code produces. Exit code 0: they are; 1:\n"
        "something differs.",
        "",
        "--level records",
        "--level retrain --cell 2M-h1",
    )
    command.add_argument("--level", choices=LEVELS, default="recompute", help="how far to go")
    command.add_argument("--cell", help="which cell `retrain` trains again, such as 2M-h1")
    command.add_argument(
        "--quick", action="store_true", help="omit baselines, backtests and report"
    )
    options = command.parse_args(words)
    root = Path.cwd()
    if (options.level == "retrain") != (options.cell is not None):
        raise InputError("--cell and --level retrain need each other")
    lock = strict_stages(root / paths.LOCK)
    checks: list[Check] = []
    for check in run_checks(lock, root, options.level, options.quick, options.cell):
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
    lock: dict[str, Any], root: Path, level: str, quick: bool, cell: str | None
) -> Iterator[Check]:
    """Yield the checks of a level, as they are made."""
    yield from staying(root)
    yield from published(root)
    if level == "published":
        return
    stages: dict[str, Declared] = declared_stages(root)
    params = load_params(root)
    allowed = params.trained_cells
    if cell not in (None, *allowed):
        raise InputError(f"--cell: {cell!r} is not a trained cell; allowed: {', '.join(allowed)}")
    refuse_another_library(root)
    yield from records(lock, stages, root)
    yield from cached(lock, root)
    if level == "records":
        return
    yield from regenerate(lock, stages, root, DATA_STAGES, omitted=costly(params))
    yield from recompute(params, stages, root)
    yield from compare_walks(params, root)
    if not quick:
        yield from regenerate(lock, stages, root, JUDGING_STAGES)
    if cell is not None:
        yield retrain(cell, root)


def refuse_another_library(root: Path) -> None:
    """Raise InputError if the library that runs is not the one of the repository."""
    imported, ours = Path(__file__).parents[1], root / "src/patchscale"
    if imported != ours and not (ours.is_dir() and dvc_md5(imported) == dvc_md5(ours)):
        raise InputError(
            f"{imported}: not the code of {ours}; `python3 dev.py verify` runs the right one"
        )


if __name__ == "__main__":
    run(main)
