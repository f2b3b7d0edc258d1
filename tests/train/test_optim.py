import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny import SHAPE
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTST
from patchscale.train import optim
from patchscale.train.optim import RoundedAdamW, make_optimizer, round_stochastically


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def bfloat16_model() -> PatchTST:
    model = PatchTST(SHAPE)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    return model


def bits(*patterns: int) -> Tensor:
    """Return float32 numbers of bit patterns."""
    return torch.tensor(patterns, dtype=torch.int64).to(torch.int32).view(torch.float32)


@pytest.mark.parametrize("build", [lambda: PatchTST(SHAPE), bfloat16_model])
def test_weight_decay_reaches_the_matrices_and_nothing_else(build):
    model = build()
    optimizer = make_optimizer(model, 1e-3, 0.37)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)
    found = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        matrix = name.endswith("weight") and "norm" not in name
        # times its rate, which falls with the inputs, the decay is the same everywhere
        expected = 0.37 * parameter.shape[1] / 64 if matrix else 0.0
        assert found[name] == pytest.approx(expected), name
    assert found["embed.weight"] > 0
    assert found["positions"] == found["norm.weight"] == found["head.bias"] == 0.0


@pytest.mark.parametrize("build", [lambda: PatchTST(SHAPE), bfloat16_model])
def test_a_matrix_has_a_rate_that_falls_with_its_inputs_and_everything_else_the_rate_itself(build):
    model = build()
    optimizer = make_optimizer(model, 1e-3, 0.37)
    rates = {
        id(parameter): (group["lr"], group["share"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        matrix = name.endswith("weight") and "norm" not in name
        share = 64 / parameter.shape[1] if matrix else 1.0
        assert rates[id(parameter)] == (pytest.approx(1e-3 * share), share), name


def test_epsilon_falls_with_width_and_depth():
    found = {}
    for width, depth in ((8, 2), (16, 2), (8, 4)):
        shape = replace(SHAPE, d_model=width, n_layers=depth)
        optimizer = make_optimizer(PatchTST(shape), 1e-3, 0.1)
        (found[width, depth],) = {group["eps"] for group in optimizer.param_groups}
    assert found[16, 2] == found[8, 4] == found[8, 2] / 2
    assert found[8, 2] == pytest.approx(1e-8 * 64 / 8 / 2)


def test_only_models_with_bfloat16_weights_get_the_rounding_optimizer():
    assert type(make_optimizer(PatchTST(SHAPE), 1e-3, 0.1)) is torch.optim.AdamW
    assert type(make_optimizer(bfloat16_model(), 1e-3, 0.1)) is RoundedAdamW


def trajectory(optimizer: torch.optim.Optimizer, steps: int = 6) -> None:
    """Make steps of changing rates with gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(1)
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + number)
            for parameter in group["params"]:
                drawn = torch.randn(parameter.shape, generator=generator) * 0.1
                parameter.grad = drawn.bfloat16().to(parameter.dtype)
        optimizer.step()


def weights(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(2)
    drawn = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    return [nn.Parameter(tensor.to(dtype)) for tensor in drawn]


def groups(parameters: list[nn.Parameter]) -> list[dict]:
    decays = (0.3, 0.0)
    return [{"params": [p], "weight_decay": d} for p, d in zip(parameters, decays, strict=True)]


def test_float32_weights_take_the_steps_of_pytorchs_adamw():
    ours, theirs = weights((7, 5), (11,)), weights((7, 5), (11,))
    rounded = RoundedAdamW(groups(ours), 1e-2, 1e-8)
    reference = torch.optim.AdamW(groups(theirs), lr=1e-2, betas=(0.9, 0.95), foreach=False)
    trajectory(rounded)
    trajectory(reference)
    for one, other, start in zip(ours, theirs, weights((7, 5), (11,)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-7)
        assert (one - start).abs().min() > 1e-4
        for name in ("step", "exp_avg", "exp_avg_sq"):
            expected = reference.state[other][name]
            assert torch.allclose(rounded.state[one][name], expected, rtol=1e-6, atol=1e-9)


def test_bfloat16_weights_follow_those_in_float32_on_average():
    n = 40_000
    narrow, wide = weights((n,), (n,), dtype=torch.bfloat16), weights((n,), (n,))
    trajectory(RoundedAdamW(groups(narrow), 1e-2, 1e-8), 20)
    trajectory(torch.optim.AdamW(groups(wide), lr=1e-2, betas=(0.9, 0.95)), 20)
    for one, other, start in zip(narrow, wide, weights((n,), (n,)), strict=True):
        apart = one.double() - other.double()
        assert apart.std() > 1e-4  # else nothing was rounded
        assert (other - start).std() > 1e-2
        for share in (apart, apart * start):  # the second shows a decay that is off
            assert abs(share.mean()) < 4 * share.std() / math.sqrt(n)


def test_updates_far_below_half_a_bfloat16_step_add_up():
    n, steps, rate = 20_000, 100, 1e-4
    parameter = nn.Parameter(torch.ones(n, dtype=torch.bfloat16))
    assert (parameter - rate == 1).all()  # the nearest is where it was
    optimizer = RoundedAdamW([{"params": [parameter], "weight_decay": 0.0}], rate, 1e-8)
    for _ in range(steps):
        parameter.grad = torch.ones_like(parameter)  # AdamW moves by the rate each step
        optimizer.step()
    error = parameter.double().std() / math.sqrt(n)
    assert 0 < error < 1e-4
    assert abs(parameter.double().mean() - (1 - steps * rate)) < 4 * error


def test_pieces_give_what_the_whole_gives(monkeypatch):
    whole, cut = weights((7, 5), (11,)), weights((7, 5), (11,))
    one = RoundedAdamW(groups(whole), 1e-2, 1e-8)
    trajectory(one)
    monkeypatch.setattr(optim, "CHUNK", 4)
    pieces = []
    update = RoundedAdamW._update

    def noted(piece, *rest):
        pieces.append(len(piece[0]))
        update(piece, *rest)

    monkeypatch.setattr(RoundedAdamW, "_update", staticmethod(noted))
    other = RoundedAdamW(groups(cut), 1e-2, 1e-8)
    trajectory(other)
    assert pieces == ([4] * 8 + [3] + [4, 4, 3]) * 6
    for ours, theirs in zip(whole, cut, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)
        assert one.state[ours]["step"] == other.state[theirs]["step"] == 6


def test_the_step_counter_rises_by_one_a_step_however_many_pieces(monkeypatch):
    monkeypatch.setattr(optim, "CHUNK", 3)
    parameters = weights((4, 5), (2,), dtype=torch.bfloat16)
    optimizer = RoundedAdamW(groups(parameters), 1e-2, 1e-8)
    for number in range(1, 4):
        trajectory(optimizer, 1)
        assert [optimizer.state[p]["step"].item() for p in parameters] == [number] * 2


def test_a_state_holds_the_step_and_moments_in_the_type_of_their_weight():
    model = bfloat16_model()
    optimizer = make_optimizer(model, 1e-3, 0.1)
    trajectory(optimizer, 1)
    for name, parameter in model.named_parameters():
        narrow = "norm" not in name and name != "positions"
        assert parameter.dtype == (torch.bfloat16 if narrow else torch.float32), name
        state = optimizer.state[parameter]
        assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
        assert state["step"].dtype == torch.float32
        for moment in (state["exp_avg"], state["exp_avg_sq"]):
            assert (moment.dtype, moment.shape) == (parameter.dtype, parameter.shape), name
            assert moment.abs().sum() > 0


def test_a_weight_without_a_gradient_stays_as_it_was():
    still, moved = weights((3, 2), (2,))
    before = [still.clone(), moved.clone()]
    optimizer = RoundedAdamW([{"params": [still, moved], "weight_decay": 0.5}], 1e-2, 1e-8)
    moved.grad = torch.ones_like(moved)
    optimizer.step()
    assert torch.equal(still, before[0])
    assert optimizer.state[still]["step"] == 0
    assert (moved != before[1]).all()


def test_a_number_is_rounded_to_its_two_neighbours_and_to_itself_on_average():
    n = 40_000
    for exact in (1.001, -1.001, 3.14159, -2.71828e-3, 1e30, 255.99):
        below = bits(torch.tensor(exact).view(torch.int32).item() & -(2**16))  # nearer to zero
        above = bits(below.view(torch.int32).item() + 2**16)
        found = round_stochastically(torch.full((n,), exact))
        assert found.dtype == torch.bfloat16
        assert set(found.float().tolist()) == {below.item(), above.item()}
        share = (exact - below.item()) / (above - below).item()
        error = math.sqrt(share * (1 - share) / n)
        assert abs((found.float() == above).double().mean() - share) < 4 * error + 2**-16
        if 0.01 < abs(exact) < 1000:
            mean_error = error * abs((above - below).item())
            assert abs(found.double().mean() - exact) < 5 * mean_error


def test_numbers_that_bfloat16_holds_stay():
    exact = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, -3.0, 2.0**-130, math.inf, -math.inf])
    expected = exact.clone()
    for _ in range(200):
        found = round_stochastically(exact.clone()).float()
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32))


def test_what_is_not_a_number_stays_so():
    exact = bits(0x7FC00000, 0x7FFFFFFF, 0xFFC00000 - 2**32, -1)  # the second is CUDA's
    assert exact.isnan().all()
    for _ in range(20):
        assert round_stochastically(exact.clone()).isnan().all()


def test_roundings_follow_from_the_seed_and_differ_between_elements():
    exact = torch.full((1000,), 1.003)
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(round_stochastically(exact.clone()))
    same = [torch.equal(one, other) for one, other in pairwise(found)]
    assert same == [True, False]
    assert len(found[0].unique()) == 2
