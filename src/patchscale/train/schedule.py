"""Learning rates, batches and early stopping of a training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from patchscale.train.settings import Settings


def learning_rate(step: int, total: int, settings: Settings) -> float:
    """Return the rate of optimiser step `step` (from 0): linear warm-up, then cosine to zero.

    The warm-up is the share `settings.warmup` of all `total` steps.
    """
    warmup = max(1, round(settings.warmup * total))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / (total + 1 - warmup)))


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Return the batches of an epoch: a permutation that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.split(torch.randperm(samples, generator=generator), batch_size)


def best_epoch(losses: Sequence[float]) -> int:
    """Return the epoch, from 1, of the lowest validation log-loss, the first where several tie."""
    return losses.index(min(losses)) + 1


def patience_ended(losses: Sequence[float], patience: int, min_delta: float) -> bool:
    """Tell whether the last `patience` epochs brought no gain above `min_delta`; 0 never ends."""
    if not patience or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience]) - min_delta
