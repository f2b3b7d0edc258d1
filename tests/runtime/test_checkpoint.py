import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SHAPE
from torch import Tensor

from patchscale.model.patchtst import PatchTST
from patchscale.model.weights import load_model, load_weights, save_weights
from patchscale.runtime import checkpoint
from patchscale.runtime.checkpoint import Checkpoint, fingerprint, resume_path
from patchscale.study.errors import InputError
from patchscale.study.files import write_sealed


def tensors(seed: int) -> dict[str, Tensor]:
    """Return tensors of all kinds a state has."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(40, 50, generator=generator)
    return {
        "a": values,
        "b": values.bfloat16(),
        "transposed": values.T,
        "step": torch.tensor(float(seed)),
        "rng": torch.get_rng_state(),
    }


def facts(step: int, epochs: int) -> dict[str, Any]:
    history = [{"train_log_loss": 0.7, "val_log_loss": 0.1 + 0.2}] * epochs
    return {"step": step, "seconds": 1.5, "history": history, "best": {}, "plan": {"micro": 2}}


def keep(run: Checkpoint, step: int, epochs: int) -> None:
    """Keep a state as training does at the end of an epoch."""
    best = run.save_best(epochs, {"w": torch.full((3,), float(epochs))})
    run.save(tensors(step), facts(step, epochs) | {"best": best})


def files(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def equal(ones: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return ones.keys() == others.keys() and all(
        value.dtype == others[name].dtype and torch.equal(value, others[name])
        for name, value in ones.items()
    )


@pytest.fixture
def run(tmp_path) -> Checkpoint:
    """Return a run that has kept epoch 2, at step 10."""
    run = Checkpoint(tmp_path / "run")
    keep(run, 10, 2)
    return run


def test_a_state_comes_back_as_it_was(run):
    found, kept = run.load("cpu", pytest.fail)
    assert equal(found, tensors(10))
    assert {**kept, "state": None, "best": {}} == facts(10, 2) | {"state": None}
    assert torch.equal(run.best()["w"], torch.full((3,), 2.0))


def test_there_is_no_state_where_there_is_no_file(tmp_path):
    assert Checkpoint(tmp_path / "absent").load("cpu", pytest.fail) is None
    assert list(tmp_path.iterdir()) == []


def test_a_state_within_the_first_epoch_has_no_best_weights(tmp_path):
    run = Checkpoint(tmp_path)
    run.save(tensors(1), facts(1, 0))
    _, kept = run.load("cpu", pytest.fail)
    assert kept["best"] == {}
    assert files(tmp_path) == ["state-1-0.safetensors", "state.json"]


def test_only_the_last_state_and_the_best_weights_stay(run):
    assert files(run.path) == ["best-2.safetensors", "state-10-2.safetensors", "state.json"]
    best = json.loads((run.path / "state.json").read_text())["best"]
    run.save(tensors(12), facts(12, 2) | {"best": best})
    assert files(run.path) == ["best-2.safetensors", "state-12-2.safetensors", "state.json"]
    keep(run, 15, 3)
    assert files(run.path) == ["best-3.safetensors", "state-15-3.safetensors", "state.json"]


def test_what_a_killed_run_left_half_written_goes_and_other_files_stay(run):
    for name in (".state-12-2.safetensors.4711.tmp", ".state.json.4711.tmp", "lock"):
        (run.path / name).write_bytes(b"half")
    keep(run, 15, 3)
    expected = ["best-3.safetensors", "lock", "state-15-3.safetensors", "state.json"]
    assert files(run.path) == expected


def test_a_discarded_run_is_gone(run):
    run.discard()
    run.discard()
    assert not run.path.exists()


@pytest.mark.parametrize("failing", ["tensors", "best", "facts"])
def test_a_state_is_never_half_written(run, monkeypatch, failing):
    before = {name: (run.path / name).read_bytes() for name in files(run.path)}
    save_file, calls = checkpoint.save_file, 0

    def full_disk(*words: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == {"best": 1, "tensors": 2}.get(failing):
            Path(words[1]).write_bytes(b"half")
            raise OSError("no space left on device")
        save_file(*words)

    def full_disk_of_text(path: Path, text: str, **_: str) -> None:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    if failing == "facts":
        monkeypatch.setattr(Path, "write_text", full_disk_of_text)
    with pytest.raises(OSError, match="no space left"):
        keep(run, 15, 3)
    assert {name: (run.path / name).read_bytes() for name in before} == before
    assert not [name for name in files(run.path) if name.endswith(".tmp")]
    found, kept = run.load("cpu", pytest.fail)
    assert kept["step"] == 10
    assert equal(found, tensors(10))
    assert torch.equal(run.best()["w"], torch.full((3,), 2.0))
    monkeypatch.undo()
    keep(run, 15, 3)
    assert files(run.path) == ["best-3.safetensors", "state-15-3.safetensors", "state.json"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from patchscale.runtime.checkpoint import Checkpoint

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    Checkpoint(Path(sys.argv[1])).save({"w": torch.zeros(100_000)}, {"step": 12, "history": [1]})
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_file_that_may_not_grow_leaves_the_state_as_it_was(run):
    before = {name: (run.path / name).read_bytes() for name in files(run.path)}
    words = [sys.executable, "-c", FULL_DISK, str(run.path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == (
        f"Stopped: {run.path / 'state-12-1.safetensors'}: File too large; "
        "the same command goes on once this is fixed\n"
    ), done.stderr
    assert {name: (run.path / name).read_bytes() for name in files(run.path)} == before
    assert run.load("cpu", pytest.fail)[1]["step"] == 10


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def state_of(run: Checkpoint) -> Path:
    return run.path / "state-10-2.safetensors"


def rewrite(run: Checkpoint, **changed: Any) -> None:
    """Change facts of a kept state as someone would who knows how they are sealed."""
    kept = json.loads((run.path / "state.json").read_text())
    del kept["sha256"]
    kept |= changed
    write_sealed(run.path / "state.json", kept)


DAMAGES = {
    "facts cut off": lambda run: (run.path / "state.json").write_bytes(
        (run.path / "state.json").read_bytes()[:100]
    ),
    "no facts": lambda run: (run.path / "state.json").write_bytes(b""),
    "not text": lambda run: (run.path / "state.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda run: (run.path / "state.json").write_text("[]"),
    "a number": lambda run: (run.path / "state.json").write_text("5"),
    "other facts": lambda run: (run.path / "state.json").write_text("{}"),
    "a digit of a loss": lambda run: (run.path / "state.json").write_text(
        (run.path / "state.json").read_text().replace("0.7", "0.5")
    ),
    "a directory": lambda run: ((run.path / "state.json").unlink(), run.path / "state.json")[
        1
    ].mkdir(),
    "no tensors": lambda run: state_of(run).unlink(),
    "tensors cut off": lambda run: state_of(run).write_bytes(state_of(run).read_bytes()[:-100]),
    "a flipped bit of a tensor": lambda run: flip(state_of(run), -50),
    "a flipped bit of the header": lambda run: flip(state_of(run), 20),
    "no best weights": lambda run: (run.path / "best-2.safetensors").unlink(),
    "a flipped bit of the best weights": lambda run: flip(run.path / "best-2.safetensors", -3),
    "no entry": lambda run: rewrite(run, state=None),
    "an entry of another kind": lambda run: rewrite(run, state={"file": 5, "sha256": 5}),
    "a file without a name": lambda run: rewrite(run, state={"file": "", "sha256": ""}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_a_line_and_ignored(run, damage):
    DAMAGES[damage](run)
    lines: list[str] = []
    assert run.load("cpu", lines.append) is None
    (line,) = lines
    assert line.startswith(f"{run.path / 'state.json'}: damaged (")
    assert line.endswith("); the run starts anew")
    assert "\n" not in line


def test_after_damage_a_run_keeps_its_state_again(run):
    flip(state_of(run), -50)
    keep(run, 5, 1)
    assert run.load("cpu", pytest.fail)[1]["step"] == 5
    assert files(run.path) == ["best-1.safetensors", "state-5-1.safetensors", "state.json"]


def test_best_weights_of_facts_that_were_changed_are_refused_in_a_line(run):
    text = (run.path / "state.json").read_text()
    (run.path / "state.json").write_text(text.replace('"step": 10', '"step": 11'))
    with pytest.raises(InputError) as caught:
        run.best()
    assert str(caught.value) == (
        f"{run.path / 'state.json'}: damaged (it has another hash); `rm -r {run.path}`, then the "
        "run starts anew"
    )


@pytest.mark.parametrize("key", ["state", "best"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_file_outside_of_the_run_is_never_read(run, key, absolute):
    outside = run.path.parent / "x.safetensors"
    save_weights(outside, {"w": torch.zeros(3)})
    name = str(outside) if absolute else "../x.safetensors"
    rewrite(run, **{key: {"file": name, "sha256": checkpoint.digest(outside)}})
    lines: list[str] = []
    assert run.load("cpu", lines.append) is None
    assert len(lines) == 1
    assert "x.safetensors" in lines[0]


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("key", ["state", "best"])
def test_a_pickle_under_the_name_of_tensors_is_not_executed(run, tmp_path, key):
    ran = tmp_path / "ran"
    kept = json.loads((run.path / "state.json").read_text())
    file = run.path / kept[key]["file"]
    torch.save({"w": Payload(ran)}, file)
    rewrite(run, **{key: {"file": file.name, "sha256": checkpoint.digest(file)}})
    lines: list[str] = []
    if key == "state":
        assert run.load("cpu", lines.append) is None
        assert len(lines) == 1
    else:
        with pytest.raises(InputError, match="damaged"):
            run.best()
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(file)
    assert not ran.exists()
    with file.open("rb") as handle:
        torch.load(handle, weights_only=False)
    assert ran.exists()  # else the payload would prove nothing


def test_weights_are_rounded_to_float16_once_and_then_survive_bit_by_bit(tmp_path):
    torch.manual_seed(0)
    model = PatchTST(SHAPE)
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    other = load_model(tmp_path / "w.safetensors", SHAPE)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.half().float(), other.state_dict()[name])
    save_weights(tmp_path / "again.safetensors", other.state_dict())
    first, again = (tmp_path / f"{name}.safetensors" for name in ("w", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_weights_of_another_shape_are_refused_in_one_line(tmp_path):
    save_weights(tmp_path / "w", {"embed.weight": torch.zeros(3)})
    with pytest.raises(InputError, match=r"w: weights of another shape \(.*\)$") as raised:
        load_model(tmp_path / "w", SHAPE)
    assert "\n" not in str(raised.value)


def test_weights_that_are_missing_or_damaged_are_refused_in_one_line(tmp_path):
    (tmp_path / "damaged").write_bytes(b"\x00" * 20)
    for name in ("absent", "damaged"):
        with pytest.raises(InputError, match=rf"{name}: not a safetensors file \(.*\)$") as raised:
            load_weights(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_equal_weights_are_equal_bytes(tmp_path):
    weights = PatchTST(SHAPE).state_dict()
    turned = {name: weights[name].clone() for name in reversed(weights)}
    save_weights(tmp_path / "a", weights)
    save_weights(tmp_path / "b", weights)
    save_weights(tmp_path / "c", turned)
    first = (tmp_path / "a").read_bytes()
    assert first == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_views_of_a_larger_tensor_can_be_saved(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    save_weights(tmp_path / "w", {"column": whole.T[1]})
    assert torch.equal(load_weights(tmp_path / "w")["column"], torch.tensor([1.0, 5.0, 9.0]))


def test_a_fingerprint_is_a_function_of_settings_and_bytes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"data")
    two.write_bytes(b"code")
    base = fingerprint({"lr": 1e-3, "epochs": 5}, [one, two])
    assert base == fingerprint({"epochs": 5, "lr": 1e-3}, [one, two])
    assert base != fingerprint({"lr": math.nextafter(1e-3, 1), "epochs": 5}, [one, two])
    assert base != fingerprint({"lr": 1e-3}, [one, two])
    assert base != fingerprint({"lr": 1e-3, "epochs": 5}, [two, one])
    two.write_bytes(b"codE")
    assert base != fingerprint({"lr": 1e-3, "epochs": 5}, [one, two])


def test_resume_states_live_under_dvcs_root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert resume_path("2M-h1-abc-seed0") == tmp_path / ".resume" / "2M-h1-abc-seed0"
    monkeypatch.delenv("DVC_ROOT")
    assert resume_path("x") == Path(".resume/x")
