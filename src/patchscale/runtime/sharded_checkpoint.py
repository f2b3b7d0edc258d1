"""Checkpoint of a training over several processes."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from patchscale.runtime.checkpoint import Checkpoint
from patchscale.study.errors import of_machine
from patchscale.study.files import digest, flush
from patchscale.train.optim import full_tensor
from patchscale.train.sharded import rank, size


class ShardedCheckpoint(Checkpoint):
    """Directory of a run to which every process writes its shards as safetensors.

    A state is a folder of its own. The facts hold the SHA-256 of each of its files. Each process
    hashes a part of them.
    """

    def save(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Make this the state that a resumed run continues from.

        Raises
        ------
        Stopped
            The disk of a process is full, read-only or broken. The state before stays.
        """
        name = f"state-{facts['step']}-{len(facts['history'])}"
        folder = self.path / name
        if rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
            self.path.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        try:
            writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
            save(dict(tensors), storage_writer=writer)  # each file is flushed
        except CheckpointException as failed:  # the same in all processes
            faults = [of_machine(error, folder) for error, _ in failed.failures.values()]
            if rank() == 0:
                shutil.rmtree(folder, ignore_errors=True)
            raise next(filter(None, faults), failed) from None
        hashes = self._hashes(folder)
        if rank() == 0:
            flush(folder)
            flush(self.path)
            self.write_facts(facts | {"state": {"file": name, "sha256": hashes}})
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
        entry: Mapping[str, Any],
        device: str,
        like: Callable[[], dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        """Fill the tensors of `like` and return them; each process reads its shards."""
        assert like is not None
        folder = self.path / Path(entry["file"]).name
        if self._hashes(folder) != entry["sha256"]:
            raise ValueError(f"{folder.name} has another hash")
        tensors = like()
        try:
            load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)))
        except CheckpointException as failed:
            first, _ = next(iter(failed.failures.values()))
            raise ValueError(f"{folder.name}: {first}") from None
        return tensors

    def _hashes(self, folder: Path) -> dict[str, str]:
        """Return the SHA-256 of every file of a state, the same in all processes."""
        names = [sorted(file.name for file in folder.glob("*"))]
        dist.broadcast_object_list(names)
        ours = {name: _digest(folder / name) for name in names[0][rank() :: size()]}
        gathered: list[dict[str, str]] = [{} for _ in range(size())]
        dist.all_gather_object(gathered, ours)
        return {name: sha256 for each in gathered for name, sha256 in each.items()}


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file, '' where this process cannot read it."""
    try:
        return digest(file)
    except OSError:
        return ""
