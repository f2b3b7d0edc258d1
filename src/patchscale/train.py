"""The training loop: AdamW, warm-up and cosine, early stopping, best weights reloaded."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from patchscale.cell import Inputs
from patchscale.checkpoint import load_state, save_state
from patchscale.errors import InputError, Stopped
from patchscale.model import PatchTST, predict_proba
from patchscale.windows import Windows

FLOOR_LR = 0.1
PROBE_STEPS = 3


@dataclass(frozen=True)
class Settings:
    """Everything the loop consumes, besides data, model shape and seed."""

    lr: float
    weight_decay: float
    warmup_steps: int
    epochs: int
    batch_size: int
    patience: int
    min_delta: float
    clip: float


@dataclass(frozen=True)
class Trained:
    """A model with its best epoch's weights, and how it got there."""

    model: PatchTST
    best_epoch: int
    history: list[dict[str, float]]


def learning_rate(step: int, total: int, settings: Settings) -> float:
    """Return the rate of optimiser step `step` (from 0): linear warm-up, then cosine to 10 %."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    after = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, after)))
    return settings.lr * (FLOOR_LR + (1 - FLOOR_LR) * cosine)


def make_optimizer(model: PatchTST, settings: Settings) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only, not on biases, norms and positions."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        decayed = parameter.ndim >= 2 and name != "positions"
        (matrices if decayed else others).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Return the batches of an epoch: a permutation that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.split(torch.randperm(samples, generator=generator), batch_size)


def train(
    inputs: Inputs,
    settings: Settings,
    seed: int,
    state_path: Path,
    *,
    max_hours: float = math.inf,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Trained:
    """Train one replicate; resume it where `state_path` holds its state.

    Parameters
    ----------
    inputs
        Model shape, windows, and samples; early stopping reads validation log-loss.
    settings
        Loop settings.
    seed
        Seeds weights, batches and dropout.
    state_path
        Where the state of every finished epoch is kept until the run is done.
    max_hours
        Longest run that may start.
    report
        Receives one line an epoch.

    Raises
    ------
    InputError
        The first steps show that all epochs would take longer than `max_hours`.
    Stopped
        SIGINT or SIGTERM came; all finished epochs are kept.
    """
    torch.manual_seed(seed)
    model = PatchTST(inputs.shape)
    optimizer = make_optimizer(model, settings)
    per_epoch = math.ceil(len(inputs.train.rows) / settings.batch_size)
    total = per_epoch * settings.epochs
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    state = load_state(state_path)
    if state is None:
        _refuse_if_long(model, inputs, settings, max_hours)
    else:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        history, best = state["history"], state["best"]
        report(f"resumed after epoch {len(history)}")

    with _stop_requests() as stopped:
        while len(history) < settings.epochs and not _exhausted(history, settings):
            epoch, started = len(history), time.monotonic()
            model.train()
            losses = torch.zeros(per_epoch)
            batches = epoch_batches(len(inputs.train.rows), settings.batch_size, seed, epoch)
            for number, batch in enumerate(batches):
                rate = learning_rate(epoch * per_epoch + number, total, settings)
                losses[number] = _step(model, optimizer, inputs, batch, rate, settings.clip)
                if stopped():
                    raise Stopped(f"stopped; {epoch} epochs are kept, the same command resumes")
            val_logits = predict_logits(model, inputs.windows, inputs.val.rows)
            val_loss = log_loss(val_logits, inputs.val.labels)
            if not math.isfinite(val_loss):
                raise FloatingPointError(f"training diverged in epoch {epoch + 1}")
            sizes = torch.tensor([float(len(batch)) for batch in batches])
            train_loss = float((losses * sizes).sum() / sizes.sum())
            if val_loss < min((past["val_log_loss"] for past in history), default=math.inf):
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            history.append({"train_log_loss": train_loss, "val_log_loss": val_loss})
            save_state(
                state_path,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                    "history": history,
                    "best": best,
                },
            )
            left = (settings.epochs - len(history)) * (time.monotonic() - started) / 60
            report(
                f"epoch {len(history)}/{settings.epochs}  train {train_loss:.4f}  "
                f"val {val_loss:.4f}  at most {left:.1f} min left"
            )
    model.load_state_dict(best)
    values = [past["val_log_loss"] for past in history]
    return Trained(model, values.index(min(values)) + 1, history)


def predict_logits(model: PatchTST, windows: Windows, rows: Tensor) -> Tensor:
    """Return logits in evaluation mode; `(n,) rows -> (n,)`."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(windows(part)) for part in torch.split(rows, 256)])


def predict(model: PatchTST, windows: Windows, rows: Tensor) -> Tensor:
    """Return probabilities in evaluation mode; `(n,) rows -> (n,)`."""
    return predict_proba(predict_logits(model, windows, rows))


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean log-loss of logits."""
    return float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))


def _step(
    model: PatchTST,
    optimizer: torch.optim.AdamW,
    inputs: Inputs,
    batch: Tensor,
    rate: float,
    clip: float,
) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = _loss(model, inputs, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.detach()


def _loss(model: PatchTST, inputs: Inputs, batch: Tensor) -> Tensor:
    logits = model(inputs.windows(inputs.train.rows[batch]))
    return F.binary_cross_entropy_with_logits(logits, inputs.train.labels[batch])


def _exhausted(history: list[dict[str, float]], settings: Settings) -> bool:
    """Tell whether the last `patience` epochs brought no gain above `min_delta`."""
    values = [past["val_log_loss"] for past in history]
    if len(values) <= settings.patience:
        return False
    recent = min(values[-settings.patience :])
    return recent > min(values[: -settings.patience]) - settings.min_delta


def refuse_if_large(n_params: int) -> None:
    """Raise InputError where weights, gradients, AdamW and the best copy exceed free memory."""
    needed, free = 20 * n_params / 2**30, psutil.virtual_memory().available / 2**30
    if needed > free:
        raise InputError(
            f"{n_params:,} parameters need {needed:.1f} GiB to train in fp32, {free:.1f} GiB of "
            f"memory are free here"
        )


def _refuse_if_long(model: PatchTST, inputs: Inputs, settings: Settings, max_hours: float) -> None:
    """Time forward and backward on a few batches and raise if all epochs would take too long."""
    state = torch.get_rng_state()
    steps = settings.epochs * math.ceil(len(inputs.train.rows) / settings.batch_size)
    probe = torch.arange(min(settings.batch_size, len(inputs.train.rows)))
    hours = math.inf
    for _ in range(PROBE_STEPS):  # the first one also warms up: the fastest counts
        if hours <= max_hours:
            break
        started = time.monotonic()
        _loss(model, inputs, probe).backward()  # type: ignore[no-untyped-call]
        hours = min(hours, (time.monotonic() - started) * steps / 3600)
    model.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    if hours > max_hours:
        raise InputError(
            f"{settings.epochs} epochs would take up to {hours:.1f} h here, the limit is "
            f"{max_hours:g} h; allow it with PATCHSCALE_MAX_HOURS={math.ceil(hours)}"
        )


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag that the loop asks for."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda signum, _: caught.append(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
