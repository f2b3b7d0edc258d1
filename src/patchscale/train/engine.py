"""Model and optimiser on a device: how one batch is brought through them, in any precision."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchscale.model.patchtst import predict_logits
from patchscale.model.weights import build
from patchscale.train import memory
from patchscale.train.inputs import Inputs
from patchscale.train.memory import Plan
from patchscale.train.optim import make_optimizer
from patchscale.train.settings import Settings

PROBE_SAMPLES = 32
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean log-loss of logits, nats."""
    return float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))


class Engine:
    """Makes the optimiser steps of a run, and tries what a step takes.

    Parameters
    ----------
    inputs
        Model shape, windows and samples.
    settings
        Precision, device, batch size, clipping, optimiser.
    seed
        Seeds weights and dropout; the generator's state goes on from here.
    """

    def __init__(self, inputs: Inputs, settings: Settings, seed: int) -> None:
        self.inputs, self.settings = inputs, settings
        self.model = build(inputs.shape, settings.precision, seed).to(settings.device)
        self.optimizer = make_optimizer(self.model, settings.lr, settings.weight_decay)
        self.micro_batch = settings.batch_size
        if settings.compiled:
            for layer in self.model.layers:
                layer.compile(dynamic=False)

    def choose(self, free: int, tried: list[Plan]) -> Plan:
        """Return the best plan that fits into `free` bytes; raise InputError where none does."""
        rows = self.inputs.train.rows
        with self._leaving_no_trace(), self._compiled(False), self._autocast():
            return memory.choose(
                self.model,
                lambda n: self.inputs.windows(rows[:n]).to(self.settings.device),
                min(self.settings.batch_size, len(rows)),
                self.settings.precision,
                free,
                tried,
            )

    def follow(self, plan: Plan) -> None:
        """Bring batches through as planned from now on."""
        self.micro_batch, self.model.recompute = plan.micro_batch, plan.recompute

    def step(self, batch: Tensor, rate: float) -> Tensor:
        """Make an optimiser step over training samples `batch` (n,).

        Return their mean loss, NaN where its gradient is not finite: then weights are not either.
        """
        device, train = self.settings.device, self.inputs.train
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for part in torch.split(batch, self.micro_batch):
            # a compiled layer is compiled for one size; the rest of an epoch goes without
            with self._compiled(len(part) == self.micro_batch):
                with self._autocast():
                    logits = self.model(self.inputs.windows(train.rows[part]).to(device))
                labels = train.labels[part].to(device)
                loss = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum")
                loss = loss / len(batch)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        return torch.where(norm.isfinite(), total, math.nan)

    def validate(self) -> float:
        """Return the validation log-loss, nats."""
        inputs = self.inputs
        with self._compiled(False), self._autocast():
            rows = inputs.val.rows
            logits = predict_logits(self.model, inputs.windows, rows, self.settings.device)
        return log_loss(logits, inputs.val.labels)

    def time_step(self, most: float) -> float:
        """Return seconds of an uncompiled step, tried; less is tried where that exceeds `most`."""
        rows = self.inputs.train.rows
        batch = min(self.settings.batch_size, len(rows))
        whole = min(self.micro_batch, batch)
        with self._leaving_no_trace():
            seconds = self._time(rows[: min(PROBE_SAMPLES, whole)])
            return seconds if seconds > most else self._time(rows[:whole]) * batch / whole

    def hours(self, steps: int, limit: float) -> float:
        """Return the hours of so many steps by a tried one, roughly where they exceed `limit`."""
        return self.time_step(limit * 3600 / steps) * steps / 3600

    def _time(self, rows: Tensor) -> float:
        with self._compiled(False):
            with self._autocast():
                x = self.inputs.windows(rows).to(self.settings.device)
                started = time.perf_counter()
                loss = self.model(x).float().sum()
            loss.backward()
        float(loss.detach())  # a GPU has finished only now
        return time.perf_counter() - started

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, moments and generators by name."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state[parameter]
            tensors |= {f"optimizer.{key}.{name}": state[key] for key in MOMENTS}
        tensors["rng"] = torch.get_rng_state()
        if self.settings.device == "cuda":
            tensors["rng_cuda"] = torch.cuda.get_rng_state()
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` returned; copied, for the file it is mapped from will go."""
        for name, value in self.model.state_dict().items():
            value.copy_(tensors.pop(f"model.{name}"))
        for name, parameter in self.model.named_parameters():
            state = {key: tensors.pop(f"optimizer.{key}.{name}").clone() for key in MOMENTS}
            self.optimizer.state[parameter] = state
        torch.set_rng_state(tensors["rng"].cpu())
        if "rng_cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng_cuda"].cpu())

    @contextmanager
    def _leaving_no_trace(self) -> Iterator[None]:
        """Let the model be tried in training mode: generators and gradients stay as they were."""
        self.model.train()
        with torch.random.fork_rng([0] if self.settings.device == "cuda" else []):
            yield
        self.model.zero_grad(set_to_none=True)

    def _autocast(self) -> AbstractContextManager[None]:
        mixed = self.settings.precision != "32-true"
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=mixed)

    def _compiled(self, wanted: bool) -> AbstractContextManager[None]:
        """Let layers run as compiled or, unless `wanted`, as written.

        Backward passes belong inside: there layers may be computed again, in the same way.
        """
        if wanted or not self.settings.compiled:
            return nullcontext()
        stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return stance
