"""Checkpoint of a training over several processes."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.train.optim import full_tensor
from patchscale.train.sharded import rank


class ShardedCheckpoint(Checkpoint):
    """Directory of a run to which every process writes its shards as safetensors."""

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Make this the state that a resumed run continues from."""
        name = f"state-{facts['step']}-{len(facts['history'])}"
        if rank() == 0:
            shutil.rmtree(self.path / name, ignore_errors=True)
            self.path.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        writer = HuggingFaceStorageWriter(str(self.path / name), save_distributed=True)
        save(dict(tensors), storage_writer=writer)
        if rank() == 0:
            self.write_facts(facts | {"state": {"file": name}})
            for old in self.path.glob("state-*/"):
                if old.name != name:
                    shutil.rmtree(old)
        dist.barrier()

    def save_best(self, epoch: int, weights: Mapping[str, Tensor]) -> dict[str, str]:
        """Gather and write the best weights so far; return their entry for the next state."""
        gathered = {name: full_tensor(value).cpu() for name, value in weights.items()}
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
        """Fill the tensors of `like` and return them; each process reads its shards."""
        assert like is not None
        tensors = like()
        reader = HuggingFaceStorageReader(str(self.path / Path(entry["file"]).name))
        load(tensors, storage_reader=reader)
        return tensors
