"""Check on this machine that dvc.lock's results are what the code produces.

Three questions, each answered by a table row: do the files have the hashes of dvc.lock; does the
code regenerate data, features and splits byte for byte; do the published weights give the
published probabilities.

    python -m patchscale.verify            all of them
    python -m patchscale.verify --quick    without the re-hashing, as `dev.py repro` does it
"""

import argparse
import contextlib
import hashlib
import json
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from patchscale import config, paths
from patchscale.errors import InputError, Stopped
from patchscale.files import digest
from patchscale.stage import run

REGENERATED = ("check", "download", "features", "split")
TOLERANCE = 1e-4
"""Largest difference of a probability between machines; the same machine gives zero."""

REPRODUCED = "reproduced"
WITHIN = "within tolerance"
DIFFERS = "differs"
UNAVAILABLE = "not available"


@dataclass(frozen=True)
class Row:
    """One line of the verdict."""

    what: str
    verdict: str
    detail: str = ""


def locked_stages(lock: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock."""
    try:
        stages = yaml.load(lock.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["stages"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        stages = None
    if not isinstance(stages, dict):
        raise InputError(f"{lock}: missing or damaged; `git checkout {lock}` restores it")
    return stages


def dvc_md5(path: Path) -> str:
    """Return the hash DVC gives a file, or a directory (of its sorted listing)."""
    if path.is_file():
        return digest(path, "md5")
    return folder_md5(
        {
            file.relative_to(path).as_posix(): digest(file, "md5")
            for file in path.rglob("*")
            if file.is_file()
        }
    )


def folder_md5(files: dict[str, str]) -> str:
    """Return the hash DVC gives a directory, from the hashes of its files by relative path."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def hashes(stages: dict[str, Any], root: Path) -> Iterator[Row]:
    """Compare every output of dvc.lock with the file in the workspace."""
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            path = root / out["path"]
            if not path.exists():
                yield Row(
                    out["path"], UNAVAILABLE, f"of {name}; `dvc pull` brings what is published"
                )
            elif dvc_md5(path) != out["md5"]:
                yield Row(
                    out["path"], DIFFERS, f"from what {name} wrote; `dvc checkout` restores it"
                )
            else:
                yield Row(out["path"], REPRODUCED)


def regenerated(stages: dict[str, Any], root: Path) -> Iterator[Row]:
    """Run the stages up to the splits in an empty folder and compare every byte.

    In this process: eleven start-ups would take longer than the work.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(root / paths.PARAMS, folder)
        if (root / paths.INPUTS).is_dir():
            shutil.copytree(root / paths.INPUTS, Path(folder, paths.INPUTS))
        chosen = {
            name: REGENERATED.index(kind)
            for name in stages
            if (kind := name.partition("@")[0]) in REGENERATED
        }
        for name in sorted(chosen, key=chosen.__getitem__):
            stage = stages[name]
            _, script, *words = stage["cmd"].split()
            main = runpy.run_path(str(root / script))["main"]
            try:
                with contextlib.chdir(folder):
                    main(*words)
            except Stopped as stopped:  # the source is out of reach: go on from the bars at hand
                yield Row(name, UNAVAILABLE, str(stopped))
                for out in stage["outs"]:
                    if (root / out["path"]).is_dir():
                        shutil.copytree(root / out["path"], Path(folder, out["path"]))
                continue
            except Exception as error:
                yield Row(name, DIFFERS, f"{type(error).__name__}: {error}")
                continue
            same = all(dvc_md5(Path(folder, o["path"])) == o["md5"] for o in stage["outs"])
            yield Row(name, REPRODUCED if same else DIFFERS, "" if same else "from dvc.lock")


def recomputed(stages: dict[str, Any], root: Path) -> Iterator[Row]:
    """Predict with the published weights, of each cell's first seed, and compare."""
    for name in stages:
        kind, _, cell = name.partition("@")
        if kind != "weights":
            continue
        if not (root / paths.published_weights(cell, 0)).is_file():
            yield Row(f"probabilities of {cell}", UNAVAILABLE, "its weights are not here")
            continue
        worst = prediction_gap(cell, root)
        verdict = DIFFERS if worst > TOLERANCE else WITHIN if worst > 0 else REPRODUCED
        detail = "" if worst == 0 else f"largest difference {worst:.1e}, allowed {TOLERANCE:g}"
        yield Row(f"probabilities of {cell}", verdict, detail)


def prediction_gap(cell: str, root: Path) -> float:
    """Return the largest absolute difference from the stored probabilities of the first seed."""
    import torch

    from patchscale.cell import read_inputs
    from patchscale.checkpoint import load_model
    from patchscale.files import read_arrow, read_json
    from patchscale.model import predict

    params = config.load_params(root / paths.PARAMS)
    card = read_json(root / paths.card(cell))
    torch.set_num_threads(card["threads"])
    best = config.load_best(root / paths.best(params.cells[cell].search))
    inputs = read_inputs(params, cell, best, root=root)
    stored = read_arrow(root / paths.predictions(cell))
    first = card["replicates"][0]
    weights = root / paths.published_weights(cell, first["seed"])
    if digest(weights) != first["sha256"]:
        return float("inf")
    p = predict(load_model(weights, inputs.shape), inputs.windows, inputs.judged_rows)
    return float(abs(p.double().numpy() - stored[f"p_seed{first['seed']}"].to_numpy()).max())


def main(*words: str) -> None:
    """Print the verdict; exit 1 where anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m patchscale.verify",
        description="Check that dvc.lock's results are what the code produces.",
    )
    parser.add_argument("--quick", action="store_true", help="do not re-hash every output")
    quick = parser.parse_args(words).quick
    root = Path.cwd()
    stages = locked_stages(root / "dvc.lock")
    rows: list[Row] = []
    for part in (regenerated, recomputed) if quick else (hashes, regenerated, recomputed):
        for row in part(stages, root):
            rows.append(row)
            if row.verdict != REPRODUCED:
                print(f"{row.verdict:<17} {row.what}  {row.detail}")
    counts = {
        verdict: sum(row.verdict == verdict for row in rows)
        for verdict in (REPRODUCED, WITHIN, DIFFERS, UNAVAILABLE)
    }
    print("verify: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts[DIFFERS]:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
