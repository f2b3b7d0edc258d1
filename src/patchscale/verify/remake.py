"""Make results again and compare them with those that dvc.lock holds."""

import contextlib
import io
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from patchscale.study import paths
from patchscale.study.errors import Stopped
from patchscale.study.files import read_arrow, read_json
from patchscale.study.lock import dvc_md5
from patchscale.study.params import Params
from patchscale.verify.numbers import RELATIVE, close
from patchscale.verify.pipeline import Declared, tracked_files
from patchscale.verify.records import DIFFERS, REPRODUCED, UNAVAILABLE, WITHIN, Check
from patchscale.verify.strict_lock import shortened
from patchscale.verify.walk import walked_budgets

DATA_STAGES = ("check", "download", "features", "split", "hpo", "settings", "train", "walk")
JUDGING_STAGES = (
    "baselines",
    "walk_baselines",
    "backtest",
    "headline",
    "verdict",
    "report",
)
RETRAIN_TOLERANCE = 0.005
"""Largest difference of a cell's validation log-loss where other bits were trained: ten times what
one or two threads and bfloat16 or float32 make of 2M-h1 (at most 0.0004 a seed; docs/LOG.md)."""


def costly(params: Params) -> set[str]:
    """Return the stages that search or train; the others are made again in seconds."""
    searched = {cell for cell, row in params.cells.items() if params.trials_of(row.budget)}
    return {
        *(f"hpo@{cell}" for cell in searched),
        *(f"train@{cell}" for cell in params.trained_cells),
        *(f"walk@{budget}" for budget in walked_budgets(params)),
    }


def regenerate(
    lock: dict[str, Any],
    stages: dict[str, Declared],
    root: Path,
    kinds: tuple[str, ...],
    omitted: Collection[str] = (),
) -> Iterator[Check]:
    """Run stages of some kinds, in that order, in an empty folder and compare what they write.

    Every byte is compared. Another processor may round otherwise: numbers that are close suffice.

    Commands, dependencies and outputs are those of dvc.yaml; dvc.lock gives the hashes only. Other
    inputs are copied from the workspace. The stages run in this process, because starting processes
    would take longer than the work.

    Parameters
    ----------
    lock
        Stages of dvc.lock.
    stages
        Stages of dvc.yaml.
    root
        The repository.
    kinds
        Words before the @ in the names of the stages to run.
    omitted
        Stages that are not run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in filter(Path.is_file, map(root.joinpath, paths.STUDY)):
            shutil.copy(file, folder)
        if (root / paths.INPUTS).is_dir():
            shutil.copytree(root / paths.INPUTS, folder / paths.INPUTS)
        chosen = {
            name: kinds.index(kind)
            for name in stages
            if (kind := name.partition("@")[0]) in kinds and name not in omitted
        }
        for name in sorted(chosen, key=chosen.__getitem__):
            stage = stages[name]
            try:
                copy_inputs(stage, root, folder)
                main = runpy.run_path(str(root / stage.script))["main"]
                with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
                    main(*stage.words)
            except Stopped as stopped:
                # the source cannot be reached: continue with the bars of the workspace
                yield Check(name, UNAVAILABLE, str(stopped))
                for path in stage.outs:
                    if (root / path).is_dir():
                        shutil.copytree(root / path, folder / path)
                continue
            except FileNotFoundError as error:
                yield Check(name, UNAVAILABLE, f"{error.filename} is missing")
                continue
            except Exception as error:
                yield Check(name, DIFFERS, f"{type(error).__name__}: {shortened(error, 300)}")
                continue
            locked = {out["path"]: out["md5"] for out in lock.get(name, {}).get("outs", [])}
            wrong = [
                path
                for path in stage.outs
                if not (folder / path).exists() or dvc_md5(folder / path) != locked.get(path)
            ]
            yield compared(name, wrong, locked, root, folder)


def compared(
    name: str, wrong: list[str], locked: dict[str, str], root: Path, folder: Path
) -> Check:
    """Return the check of a stage of whose outputs some have other bytes than dvc.lock says.

    Where only last bits differ, the published files take the place of those made again, so that
    later stages are compared on the same inputs.
    """
    far = [
        path
        for path in wrong
        if not (root / path).exists()
        or dvc_md5(root / path) != locked.get(path)
        or not close(folder / path, root / path)
    ]
    if far:
        return Check(name, DIFFERS, ", ".join(far))
    for path in wrong:
        if (root / path).is_dir():
            shutil.copytree(root / path, folder / path, dirs_exist_ok=True)
        else:
            shutil.copy(root / path, folder / path)
    if wrong:
        said = f"numbers differ by less than {RELATIVE:g} of their size: {', '.join(wrong)}"
        return Check(name, WITHIN, said)
    return Check(name, REPRODUCED)


def copy_inputs(stage: Declared, root: Path, folder: Path) -> None:
    """Copy the inputs of a stage that are missing in the folder, except code."""
    for dep in stage.deps:
        path = root / dep
        if dep.startswith(("src/", "stages/")):
            continue
        for source in filter(Path.is_file, path.rglob("*")) if path.is_dir() else [path]:
            target = folder / source.relative_to(root)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def retrain(cell: str, root: Path) -> Check:
    """Train a cell again in an empty folder and compare its probabilities and losses."""
    what = f"training of {cell}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [*map(str, (*paths.STUDY, paths.PIPELINE)), *tracked_files(root, "src", "stages")]
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
        for name in ("data/features", "data/split", "data/hpo"):
            shutil.copytree(root / name, folder / name)
        command = [sys.executable, "stages/train.py", cell]
        # checkpoints go to this folder too, so that no other training is resumed
        code = subprocess.run(
            command, cwd=folder, env=os.environ | {"DVC_ROOT": temporary}, check=False
        ).returncode
        if code:
            return Check(
                what,
                UNAVAILABLE if code == Stopped.exit_code else DIFFERS,
                f"it ended with exit code {code}",
            )
        mine, theirs = (read_arrow(base / paths.predictions(cell)) for base in (folder, root))
        if mine.equals(theirs):
            return Check(what, REPRODUCED, "bit for bit")
        losses = [read_json(base / paths.train_metrics(cell)) for base in (folder, root)]
        gap = abs(losses[0]["val"]["log_loss"] - losses[1]["val"]["log_loss"])
        furthest = float(abs(mine["p"] - theirs["p"]).max())
        return Check(
            what,
            WITHIN if gap <= RETRAIN_TOLERANCE else DIFFERS,
            f"validation log-loss differs by {gap:.4f}, allowed {RETRAIN_TOLERANCE:g}; "
            f"probabilities by up to {furthest:.3f}",
        )
