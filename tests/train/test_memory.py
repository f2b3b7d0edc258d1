import math
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTST
from patchscale.study.errors import InputError
from patchscale.train import device, memory
from patchscale.train.memory import BYTES_PER_WEIGHT, MARGIN, Plan, activation_bytes, choose, plans

GIB = 2**30
SHAPE = replace(tiny.SHAPE, d_model=32, n_layers=6, d_ff=48, dropout=0.2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> PatchTST:
    return PatchTST(SHAPE).train()


def contexts(n: int) -> Tensor:
    return torch.randn(n, SHAPE.context_length, SHAPE.n_features)


def ways(*args) -> list[tuple[int, bool]]:
    return [(plan.micro_batch, plan.recompute) for plan in plans(*args)]


def test_the_whole_batch_comes_first_and_samples_are_divided_to_32_before_layers_recompute():
    expected = [(n, False) for n in (256, 128, 64, 32)]
    expected += [(n, True) for n in (256, 128, 64, 32, 16, 8, 4, 2, 1)]
    for precision in ("32-true", "bf16-mixed"):
        assert ways(256, 100, 10, 0, GIB, precision) == expected
    assert ways(20, 100, 10, 0, GIB, "32-true") == [
        (20, False),
        *[(n, True) for n in (20, 10, 5, 2, 1)],
    ]


def test_bfloat16_weights_recompute_the_whole_batch_before_it_is_divided():
    expected = [(128, False)] + [(n, True) for n in (128, 64, 32, 16, 8, 4, 2, 1)]
    assert ways(128, 100, 10, 0, GIB, "bf16-true") == expected


def test_a_plan_takes_the_margin_off_and_adds_what_every_sample_needs():
    # room for 1000 + 64 * 100 and not one byte more
    free = math.ceil((1000 + 64 * 100) / (1 - MARGIN))
    first = next(plans(256, 100, 10, 1000, free, "32-true"))
    assert first == Plan(64, False, 1000 + 64 * 100)
    assert next(plans(256, 100, 10, 1000, free - 2, "32-true")) == Plan(32, False, 1000 + 32 * 100)
    tight = math.ceil((1000 + 128 * 10) / (1 - MARGIN))
    assert next(plans(256, 100, 10, 1000, tight, "32-true")) == Plan(128, True, 1000 + 128 * 10)
    assert list(plans(256, 100, 10, 1000, 1000, "32-true")) == []


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    batch=st.integers(1, 1000),
    per_sample=st.integers(1, 10**6),
    share=st.floats(0.01, 1),
    static=st.integers(0, 10**8),
    free=st.integers(0, 10**9),
    precision=st.sampled_from(list(BYTES_PER_WEIGHT)),
)
def test_every_plan_fits_and_keeps_the_rules(batch, per_sample, share, static, free, precision):
    recomputed = math.ceil(share * per_sample)
    found = list(plans(batch, per_sample, recomputed, static, free, precision))
    assert len(set(found)) == len(found)
    assert found == sorted(found, key=lambda plan: (plan.recompute, -plan.micro_batch))
    for plan in found:
        needed = recomputed if plan.recompute else per_sample
        assert plan.expected == static + plan.micro_batch * needed <= free * (1 - MARGIN)
        assert 1 <= plan.micro_batch <= batch
        if not plan.recompute:
            assert plan.micro_batch >= (batch if precision == "bf16-true" else min(batch, 32))
    if static + batch * per_sample <= free * (1 - MARGIN):
        assert (found[0].micro_batch, found[0].recompute) == (batch, False)
    if static + recomputed <= free * (1 - MARGIN):  # one sample fits: there is a way
        assert (found[-1].micro_batch, found[-1].recompute) == (1, True)
    else:
        assert found == []


@pytest.mark.parametrize("samples", [1, 7])
def test_activations_are_what_autograd_keeps_counted_by_hand(samples):
    x = torch.randn(samples, 3)
    # inputs of both linear layers, and GELU's own input
    gelu = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2))
    assert activation_bytes(gelu, x) == 4 * samples * (3 + 5 + 5)
    # ReLU keeps its output, which is the input of the next layer: once
    relu = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    assert activation_bytes(relu, x) == 4 * samples * (3 + 5)
    # LayerNorm keeps its input, means and inverse spreads
    norm = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    assert activation_bytes(norm, x) == 4 * samples * (3 + 5 + 1 + 1)
    assert activation_bytes(relu.double(), x.double()) == 8 * samples * (3 + 5)


def test_activations_grow_linearly_with_samples(model):
    found = [activation_bytes(model, contexts(n)) for n in (1, 2, 3, 10)]
    assert found[1:] == [2 * found[0], 3 * found[0], 10 * found[0]]
    # at the least the inputs of all matrix products: norms, attention, GELU, for two patches
    widths = 3 * SHAPE.d_model + SHAPE.d_ff
    assert found[0] > 4 * SHAPE.n_patches * SHAPE.n_layers * widths


def grown(model: nn.Module) -> int:
    """Return the bytes a sample keeps, measured on more samples than `choose` takes."""
    kept = activation_bytes(model, contexts(48)) - activation_bytes(model, contexts(16))
    assert kept % 32 == 0
    return kept // 32


def planned(model: PatchTST, batch: int, free: int = GIB, **changes) -> Plan:
    given = {"precision": "32-true", "tried": []} | changes
    return choose(model, contexts, batch, free=free, **given)


def test_the_memory_expected_is_that_of_weights_and_of_every_sample(model):
    n_params = sum(parameter.numel() for parameter in model.parameters())
    for batch in (1, 8, 100):
        expected = 16 * n_params + batch * grown(model)
        assert planned(model, batch) == Plan(batch, False, expected)
    narrow = planned(model, 8, precision="bf16-true")
    assert narrow.expected == 8 * n_params + 8 * grown(model)


def test_autocasts_copies_of_weights_are_not_counted_for_every_sample(model):
    n_params = sum(parameter.numel() for parameter in model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert activation_bytes(model, contexts(1)) > n_params  # the copies are among them
        plan = planned(model, 64, precision="bf16-mixed")
        assert plan.expected == 20 * n_params + 64 * grown(model)


def test_less_memory_divides_the_batch_then_recomputes_then_is_refused(model):
    static = 16 * sum(parameter.numel() for parameter in model.parameters())
    a_sample = grown(model)

    def free(room: int) -> int:
        return math.ceil(room / (1 - MARGIN)) + 1

    assert planned(model, 256, free(static + 256 * a_sample)).micro_batch == 256
    half = planned(model, 256, free(static + 255 * a_sample))
    assert (half.micro_batch, half.recompute) == (128, False)
    less = planned(model, 256, free(static + 31 * a_sample))
    assert less.recompute
    layers = 4 * SHAPE.n_patches * SHAPE.d_model * SHAPE.n_layers + 2 * a_sample / SHAPE.n_layers
    assert less.micro_batch in (32, 64)
    assert less.expected == static + less.micro_batch * math.ceil(layers)
    with pytest.raises(InputError, match=r"parameters need 0\.\d GiB and activations") as raised:
        planned(model, 256, free(static))
    assert "\n" not in str(raised.value)


def test_plans_that_were_tried_are_passed_over_until_none_is_left(model):
    tried: list[Plan] = []
    for _ in range(8):
        tried.append(planned(model, 64, tried=tried))
    assert [(plan.micro_batch, plan.recompute) for plan in tried] == [
        (64, False),
        (32, False),
        *[(n, True) for n in (64, 32, 16, 8, 4, 2)],
    ]
    tried.append(planned(model, 64, tried=tried))
    with pytest.raises(InputError, match=r"are free here$"):
        planned(model, 64, tried=tried)


def test_a_model_larger_than_memory_is_refused_with_its_size():
    with pytest.raises(InputError, match=r"^2,000,000,000 parameters need 29\.8 GiB") as raised:
        memory.refuse_if_large(2 * 10**9, "32-true", 16 * GIB)
    assert "\n" not in str(raised.value)
    assert "in 32-true, 16.0 GiB of memory are free here" in str(raised.value)
    memory.refuse_if_large(2 * 10**9, "bf16-true", 20 * GIB)
    with pytest.raises(InputError, match="bf16-true"):  # 14.9 GiB of 16, less the margin
        memory.refuse_if_large(2 * 10**9, "bf16-true", 16 * GIB)


def test_memory_that_could_not_be_had_is_recognised():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert device.ran_out(raised.value)
    assert device.ran_out(torch.OutOfMemoryError("Allocation on device"))
    assert device.ran_out(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert device.ran_out(RuntimeError("DefaultCPUAllocator: not enough memory: you tried"))


def test_another_error_is_not_taken_for_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not device.ran_out(raised.value)


def container(path, limit: str, used: int, cached: int) -> None:
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{used}\n")
    stat = f"anon {used - cached}\nfile {cached + 5}\nactive_file {cached - 1}\ninactive_file 1\n"
    (path / "memory.stat").write_text(stat)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Give a machine with 10 GiB available and an empty folder for its container's limits."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GIB))
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    return tmp_path


def test_a_containers_limit_bounds_the_memory_available(machine):
    assert device.available("cpu") == 10 * GIB
    container(machine, str(4 * GIB), GIB, 1)
    assert device.available("cpu") == 3 * GIB + 1
    container(machine, str(40 * GIB), GIB, 1)
    assert device.available("cpu") == 10 * GIB
    container(machine, "max", GIB, 1)
    assert device.available("cpu") == 10 * GIB


def test_a_containers_cached_files_count_as_available(machine):
    container(machine, str(4 * GIB), 4 * GIB - 1, 2 * GIB)
    assert device.available("cpu") == 2 * GIB + 1


def test_memory_available_is_within_that_of_the_machine():
    assert 0 < device.available("cpu") <= psutil.virtual_memory().total


def test_the_peak_holds_what_was_given_back_since():
    before = device.peak("cpu")
    block = torch.ones(psutil.Process().memory_info().rss // 4 + 2**26, dtype=torch.uint8)
    held = psutil.Process().memory_info().rss
    del block
    peak = device.peak("cpu")
    assert peak >= before > 0
    assert peak >= 0.9 * held
    assert peak <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    "changes", [{}, {"n_layers": 1, "d_ff": 7}, {"n_features": 9, "stride": 1}]
)
def test_counted_parameters_are_those_of_a_model(changes):
    shape = replace(SHAPE, **changes)
    made = sum(parameter.numel() for parameter in PatchTST(shape).parameters())
    assert shape.n_params == made


def test_counting_makes_no_weights():
    before = device.peak("cpu")
    assert replace(SHAPE, d_model=2**13, n_layers=2).n_params > 2**29
    assert device.peak("cpu") - before < GIB
