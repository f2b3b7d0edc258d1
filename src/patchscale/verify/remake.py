"""Make results again and compare them with those that dvc.lock holds."""

import contextlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchscale.study import paths
from patchscale.study.errors import Stopped
from patchscale.study.files import digest, read_arrow, read_json
from patchscale.study.lock import dvc_md5
from patchscale.study.params import load_best, load_params
from patchscale.verify.records import DIFFERS, REPRODUCED, UNAVAILABLE, WITHIN, Check, command

DATA_STAGES = ("check", "download", "features", "split")
JUDGING_STAGES = ("baselines", "backtest", "headline", "report")
TOLERANCE = 1e-4
"""Largest difference of a probability between machines; the same machine gives zero."""
RETRAIN_TOLERANCE = 0.005
"""Largest difference of a cell's validation log-loss where other bits were trained: ten times what
one or two threads and bfloat16 or float32 make of 2M-h1 (at most 0.0004 a seed; docs/LOG.md)."""


def regenerate(
    stages: dict[str, Any], root: Path, kinds: tuple[str, ...] = DATA_STAGES
) -> Iterator[Check]:
    """Run stages of some kinds, in that order, in an empty folder and compare every byte.

    Their other inputs are copied from the workspace. The stages run in this process, because
    starting processes would take longer than the work.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in filter(Path.is_file, map(root.joinpath, paths.STUDY)):
            shutil.copy(file, folder)
        if (root / paths.INPUTS).is_dir():
            shutil.copytree(root / paths.INPUTS, folder / paths.INPUTS)
        chosen = {
            name: kinds.index(kind) for name in stages if (kind := name.partition("@")[0]) in kinds
        }
        for name in sorted(chosen, key=chosen.__getitem__):
            stage = stages[name]
            _, script, *words = command(name).split()  # no word of dvc.lock says what is run
            main = runpy.run_path(str(root / script))["main"]
            try:
                copy_inputs(stage, root, folder)
                with contextlib.chdir(folder):
                    main(*words)
            except (
                Stopped
            ) as stopped:  # the source cannot be reached: continue with the bars of the workspace
                yield Check(name, UNAVAILABLE, str(stopped))
                for out in stage["outs"]:
                    if (root / out["path"]).is_dir():
                        shutil.copytree(root / out["path"], folder / out["path"])
                continue
            except FileNotFoundError as error:
                yield Check(name, UNAVAILABLE, f"{error.filename} is missing")
                continue
            except Exception as error:
                yield Check(name, DIFFERS, f"{type(error).__name__}: {error}")
                continue
            wrong = [o["path"] for o in stage["outs"] if dvc_md5(folder / o["path"]) != o["md5"]]
            yield Check(name, DIFFERS if wrong else REPRODUCED, ", ".join(wrong))


def copy_inputs(stage: dict[str, Any], root: Path, folder: Path) -> None:
    """Copy the inputs of a stage that are missing in the folder, except code."""
    for dep in stage.get("deps", []):
        path = root / dep["path"]
        if dep["path"].startswith(("src/", "stages/")):
            continue
        for source in filter(Path.is_file, path.rglob("*")) if path.is_dir() else [path]:
            target = folder / source.relative_to(root)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def recompute(stages: dict[str, Any], root: Path) -> Iterator[Check]:
    """Predict with the published weights of each trained cell's first seed and compare."""
    for cell in trained_cells(stages, root):
        if not (root / paths.published_weights(cell, 0)).is_file():
            published = f"weights@{cell}" in stages
            why = "here; `dvc pull` brings them" if published else "published"
            yield Check(f"probabilities of {cell}", UNAVAILABLE, f"its weights are not {why}")
            continue
        worst = prediction_gap(cell, root)
        verdict = DIFFERS if worst > TOLERANCE else WITHIN if worst > 0 else REPRODUCED
        detail = "" if worst == 0 else f"largest difference {worst:.1e}, allowed {TOLERANCE:g}"
        yield Check(f"probabilities of {cell}", verdict, detail)


def prediction_gap(cell: str, root: Path) -> float:
    """Return the largest absolute difference from the stored probabilities of the first seed."""
    import torch

    from patchscale.model.patchtst import predict
    from patchscale.model.weights import load_model
    from patchscale.train.inputs import read_inputs

    params = load_params(root)
    card = read_json(root / paths.card(cell))
    torch.set_num_threads(card["threads"])
    best = load_best(params, cell, root)
    inputs = read_inputs(params, cell, best, root=root)
    stored = read_arrow(root / paths.predictions(cell))
    first = card["replicates"][0]
    weights = root / paths.published_weights(cell, first["seed"])
    if digest(weights) != first["sha256"]:
        return float("inf")
    p = predict(load_model(weights, inputs.shape), inputs.windows, inputs.judged_rows)
    return float(abs(p.double().numpy() - stored[f"p_seed{first['seed']}"].to_numpy()).max())


def retrain(cell: str, root: Path) -> Check:
    """Train a cell again in an empty folder and compare its probabilities and losses."""
    what = f"training of {cell}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in (
            "params.yaml",
            "grid.yaml",
            "space.yaml",
            "dvc.yaml",
            "src",
            "stages",
            "data/features",
            "data/split",
            "data/hpo",
        ):
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(root / name, folder / name)
        command = [sys.executable, "stages/train.py", cell]
        # checkpoints go to this folder too, so that no other training is resumed
        code = subprocess.run(
            command, cwd=folder, env=os.environ | {"DVC_ROOT": temporary}, check=False
        ).returncode
        if code:
            return Check(
                what, UNAVAILABLE if code == 75 else DIFFERS, f"it ended with exit code {code}"
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


def trained_cells(stages: dict[str, Any], root: Path) -> list[str]:
    """Return the trained cells, by their cards."""
    cells = [name.partition("@")[2] for name in stages if name.startswith("train@")]
    cards = {cell: root / paths.card(cell) for cell in cells}
    return [cell for cell, card in cards.items() if card.is_file() and read_json(card)["trained"]]
