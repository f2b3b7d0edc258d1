"""A model and its optimiser on a device: optimiser steps, validation, state, and timing."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchscale.model.patchtst import PatchTST, predict_logits
from patchscale.model.weights import build
from patchscale.train import memory
from patchscale.train.inputs import Inputs
from patchscale.train.memory import Plan
from patchscale.train.optim import full_tensor, make_optimizer
from patchscale.train.settings import Settings

PROBE_SAMPLES = 32
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def whole_model(inputs: Inputs, settings: Settings, seed: int) -> PatchTST:
    """Return a model with all its weights, drawn for `seed`, on the device."""
    rate = inputs.train.base_rate
    return build(inputs.shape, settings.precision, seed, rate).to(settings.device)


@dataclass(frozen=True)
class Parallel:
    """How the processes of one training divide it; by default one process does everything."""

    make_model: Callable[[Inputs, Settings, int], PatchTST] = whole_model
    micro_batches: Callable[[Tensor, int], Sequence[Tensor]] = torch.split
    """Return the micro-batches of this process, given a batch and their largest size."""
    all_reduce: Callable[[Tensor], None] = lambda total: None
    """Replace a sum over this process's samples by the sum over all, in place."""
    seed_step: Callable[[int, int], None] | None = None
    """Seed the dropout of a step, given the training's seed and the steps made."""


ALONE = Parallel()


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean log-loss of logits, nats."""
    return float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))


class Engine:
    """A model with its optimiser.

    Parameters
    ----------
    inputs
        Model shape, windows and samples.
    settings
        Precision, device, batch size, clipping, optimiser.
    seed
        Seed of weights and dropout. The global generator continues from it.
    parallel
        How the processes of this training divide it.
    """

    def __init__(
        self, inputs: Inputs, settings: Settings, seed: int, parallel: Parallel = ALONE
    ) -> None:
        self.inputs, self.settings, self.seed, self.parallel = inputs, settings, seed, parallel
        self.model = parallel.make_model(inputs, settings, seed)
        self.optimizer = make_optimizer(self.model, settings.lr, settings.weight_decay)
        self.micro_batch = settings.batch_size
        if settings.compiled:
            for layer in self.model.layers:
                layer.compile(dynamic=False)

    def choose(self, free: int, tried: list[Plan]) -> Plan:
        """Return the best plan that fits into `free` bytes; raise InputError where none does."""
        rows = self.inputs.train.rows
        with self._without_side_effects(), self._compiled(False), self._autocast():
            return memory.choose(
                self.model,
                lambda n: self.inputs.windows(rows[:n]).to(self.settings.device),
                min(self.settings.batch_size, len(rows)),
                self.settings.precision,
                free,
                tried,
            )

    def follow(self, plan: Plan) -> None:
        """Use the micro-batch and the recomputation of a plan from now on."""
        self.micro_batch, self.model.recompute = plan.micro_batch, plan.recompute

    def step(self, batch: Tensor, rate: float) -> Tensor:
        """Make an optimiser step over the training samples of a batch; `(n,) -> ()`.

        Returns
        -------
        The mean loss of the batch, or NaN where its gradient is not finite. The weights are not
        finite then either.
        """
        device, train = self.settings.device, self.inputs.train
        if self.parallel.seed_step:
            self.parallel.seed_step(self.seed, self._steps_made())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for part in self.parallel.micro_batches(batch, self.micro_batch):
            # a compiled layer is compiled for one size; a smaller micro-batch runs uncompiled
            with self._compiled(len(part) == self.micro_batch):
                with self._autocast():
                    logits = self.model(self.inputs.windows(train.rows[part]).to(device))
                labels = train.labels[part].to(device)
                loss = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum")
                loss = loss / len(batch)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.parallel.all_reduce(total)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        return torch.where(full_tensor(norm).isfinite(), total, math.nan)

    def _steps_made(self) -> int:
        return int(self.optimizer.state[next(self.model.parameters())]["step"])

    def validate(self) -> float:
        """Return the validation log-loss, nats."""
        inputs = self.inputs
        with self._compiled(False), self._autocast():
            rows = inputs.val.rows
            logits = predict_logits(self.model, inputs.windows, rows, self.settings.device)
        return log_loss(logits, inputs.val.labels)

    def time_step(self, most: float) -> float:
        """Return the measured seconds of an uncompiled step.

        Where 32 samples already take longer than `most`, their time is returned.
        """
        rows = self.inputs.train.rows
        batch = min(self.settings.batch_size, len(rows))
        whole = min(self.micro_batch, batch)
        with self._without_side_effects():
            seconds = self._time(rows[: min(PROBE_SAMPLES, whole)])
            return seconds if seconds > most else self._time(rows[:whole]) * batch / whole

    def hours(self, steps: int, limit: float) -> float:
        """Return the expected hours of `steps`; a lower bound where they exceed `limit`."""
        bare = self._bare_products() * steps / 3600
        return bare if bare > limit else self.time_step(limit * 3600 / steps) * steps / 3600

    def _bare_products(self) -> float:
        """Return the seconds of the products of a step, 6 N FLOP a token, by timing one of them.

        It tells within seconds that a step would take an hour.
        """
        shape, device = self.inputs.shape, self.settings.device
        kind = torch.bfloat16 if self._in_bfloat16 else torch.float32
        tokens = min(self.settings.batch_size, len(self.inputs.train.rows)) * shape.n_patches
        left = torch.ones(tokens, shape.d_model, dtype=kind, device=device)
        right = torch.ones(shape.d_ff, shape.d_model, dtype=kind, device=device)
        seconds = math.inf
        for _ in range(2):  # the first one may have to load a library
            started = time.perf_counter()
            float(F.linear(left, right)[0, 0])
            seconds = min(seconds, time.perf_counter() - started)
        return seconds * 3 * shape.n_params / (shape.d_model * shape.d_ff)

    def _time(self, rows: Tensor) -> float:
        with self._compiled(False):
            with self._autocast():
                x = self.inputs.windows(rows).to(self.settings.device)
                started = time.perf_counter()
                loss = self.model(x).float().sum()
            loss.backward()
        float(loss.detach())  # waits until a GPU has finished
        return time.perf_counter() - started

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, moments and generator states by name."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state[parameter]
            tensors |= {f"optimizer.{key}.{name}": state[key] for key in MOMENTS}
        tensors["rng"] = torch.get_rng_state()
        if self.settings.device == "cuda":
            tensors["rng_cuda"] = torch.cuda.get_rng_state()
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned, as copies: the file behind them will be deleted."""
        for name, value in self.model.state_dict().items():
            value.copy_(tensors.pop(f"model.{name}"))
        for name, parameter in self.model.named_parameters():
            state = {key: tensors.pop(f"optimizer.{key}.{name}").clone() for key in MOMENTS}
            self.optimizer.state[parameter] = state
        torch.set_rng_state(tensors["rng"].cpu())
        if "rng_cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng_cuda"].cpu())

    @contextmanager
    def _without_side_effects(self) -> Iterator[None]:
        """Restore generators and gradients after trial passes in training mode."""
        self.model.train()
        with torch.random.fork_rng([0] if self.settings.device == "cuda" else []):
            yield
        self.model.zero_grad(set_to_none=True)

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=self._in_bfloat16)

    @property
    def _in_bfloat16(self) -> bool:
        return self.settings.precision != "32-true" and not self.settings.in_float32

    def _compiled(self, wanted: bool) -> AbstractContextManager[None]:
        """Run layers compiled or, unless `wanted`, as written.

        Backward passes belong inside: recomputed layers must run as in the forward pass.
        """
        if wanted or not self.settings.compiled:
            return nullcontext()
        stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return stance
