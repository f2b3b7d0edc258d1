"""One rate fits every width and depth: the coordinate check of CompleteP."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from patchscale.model.patchtst import PatchTST, PatchTSTConfig
from patchscale.train.optim import make_optimizer

SHAPE = PatchTSTConfig(
    n_features=22,
    context_length=60,
    patch_length=10,
    stride=10,
    d_model=64,
    n_layers=4,
    n_heads=4,
    d_ff=256,
    dropout=0.0,
)
RATE = 4e-3
SAMPLES = 64
LOOKS = (0, 1, 5, 10)
"""Steps after which outputs are measured."""


def shape_of(width: int, depth: int) -> PatchTSTConfig:
    return replace(
        SHAPE, d_model=width, n_layers=depth, n_heads=max(1, width // 16), d_ff=4 * width
    )


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, 60, 22, generator=generator).cumsum(1) / 5
    return x, (x[:, -1, 0] + torch.randn(SAMPLES, generator=generator) > 0.5).float()


def rms(x: Tensor) -> float:
    return float(x.detach().float().square().mean().sqrt())


def coordinates(width: int, depth: int) -> dict[tuple[str, int], float]:
    """Return the rms of outputs by name and steps made: residual stream, change, and logit."""
    torch.manual_seed(0)
    model = PatchTST(shape_of(width, depth)).train()
    optimizer = make_optimizer(model, RATE, 0.1)
    x, labels = batch()
    streams: list[Tensor] = []
    for place in (0, depth // 2 - 1, depth - 1):  # after the first, half, and all layers
        model.layers[place].register_forward_hook(lambda *words: streams.append(words[2].detach()))
    found: dict[tuple[str, int], float] = {}
    first: list[Tensor] = []
    for step in range(LOOKS[-1] + 1):
        streams.clear()
        logits = model(x)
        if step == 0:
            first = [*streams, logits.detach()]
        if step in LOOKS:
            for name, stream in zip(("first", "middle", "last"), streams, strict=True):
                found[name, step] = rms(stream)
            if step:
                found["change of the last", step] = rms(streams[-1] - first[2])
                found["logit", step] = rms(logits - first[3])
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return found


def check(widths: tuple[int, ...], depths: tuple[int, ...], base: dict) -> None:
    for width, depth in product(widths, depths):
        for key, value in coordinates(width, depth).items():
            assert 0.5 < value / base[key] < 2, (width, depth, key, value, base[key])


@pytest.fixture(scope="module")
def base() -> dict[tuple[str, int], float]:
    torch.set_num_threads(1)
    return coordinates(128, 8)


def test_outputs_move_alike_over_widths_and_depths(base):
    check((32, 256), (4, 16), base)


@pytest.mark.slow
def test_outputs_move_alike_over_the_whole_range(base):
    check((32, 128, 512, 1024), (2,), base)
    check((32, 128, 256), (64,), base)


def test_the_check_sees_a_rate_that_is_not_scaled(base, monkeypatch):
    monkeypatch.setattr("patchscale.train.optim.BASE_WIDTH", 256)  # four times the rate
    with pytest.raises(AssertionError):
        check((256,), (8,), base)


def test_the_first_logit_is_that_of_the_prior_at_any_shape():
    for width, depth in ((32, 2), (256, 16)):
        model = PatchTST(shape_of(width, depth))
        model.initialise(0.2)
        assert model(batch()[0]).detach() == pytest.approx(math.log(0.25), abs=1e-6)
