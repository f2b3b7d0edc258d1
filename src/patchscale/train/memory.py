"""What a training needs of memory, what is there, and the micro-batch that follows."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTST, count
from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.study.errors import InputError
from patchscale.study.params import Precision
from patchscale.train.optim import held

MARGIN = 0.1
"""Share of the free memory that is left alone."""
SAMPLES_MEASURED = (2, 4)
SMALLEST_WITHOUT_RECOMPUTE = 32


@dataclass(frozen=True)
class Plan:
    """How a batch is brought through a model."""

    micro_batch: int
    recompute: bool
    """Whether layers keep only their input and compute the rest again."""
    expected: int
    """Bytes that this takes, by the activations measured on a few samples."""


def refuse_if_large(n_params: int, precision: Precision, free: int) -> None:
    """Raise InputError where weights, gradients and moments alone exceed free memory."""
    if BYTES_PER_WEIGHT[precision] * n_params > free * (1 - MARGIN):
        raise InputError(_too_large(n_params, precision, free))


def choose(
    model: PatchTST,
    contexts: Callable[[int], Tensor],
    batch: int,
    precision: Precision,
    free: int,
    tried: list[Plan],
) -> Plan:
    """Return the best way that fits and was not tried yet.

    Parameters
    ----------
    model
        In training mode, on its device, under the autocast it will be trained with.
    contexts
        Gives so many contexts as the model takes them, (n, context, F), on its device.
    batch
        Samples of a step.
    free
        Bytes that may be taken.

    Raises
    ------
    InputError
        Nothing fits.
    """
    shape, n_params = model.config, count(model.config)
    few, more = SAMPLES_MEASURED
    # the difference leaves out what is kept once: autocast's bfloat16 copies of the weights
    kept = activation_bytes(model, contexts(more)) - activation_bytes(model, contexts(few))
    per_sample = math.ceil(kept / (more - few))
    inputs_of_layers = 4 * shape.n_patches * shape.d_model * shape.n_layers
    recomputed = inputs_of_layers + math.ceil(2 * per_sample / shape.n_layers)
    static = BYTES_PER_WEIGHT[precision] * n_params
    for plan in plans(batch, per_sample, recomputed, static, free, precision):
        if plan not in tried:
            return plan
    raise InputError(_too_large(n_params, precision, free))


def activation_bytes(model: nn.Module, samples: Tensor) -> int:
    """Return the bytes a forward pass of `samples` keeps for the backward pass."""
    weights = {held(parameter).untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # else its address could be taken again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(samples)
    return sum(kept.values())


def plans(
    batch: int,
    per_sample: int,
    per_sample_recomputed: int,
    static: int,
    free: int,
    precision: Precision,
) -> Iterator[Plan]:
    """Yield the ways that fit, the best first; the later ones are for when memory ran out.

    A whole batch at once is best. Else samples are divided, but not below 32 before layers are
    recomputed, which costs a third of the time. With bfloat16 weights gradients are kept in
    bfloat16 too and layers are recomputed first: adding up micro-batches would round them.
    """
    room = free * (1 - MARGIN)
    micro_batches = [batch]
    while micro_batches[-1] > 1:
        micro_batches.append(micro_batches[-1] // 2)
    smallest = batch if precision == "bf16-true" else min(batch, SMALLEST_WITHOUT_RECOMPUTE)
    ways = [(micro, False) for micro in micro_batches if micro >= smallest]
    ways += [(micro, True) for micro in micro_batches]
    for micro, recompute in ways:
        expected = static + micro * (per_sample_recomputed if recompute else per_sample)
        if expected <= room:
            yield Plan(micro, recompute, expected)


def _too_large(n_params: int, precision: Precision, free: int) -> str:
    needed = BYTES_PER_WEIGHT[precision] * n_params / 2**30
    return (
        f"{n_params:,} parameters need {needed:.1f} GiB and activations to train in {precision}, "
        f"{free / 2**30:.1f} GiB of memory are free here"
    )
