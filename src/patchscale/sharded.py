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
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional as F

from patchscale import memory
from patchscale.budget import BYTES_PER_WEIGHT
from patchscale.cell import Inputs
from patchscale.checkpoint import Checkpoint
from patchscale.engine import Engine, build, log_loss, skeleton
from patchscale.memory import Plan
from patchscale.model import Layer, PatchTST
from patchscale.optim import make_optimizer
from patchscale.processes import joined, rank, size
from patchscale.progress import Pulse, display
from patchscale.replica import Replica
from patchscale.schedule import Settings
from patchscale.stopping import exclusive, stop_requests
from patchscale.train import Trained, Watch, train

ANOTHER = "another process of the training"


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


class ShardedCheckpoint(Checkpoint):
    """The directory of a run, into which every process writes its part as safetensors."""

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Make this the state the run goes on from."""
        name = f"state-{facts['step']}-{len(facts['history'])}"
        if rank() == 0:
            shutil.rmtree(self.path / name, ignore_errors=True)
            self.path.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        writer = HuggingFaceStorageWriter(str(self.path / name), save_distributed=True)
        save(dict(tensors), storage_writer=writer)
        if rank() == 0:
            self.note(facts | {"state": {"file": name}})
            for old in self.path.glob("state-*/"):
                if old.name != name:
                    shutil.rmtree(old)
        dist.barrier()

    def save_best(self, epoch: int, weights: Mapping[str, Tensor]) -> dict[str, str]:
        """Gather the best weights so far and write them; the entry goes into the next state."""
        gathered = {name: _whole(value).cpu() for name, value in weights.items()}
        entry = [super().save_best(epoch, gathered) if rank() == 0 else None]
        dist.broadcast_object_list(entry)
        assert entry[0] is not None
        return entry[0]

    def read_state(
        self,
        entry: Mapping[str, str],
        device: str,
        like: Callable[[], dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        """Fill the tensors of `like` and return them; each process reads what it holds."""
        assert like is not None
        tensors = like()
        reader = HuggingFaceStorageReader(str(self.path / Path(entry["file"]).name))
        load(tensors, storage_reader=reader)
        return tensors


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which we hold a part; every process must ask for it."""
    full: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def room(replica: Replica) -> int:
    """Return the bytes a model may take as if one process held it all, the same in all of them."""
    settings = replica.settings
    free = torch.tensor(memory.available(settings.device) // _processes_here(settings.device))
    dist.all_reduce(free, dist.ReduceOp.MIN)
    static = BYTES_PER_WEIGHT[settings.precision] * memory.count(replica.inputs.shape)
    return int(free) + static * (size() - 1) // size()


def _processes_here(device: str) -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if device == "cpu" else 1


def train_sharded(replicas: list[Replica], title: str) -> list[Trained]:
    """Train the replicates of a cell one after another, each over all processes.

    Raises
    ------
    Stopped
        A stop was asked for in one of the processes; every step is kept.
    """
    with joined(replicas[0].settings.device):
        return [_train(replica, title) for replica in replicas]


def _train(replica: Replica, title: str) -> Trained:
    torch.set_num_threads(replica.threads)
    checkpoint = ShardedCheckpoint(replica.checkpoint.path)
    free = room(replica)
    with stop_requests() as asked:

        def agreed(wanted: bool) -> bool:
            flag = torch.tensor(int(wanted))
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            return bool(flag)

        def stopped() -> str:
            reason = asked()
            return (reason or ANOTHER) if agreed(bool(reason)) else ""

        silent = Watch(report=lambda line: None, stopped=stopped, agreed=agreed)
        arguments = (replica.inputs, replica.settings, replica.seed, checkpoint)
        if rank():
            return train(*arguments, free=free, watch=silent, engine=ShardedEngine)
        pulse_file = replica.checkpoint.path / "progress.json"
        with display([pulse_file], title) as report, exclusive(replica.checkpoint.path / "lock"):
            pulse = Pulse(pulse_file, report)
            pulse.beat(name=f"{replica.name}, {size()} processes")
            watch = replace(
                silent,
                report=pulse.say,
                beat=pulse.beat,
                track=lambda past: replica.track(past, pulse.say),
            )
            return train(*arguments, free=free, watch=watch, engine=ShardedEngine)
