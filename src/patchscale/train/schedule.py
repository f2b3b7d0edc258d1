"""Learning rates, batches and early stopping of a training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from patchscale.train.settings import Settings

FLOOR_LR = 0.1


def learning_rate(step: int, total: int, settings: Settings) -> float:
    """Return the rate of optimiser step `step` (from 0): linear warm-up, then cosine to 10 %."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    after = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, after)))
    return settings.lr * (FLOOR_LR + (1 - FLOOR_LR) * cosine)


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Return the batches of an epoch: a permutation that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.split(torch.randperm(samples, generator=generator), batch_size)


def best_epoch(losses: Sequence[float]) -> int:
    """Return the epoch, from 1, of the lowest validation log-loss, the first where several tie."""
    return losses.index(min(losses)) + 1


def patience_ended(losses: Sequence[float], patience: int, min_delta: float) -> bool:
    """Tell whether the last `patience` epochs brought no gain above `min_delta`."""
    if len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience]) - min_delta
