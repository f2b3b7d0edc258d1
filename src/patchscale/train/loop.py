"""The training loop: a schedule that ends, the weights of its end, resumable at any step.

A run is a function of inputs, settings and seed. It saves its state after every epoch and every ten
minutes. A run that was killed at any moment resumes and ends with the same bits.
"""

import math
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from patchscale.study.errors import Diverged, Stopped, refuse_if_long
from patchscale.train import device, memory
from patchscale.train.callbacks import Callbacks, CheckpointStore
from patchscale.train.engine import ALONE, Engine, Parallel
from patchscale.train.inputs import Inputs
from patchscale.train.memory import Plan
from patchscale.train.schedule import best_epoch, epoch_batches, learning_rate, patience_ended
from patchscale.train.settings import Settings

CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class Trained:
    """Result of a run. The weights that it keeps are in its checkpoint."""

    kept_epoch: int
    """Epoch, from 1, whose weights are kept: the last one, or the best where patience is on."""
    history: list[dict[str, float]]
    """`train_log_loss` and `val_log_loss` of every epoch, nats."""
    plan: Plan
    rows: list[dict[str, float]]
    """What trackers log of every epoch: its history, and time, memory and temperature."""


@dataclass
class _State:
    """State of a run besides the tensors of the engine."""

    step: int = 0
    """Optimiser steps made."""
    seconds: float = 0.0
    """Time spent in the current epoch."""
    history: list[dict[str, float]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, str] = field(default_factory=dict)

    @property
    def losses(self) -> list[float]:
        """Validation log-loss of every epoch."""
        return [epoch["val_log_loss"] for epoch in self.history]


def train(
    inputs: Inputs,
    settings: Settings,
    seed: int,
    checkpoint: CheckpointStore,
    *,
    max_hours: float = math.inf,
    free: int | None = None,
    callbacks: Callbacks | None = None,
    parallel: Parallel = ALONE,
) -> Trained:
    """Train one replicate, or resume it where `checkpoint` holds its state.

    Parameters
    ----------
    inputs
        Model shape, windows, and samples; early stopping reads validation log-loss.
    settings
        Loop settings.
    seed
        Seeds weights, batches and dropout.
    checkpoint
        Where the run keeps its state.
    max_hours
        Longest run that may start, hours.
    free
        Memory budget in bytes; by default the available memory.
    callbacks
        What the run reports to and asks.
    parallel
        How the processes of this training divide it.

    Raises
    ------
    InputError
        The model does not fit into memory, or the first steps show that all epochs would take
        longer than `max_hours`.
    Stopped
        A stop was requested. Every step made is kept.
    Diverged
        A loss is not finite.
    """
    callbacks = callbacks or Callbacks()
    free = device.available(settings.device) if free is None else free
    memory.refuse_if_large(inputs.shape.n_params, settings.precision, free)
    tried: list[Plan] = []
    while True:
        run = _Run(inputs, settings, seed, checkpoint, callbacks, parallel)
        plan = run.choose(free, tried)
        try:
            return run.train(plan, max_hours)
        except RuntimeError as error:
            if not device.ran_out(error):
                raise
        callbacks.report(f"out of memory with {run.describe(plan)}")
        tried.append(plan)
        del run  # frees model and optimiser before the next attempt allocates its own
        device.release(settings.device)


class _Run:
    """One attempt at a run: engine and state, from the checkpoint or from the start."""

    def __init__(
        self,
        inputs: Inputs,
        settings: Settings,
        seed: int,
        checkpoint: CheckpointStore,
        callbacks: Callbacks,
        parallel: Parallel,
    ) -> None:
        self.inputs, self.settings, self.seed = inputs, settings, seed
        self.checkpoint, self.callbacks = checkpoint, callbacks
        self.per_epoch = math.ceil(len(inputs.train.rows) / settings.batch_size)
        self.total = self.per_epoch * settings.epochs
        self.losses = torch.zeros(self.per_epoch, device=settings.device)
        self.engine = Engine(inputs, settings, seed, parallel)
        self.plan: Plan | None = None
        self.compiling = settings.compiled
        self.state = _State()
        if kept := checkpoint.load(settings.device, callbacks.report, self._tensors):
            self._restore(*kept)

    def choose(self, free: int, tried: list[Plan]) -> Plan:
        """Return the memory plan of the run; a resumed run keeps its own."""
        if self.plan is not None and self.plan not in tried:
            return self.plan
        plan, shape = self.engine.choose(free, tried), self.inputs.shape
        self.callbacks.report(
            f"N = {shape.n_params:,}: {shape.d_model} wide, {shape.n_layers} layers, "
            f"{shape.n_heads} heads, d_ff {shape.d_ff}; {self.describe(plan)}; "
            f"{plan.expected / 2**30:.2g} GiB of memory expected, {free / 2**30:.3g} available"
        )
        return plan

    def describe(self, plan: Plan) -> str:
        """Return precision, device and micro-batches of a plan as text."""
        settings = self.settings
        batch = min(settings.batch_size, len(self.inputs.train.rows))
        words = [
            f"{settings.precision} on {settings.device}",
            *(["computed in float32"] if settings.in_float32 else []),
            f"micro-batch {plan.micro_batch} x {math.ceil(batch / plan.micro_batch)}",
            *(["recomputed activations"] if plan.recompute else []),
            *(["compiled"] if settings.compiled else []),
        ]
        return ", ".join(words)

    def train(self, plan: Plan, max_hours: float) -> Trained:
        """Train until the last epoch, or until patience ends the run."""
        state = self.state
        self.plan = plan
        self.engine.follow(plan)
        if state.step == 0:
            self._refuse_if_long(max_hours)
        else:
            self.callbacks.report(f"resumed after epoch {len(state.history)}, step {state.step}")
            if state.history:
                self._report_epoch()
        with self.callbacks.track(state.rows) as log:
            while not self._complete():
                if reason := self.callbacks.stop_reason():
                    raise Stopped.between_steps(reason)
                self._epoch()
                log(state.rows[-1])
        return Trained(self._kept_epoch(), state.history, plan, state.rows)

    def _complete(self) -> bool:
        losses, settings = self.state.losses, self.settings
        done = len(losses) == settings.epochs
        return done or patience_ended(losses, settings.patience, settings.min_delta)

    def _kept_epoch(self) -> int:
        """Return the epoch whose weights are kept: with patience the best so far, else the last."""
        return best_epoch(self.state.losses) if self.settings.patience else self.settings.epochs

    def _epoch(self) -> None:
        state, settings = self.state, self.settings
        epoch = len(state.history)
        samples = len(self.inputs.train.rows)
        batches = epoch_batches(samples, settings.batch_size, self.seed, epoch)
        first = state.step - epoch * self.per_epoch
        begun = begun_at = saved = time.perf_counter()
        paced = first
        spent = state.seconds
        self.engine.model.train()
        for number, batch in enumerate(batches[first:], first):
            rate = learning_rate(state.step, self.total, settings)
            self.losses[number] = self._step(batch, rate)
            state.step += 1
            now = time.perf_counter()
            state.seconds = spent + now - begun
            if self.compiling:  # the first step includes the compilation
                self.compiling, paced, begun_at = False, number + 1, now
            else:
                self._report_pace((now - begun_at) / (number + 1 - paced))
            reason, last = self.callbacks.stop_reason(), number + 1 == self.per_epoch
            keep = bool(reason) or now - saved > CHECKPOINT_SECONDS
            keep = not last and self.callbacks.agree(keep)
            if last or keep or settings.device == "cpu":  # on a GPU this waits for the step
                self._refuse_divergence(number)
            if keep:
                self._save()
                saved = now
                if reason:
                    raise Stopped.between_steps(reason)
        self._close_epoch([len(batch) for batch in batches])

    def _step(self, batch: Tensor, rate: float) -> Tensor:
        """Make a step; raise Stopped where the compilation, part of the first one, fails."""
        if not self.compiling:
            return self.engine.step(batch, rate)
        with self.callbacks.interruptible():
            try:
                return self.engine.step(batch, rate)
            except Exception as error:
                if not device.is_of_compiler(error):
                    raise
                raise Stopped(
                    f"layers could not be compiled ({device.why_not_compiled(error)}); the same "
                    "command tries again, PATCHSCALE_COMPILE=0 trains without compiling"
                ) from None

    def _close_epoch(self, sizes: list[int]) -> None:
        """Validate, save the weights where they are kept, and save the state."""
        state = self.state
        begun = time.perf_counter()
        val_loss = self.engine.validate()
        if not math.isfinite(val_loss):
            raise self._diverged(f"the validation log-loss of epoch {len(state.history) + 1}")
        weights = torch.tensor(sizes, dtype=torch.float64)
        train_loss = float((self.losses.cpu().double() * weights).sum() / weights.sum())
        values = {"train_log_loss": train_loss, "val_log_loss": val_loss}
        state.history.append(values)
        if self._kept_epoch() == len(state.history):
            weights_now = self.engine.model.state_dict()
            state.best = self.checkpoint.save_best(len(state.history), weights_now)
        telemetry = {
            "seconds": state.seconds + time.perf_counter() - begun,
            "samples_per_second": sum(sizes) / state.seconds,
            "peak_memory_gib": device.peak(self.settings.device) / 2**30,
        }
        if (celsius := self.callbacks.celsius()) is not None:
            telemetry["temperature"] = celsius
        state.rows.append(values | telemetry)
        state.seconds = 0.0
        self._save()
        self._report_epoch()

    def _report_epoch(self) -> None:
        """Report the last finished epoch."""
        losses, row, epochs = self.state.losses, self.state.rows[-1], self.settings.epochs
        self.callbacks.heartbeat(
            epoch=len(losses),
            epochs=epochs,
            step=0,
            best_val_log_loss=min(losses),
            best_epoch=best_epoch(losses),
            samples_per_second=row["samples_per_second"],
            seconds_left=row["seconds"] * (epochs - len(losses)),
            **self.state.history[-1],
        )

    def _report_pace(self, pace: float) -> None:
        """Report the progress of the epoch; `pace` is in seconds a step."""
        done = self.state.step
        epoch = len(self.state.history)
        self.callbacks.heartbeat(
            epoch=epoch,
            epochs=self.settings.epochs,
            step=done - epoch * self.per_epoch,
            steps=self.per_epoch,
            samples_per_second=len(self.inputs.train.rows) / self.per_epoch / pace,
            seconds_left=pace * (self.total - done),
        )

    def _save(self) -> None:
        assert self.plan is not None
        self.checkpoint.save(self._tensors(), vars(self.state) | {"plan": vars(self.plan)})

    def _tensors(self) -> dict[str, Tensor]:
        return self.engine.tensors() | {"losses": self.losses}

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.losses.copy_(tensors.pop("losses"))
        self.engine.restore(tensors)
        self.plan = Plan(**facts["plan"])
        self.state = _State(**{name: facts[name] for name in vars(self.state)})

    def _refuse_divergence(self, number: int) -> None:
        """Raise Diverged where a loss of the epoch so far is not finite."""
        finite = torch.isfinite(self.losses[: number + 1])
        if not finite.all():
            epoch = len(self.state.history)
            step = epoch * self.per_epoch + int((~finite).nonzero()[0]) + 1
            raise self._diverged(f"the loss of step {step} (epoch {epoch + 1}) or its gradient")

    def _diverged(self, what: str) -> Diverged:
        good = "no epoch was finished before"
        if losses := self.state.losses:
            good = f"last good: epoch {len(losses)}, validation log-loss {losses[-1]:.4f}"
        return Diverged(f"{what} is not finite; {good}; a lower lr or a longer warm-up may help")

    def _refuse_if_long(self, max_hours: float) -> None:
        """Time a step, and raise InputError where all epochs would take too long."""
        if max_hours == math.inf:
            return
        hours = self.engine.hours(self.total, max_hours)
        refuse_if_long(f"{self.settings.epochs} epochs", hours, max_hours)
        duration = timedelta(seconds=math.ceil(hours * 3600))
        self.callbacks.report(f"{self.total} steps of a seed in about {duration}, by a timed step")
