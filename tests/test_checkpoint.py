import math
from pathlib import Path

import pytest
import torch

from patchscale.checkpoint import (
    fingerprint,
    load_state,
    load_weights,
    resume_path,
    save_state,
    save_weights,
)
from patchscale.model import PatchTST, PatchTSTConfig

SHAPE = PatchTSTConfig(
    n_features=2,
    context_length=6,
    patch_length=3,
    stride=3,
    d_model=8,
    n_layers=2,
    n_heads=2,
    d_ff=16,
    dropout=0.0,
)


def test_weights_are_rounded_to_float16_once_and_then_survive_bit_by_bit(tmp_path):
    torch.manual_seed(0)
    model, other = PatchTST(SHAPE), PatchTST(SHAPE)
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    other.load_state_dict(load_weights(tmp_path / "w.safetensors"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.half().float(), other.state_dict()[name])
    save_weights(tmp_path / "again.safetensors", other.state_dict())
    first, again = (tmp_path / f"{name}.safetensors" for name in ("w", "again"))
    assert first.read_bytes() == again.read_bytes()


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


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {
        "model": {"w": torch.randn(3)},
        "rng": torch.get_rng_state(),
        "history": [{"train_log_loss": 0.7, "val_log_loss": 0.1 + 0.2}],
    }
    save_state(tmp_path / "run" / "s.pt", state)
    found = load_state(tmp_path / "run" / "s.pt")
    assert found["history"] == state["history"]
    assert torch.equal(found["model"]["w"], state["model"]["w"])
    assert torch.equal(found["rng"], state["rng"])


def test_there_is_no_state_where_there_is_no_file(tmp_path):
    assert load_state(tmp_path / "absent.pt") is None


def test_a_state_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "s.pt"
    save_state(path, {"history": [1]})

    def full_disk(state, target):
        Path(target).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_state(path, {"history": [1, 2]})
    with pytest.raises(OSError, match="no space left"):
        save_state(tmp_path / "first.pt", {"history": [1]})
    assert load_state(path) == {"history": [1]}
    assert [each.name for each in tmp_path.iterdir()] == ["s.pt"]


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
    assert resume_path("2M-h1-abc-seed0") == tmp_path / ".resume" / "2M-h1-abc-seed0.pt"
    monkeypatch.delenv("DVC_ROOT")
    assert resume_path("x") == Path(".resume/x.pt")
