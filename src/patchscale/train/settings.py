"""Settings of a training on this machine."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from patchscale.study.params import Best, Precision, Train
from patchscale.study.stage import may_compile
from patchscale.train.device import can_compile, leave_unwritable_cache

STEPS_WORTH_COMPILING = 300
"""Compiling takes 8 to 14 s the first time and saves 0.1 s a step of the smallest models."""


@dataclass(frozen=True)
class Settings:
    """Settings of the training loop, besides data, model shape and seed."""

    lr: float
    weight_decay: float
    warmup_steps: int
    epochs: int
    batch_size: int
    patience: int
    min_delta: float
    clip: float
    precision: Precision = "32-true"
    device: str = "cpu"
    compiled: bool = False
    """Whether layers are compiled by torch.compile."""


def chosen_settings(best: Best, rules: Train, precision: Precision) -> dict[str, Any]:
    """Return the settings of a training that are the same on every machine."""
    return {
        **best.model_dump(include={"lr", "weight_decay", "warmup_steps", "epochs"}),
        **rules.model_dump(include={"batch_size", "patience", "min_delta", "clip"}),
        "precision": precision,
    }


def settings_for(
    best: Best, rules: Train, precision: Precision, samples: int, processes: int = 1
) -> Settings:
    """Return the settings of a training over `samples` samples on this machine.

    Layers are compiled where there are enough steps to repay the compilation, where one process
    trains, and where compiling works. The settings say whether they are.
    """
    leave_unwritable_cache()
    device = device_of_this_machine()
    steps = best.epochs * math.ceil(samples / rules.batch_size)
    return Settings(
        **chosen_settings(best, rules, precision),
        device=device,
        compiled=processes == 1 and worth_compiling(steps, device),
    )


def device_of_this_machine() -> str:
    """Return the first available device of `cuda`, `mps` and `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def worth_compiling(steps: int, device: str) -> bool:
    """Tell whether `steps` repay torch.compile, and whether it is allowed and works here."""
    pays = steps >= STEPS_WORTH_COMPILING and device in ("cpu", "cuda")
    return pays and may_compile() and can_compile(device)
