"""A small study with dvc.yaml, scripts that git tracks, outputs and their dvc.lock."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from patchscale.verify.pipeline import declared_stages
from patchscale.verify.records import entry_of

PIPELINE = """\
vars:
- grid.yaml
stages:
  check:
    cmd: python stages/check.py
    deps:
    - stages/check.py
    outs:
    - data/checked
  train:
    foreach: ${cells}
    do:
      cmd: python stages/train.py
      deps:
      - data/checked
      - src/code
      - stages/train.py
      params:
      - split
      outs:
      - data/${item}.csv
      - models/${item}
      metrics:
      - metrics/${item}.json:
          cache: false
"""
SCRIPT = """\
from pathlib import Path


def main(cell: str = "") -> None:
    Path("data").mkdir(exist_ok=True)
    if not cell:
        Path("data/checked").write_text("checked")
        return
    for folder in (f"models/{cell}", "metrics"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path(f"data/{cell}.csv").write_text(f"date,close,{cell}")
    Path(f"models/{cell}/seed0").write_text(f"weights of {cell}")
    Path(f"metrics/{cell}.json").write_text("{}")
"""


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def track(root: Path) -> None:
    """Make a git repository that tracks the scripts."""
    (root / "stages").mkdir(exist_ok=True)
    for command in (["init", "-q"], ["add", "stages"]):
        subprocess.run(["git", *command], cwd=root, check=True)


def small_study(root: Path) -> Path:
    """Write the study, its outputs and its cached objects into a folder."""
    files = {
        "dvc.yaml": PIPELINE,
        "params.yaml": "split:\n  block: 60\n  share: 1.0\n",
        "grid.yaml": "cells:\n- 2M-h1\n- 2M-h3\n",
        "src/code/a.py": "code",
        "stages/check.py": SCRIPT,
        "stages/train.py": SCRIPT,
        "data/checked": "checked",
    }
    for cell in ("2M-h1", "2M-h3"):
        files[f"data/{cell}.csv"] = f"date,close,{cell}"
        files[f"models/{cell}/seed0"] = f"weights of {cell}"
        files[f"metrics/{cell}.json"] = "{}"
    for name, content in files.items():
        write(root / name, content.encode())
        if name.startswith(("data/", "models/")):
            write(cache_of(root, md5(content.encode())), content.encode())
        if name.startswith("models/"):
            listing = [{"md5": md5(content.encode()), "relpath": "seed0"}]
            text = json.dumps(listing).encode()
            write(cache_of(root, f"{md5(text)}.dir"), text)
    track(root)
    return root


def cache_of(root: Path, name: str) -> Path:
    """Return the path of a cached object."""
    return root / ".dvc/cache/files/md5" / name[:2] / name[2:]


def lock_of(root: Path) -> dict[str, Any]:
    """Return the stages of the dvc.lock that DVC would write."""
    return {
        name: {
            "cmd": stage.command,
            "deps": [entry_of(path, root) for path in sorted(stage.deps)],
            "params": stage.params,
            "outs": [entry_of(path, root) for path in sorted(stage.outs)],
        }
        for name, stage in declared_stages(root).items()
    }


def write_lock(root: Path, stages: dict[str, Any]) -> Path:
    """Write dvc.lock."""
    content = json.loads(json.dumps({"schema": "2.0", "stages": stages}))  # no alias
    text = yaml.safe_dump(content, sort_keys=False)
    return write(root / "dvc.lock", text.encode())
