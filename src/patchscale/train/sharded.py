"""One training over several processes, each with its part of weights, gradients and moments.

FSDP2 (`fully_shard`) gathers a layer's weights for as long as it is computed. Each process takes
its part of every batch; loss and gradients are those of the whole batch, so that dropout apart only
rounding differs from one process.

References
----------
Zhao et al. (2023), "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel".
"""

import math
import os
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional as F

from patchscale.model.patchtst import Layer, PatchTST
from patchscale.model.weights import build, skeleton
from patchscale.train.engine import Engine, log_loss
from patchscale.train.inputs import Inputs
from patchscale.train.memory import Plan
from patchscale.train.optim import make_optimizer
from patchscale.train.settings import Settings


def _shard(model: PatchTST, mesh: DeviceMesh) -> None:
    """Share out layer by layer; with `bf16-true`, norms and positions (float32) are groups apart.

    FSDP wants the weights it gathers at once to be of one type.
    """
    wide = model.positions.dtype
    for layer in model.layers:
        assert isinstance(layer, Layer)
        if layer.qkv.weight.dtype != wide:
            fully_shard([layer.norm1, layer.norm2], mesh=mesh)
        fully_shard(layer, mesh=mesh)
    if model.embed.weight.dtype != wide:
        fully_shard([model.embed, model.head], mesh=mesh)
    fully_shard(model, mesh=mesh)


class ShardedEngine(Engine):
    """An engine whose model lies in parts in all processes; each makes the same calls."""

    def __init__(self, inputs: Inputs, settings: Settings, seed: int) -> None:
        self.inputs, self.settings = inputs, replace(settings, compiled=False)
        self.seed, self.micro_batch = seed, settings.batch_size
        model = skeleton(inputs.shape, settings.precision)
        mesh = init_device_mesh(settings.device, (size(),))
        _shard(model, mesh)
        model.to_empty(device=settings.device)
        whole = build(inputs.shape, settings.precision, seed).state_dict() if rank() == 0 else {}
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, whole, options=options)
        self.model = model
        self.optimizer = make_optimizer(model, settings.lr, settings.weight_decay)
        for parameter in model.parameters():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=settings.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def choose(self, free: int, tried: list[Plan]) -> Plan:
        """Return the best plan that fits into `free` bytes; raise InputError where none does."""
        plan = super().choose(free, tried)
        self._reshard()
        return plan

    def step(self, batch: Tensor, rate: float) -> Tensor:
        """Make an optimiser step over training samples `batch` (n,), of which we take our part."""
        device, rows, labels = (
            self.settings.device,
            self.inputs.train.rows,
            self.inputs.train.labels,
        )
        state = self.optimizer.state[next(self.model.parameters())]
        # dropout of this step and process: a resumed run needs no state of generators
        torch.manual_seed((self.seed * 2**20 + int(state["step"])) * size() + rank())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        each = math.ceil(len(batch) / (size() * self.micro_batch))  # micro-batches of a process
        parts = torch.tensor_split(batch, size() * each)[rank() * each : (rank() + 1) * each]
        total = torch.zeros((), device=device)
        for part in parts:
            with self._autocast():
                logits = self.model(self.inputs.windows(rows[part]).to(device))
            loss = F.binary_cross_entropy_with_logits(
                logits.float(), labels[part].to(device), reduction="sum"
            )
            total += loss.detach() / len(batch)
            loss = loss * size() / len(batch)  # FSDP divides by the number of processes
            loss.backward()  # type: ignore[no-untyped-call]
        dist.all_reduce(total)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        return torch.where(_whole(norm).isfinite(), total, math.nan)

    def validate(self) -> float:
        """Return the validation log-loss, nats; every process computes all of it."""
        inputs = self.inputs
        self.model.eval()
        with torch.no_grad(), self._autocast():
            logits = [
                self.model(inputs.windows(part).to(self.settings.device)).float().cpu()
                for part in torch.split(inputs.val.rows, 256)
            ]
        self._reshard()
        return log_loss(torch.cat(logits), inputs.val.labels)

    def _reshard(self) -> None:
        """Give back what a forward pass gathered and no backward pass did."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and moments by name, as they lie in the processes."""
        return {name: value for name, value in super().tensors().items() if "rng" not in name}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Do nothing: a `ShardedCheckpoint` loads into the engine's own tensors."""


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which we hold a part; every process must ask for it."""
    full: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def rank() -> int:
    """Return which of the processes this is; 0 where there is only one."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))
