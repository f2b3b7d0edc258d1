"""State of a training over several processes: each of its files has a hash."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystem

from patchscale.runtime.sharded_checkpoint import ShardedCheckpoint
from patchscale.study.errors import Stopped

FACTS = {"step": 10, "history": [{"val_log_loss": 0.5}], "best": {}}


def tensors(fill: float = 0.0) -> dict[str, Tensor]:
    return {"w": torch.full((40, 5), fill), "step": torch.tensor(fill)}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Join a process group of this process only."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def run(tmp_path: Path) -> ShardedCheckpoint:
    """Return a run that has kept step 10."""
    run = ShardedCheckpoint(tmp_path / "run")
    run.save(tensors(3.0), FACTS)
    return run


def shard(run: ShardedCheckpoint) -> Path:
    (file,) = run.path.glob("state-10-1/*.safetensors")
    return file


def test_a_state_comes_back_as_it_was(run: ShardedCheckpoint) -> None:
    kept = run.load("cpu", pytest.fail, tensors)
    assert kept is not None
    assert torch.equal(kept[0]["w"], tensors(3.0)["w"])
    assert kept[1]["step"] == 10
    assert kept[1]["state"]["sha256"].keys() == {shard(run).name}


def flipped(run: ShardedCheckpoint) -> None:
    content = bytearray(shard(run).read_bytes())
    content[-9] ^= 4
    shard(run).write_bytes(content)


def another(run: ShardedCheckpoint) -> None:
    (shard(run).parent / "shard-00002-model-00001-of-00001.safetensors").write_bytes(b"x")


def folder_for_file(run: ShardedCheckpoint) -> None:
    name = shard(run)
    name.unlink()
    name.mkdir()


@pytest.mark.parametrize(
    "damage", [flipped, another, folder_for_file, lambda run: shard(run).unlink()]
)
def test_damaged_shards_are_named_in_a_line_and_the_run_starts_anew(
    run: ShardedCheckpoint, damage: Callable[[ShardedCheckpoint], None]
) -> None:
    damage(run)
    lines: list[str] = []
    assert run.load("cpu", lines.append, tensors) is None
    assert lines == [
        f"{run.path / 'state.json'}: damaged (state-10-1 has another hash); the run starts anew"
    ]
    run.save(tensors(5.0), FACTS)
    kept = run.load("cpu", pytest.fail, tensors)
    assert kept is not None
    assert float(kept[0]["step"]) == 5.0


def test_a_full_disk_is_a_line_and_the_state_before_stays(
    run: ShardedCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileSystem, "create_stream", full)
    with pytest.raises(Stopped) as caught:
        run.save(tensors(5.0), FACTS | {"step": 20})
    assert str(caught.value) == (
        f"{run.path / 'state-20-1'}: No space left on device; the same command "
        "goes on once this is fixed"
    )
    monkeypatch.undo()
    assert sorted(path.name for path in run.path.iterdir()) == ["state-10-1", "state.json"]
    assert json.loads((run.path / "state.json").read_text())["step"] == 10
    kept = run.load("cpu", pytest.fail, tensors)
    assert kept is not None
    assert torch.equal(kept[0]["w"], tensors(3.0)["w"])
