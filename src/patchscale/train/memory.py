"""Plan the memory of a training: micro-batches and recomputation that fit into free memory."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTST
from patchscale.model.size import BYTES_PER_WEIGHT
from patchscale.study.errors import InputError
from patchscale.study.params import Precision
from patchscale.train.optim import local_shard

MARGIN = 0.1
"""Share of the free memory that no plan uses."""
SAMPLES_MEASURED = (2, 4)
SMALLEST_WITHOUT_RECOMPUTE = 32


@dataclass(frozen=True)
class Plan:
    """Micro-batch and recomputation of a training, with the memory they take."""

    micro_batch: int
    recompute: bool
    """Whether layers keep only their input and are computed again in the backward pass."""
    expected: int
    """Expected bytes, from activations measured on a few samples."""


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
    """Return the best plan that fits and was not tried yet.

    Parameters
    ----------
    model
        In training mode, on its device, under the autocast it will be trained with.
    contexts
        Returns n contexts as model input, `n -> (n, context, F)`, on the model's device.
    batch
        Samples of an optimiser step.
    free
        Free memory in bytes.

    Raises
    ------
    InputError
        No plan fits.
    """
    shape = model.config
    few, more = SAMPLES_MEASURED
    # the difference excludes what is kept once: autocast's bfloat16 copies of the weights
    kept = activation_bytes(model, contexts(more)) - activation_bytes(model, contexts(few))
    per_sample = math.ceil(kept / (more - few))
    inputs_of_layers = 4 * shape.n_patches * shape.d_model * shape.n_layers
    recomputed = inputs_of_layers + math.ceil(2 * per_sample / shape.n_layers)
    static = BYTES_PER_WEIGHT[precision] * shape.n_params
    for plan in plans(batch, per_sample, recomputed, static, free, precision):
        if plan not in tried:
            return plan
    raise InputError(_too_large(shape.n_params, precision, free))


def activation_bytes(model: nn.Module, samples: Tensor) -> int:
    """Return the bytes that a forward pass of `samples` keeps for the backward pass."""
    weights = {
        local_shard(parameter).untyped_storage().data_ptr() for parameter in model.parameters()
    }
    kept: dict[int, int] = {}
    alive = []

    def add(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # a freed tensor's address could be used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(add, lambda tensor: tensor):
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
    """Yield the plans that fit, best first; the later ones are for when memory ran out.

    A whole batch at once is best. Next come micro-batches, down to 32 samples. Below that layers
    are recomputed, which costs a third of the time. With bfloat16 weights the gradients are
    bfloat16 too, and adding up micro-batches would round them: layers are recomputed first.
    """
    budget = free * (1 - MARGIN)
    micro_batches = [batch]
    while micro_batches[-1] > 1:
        micro_batches.append(micro_batches[-1] // 2)
    smallest = batch if precision == "bf16-true" else min(batch, SMALLEST_WITHOUT_RECOMPUTE)
    candidates = [(micro, False) for micro in micro_batches if micro >= smallest]
    candidates += [(micro, True) for micro in micro_batches]
    for micro, recompute in candidates:
        expected = static + micro * (per_sample_recomputed if recompute else per_sample)
        if expected <= budget:
            yield Plan(micro, recompute, expected)


def _too_large(n_params: int, precision: Precision, free: int) -> str:
    needed = BYTES_PER_WEIGHT[precision] * n_params / 2**30
    return (
        f"{n_params:,} parameters need {needed:.1f} GiB and activations to train in {precision}, "
        f"{free / 2**30:.1f} GiB of memory are free here"
    )
