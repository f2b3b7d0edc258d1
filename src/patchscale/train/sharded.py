"""Shard a model over several processes, each with a part of weights, gradients and moments.

FSDP2 (`fully_shard`) gathers a layer's weights while the layer is computed. Each process computes
its part of every batch. Loss and gradients are those of the whole batch; apart from dropout only
rounding differs from a training in one process.

References
----------
Zhao et al. (2023), "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel".
"""

import math
import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from patchscale.model.patchtst import Layer, PatchTST
from patchscale.model.weights import build, skeleton
from patchscale.train.engine import Parallel
from patchscale.train.inputs import Inputs
from patchscale.train.settings import Settings


def rank() -> int:
    """Return the number of this process among those of the training; 0 if it is the only one."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """Return the number of processes of the training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def shard(model: PatchTST, mesh: DeviceMesh) -> None:
    """Shard a model layer by layer, in place.

    FSDP gathers weights of one data type together. With `bf16-true`, norms and positions are
    float32 and form groups of their own. Gradients are summed, not averaged: the loss of a
    process is already divided by the size of the whole batch.
    """
    wide = model.positions.dtype
    for layer in model.layers:
        assert isinstance(layer, Layer)
        if layer.qkv.weight.dtype != wide:
            fully_shard([layer.norm1, layer.norm2], mesh=mesh)
        fully_shard(layer, mesh=mesh)
    if model.embed.weight.dtype != wide:
        fully_shard([model.embed, model.head], mesh=mesh)
    # also the outermost group: a validation has no backward pass that would free its weights
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum


def sharded_model(inputs: Inputs, settings: Settings, seed: int) -> PatchTST:
    """Return a sharded model with the weights of `whole_model`; every process calls this."""
    model = skeleton(inputs.shape, settings.precision)
    shard(model, init_device_mesh(settings.device, (size(),)))
    model.to_empty(device=settings.device)
    whole = (
        build(inputs.shape, settings.precision, seed, inputs.train.base_rate).state_dict()
        if rank() == 0
        else {}
    )
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, whole, options=options)
    return model


def local_micro_batches(batch: Tensor, micro_batch: int) -> Sequence[Tensor]:
    """Return the micro-batches of this process; all processes have equally many."""
    each = math.ceil(len(batch) / (size() * micro_batch))
    return torch.tensor_split(batch, size() * each)[rank() * each : (rank() + 1) * each]


def seed_step(seed: int, step: int) -> None:
    """Seed the dropout of a step for this process, so that a resumed run repeats it."""
    torch.manual_seed((seed * 2**20 + step) * size() + rank())


def all_reduce(total: Tensor) -> None:
    """Sum a number over all processes, in place."""
    dist.all_reduce(total)


SHARDED = Parallel(sharded_model, local_micro_batches, all_reduce, seed_step)
