"""Save and resume a training run, atomically; weights without pickle."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from patchscale.files import digest, replacing


def fingerprint(settings: Mapping[str, Any], inputs: list[Path]) -> str:
    """Return what a run is a function of: settings and the bytes of its inputs and its code."""
    text = json.dumps([settings, [digest(path) for path in inputs]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def resume_path(name: str) -> Path:
    """Return where a run keeps its state: outside DVC's outputs, which DVC deletes first."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / f"{name}.pt"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state under its final name only when complete."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any] | None:
    """Return a run's state, or None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights in float16, without metadata: equal weights are equal bytes.

    Half the size moves a probability by at most 0.0002 (docs/decisions.md); who predicts loads
    what was written.
    """
    with replacing(path) as temporary:
        save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, temporary)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights written by `save_weights`."""
    return dict(load_file(path))
