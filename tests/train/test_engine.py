import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import SETTINGS, problem
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from walked import BEST

from patchscale.model.patchtst import PatchTST
from patchscale.model.weights import build
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.study.errors import InputError
from patchscale.study.params import Train
from patchscale.train import device, memory
from patchscale.train import settings as train_settings
from patchscale.train.engine import Engine, log_loss
from patchscale.train.inputs import Inputs
from patchscale.train.memory import Plan
from patchscale.train.schedule import epoch_batches
from patchscale.train.settings import WORTH_COMPILING as MUCH
from patchscale.train.settings import device_of_this_machine, settings_for, worth_compiling

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")
RULES = Train(batch_size=32, warmup=0.1, patience=0, min_delta=0.0, clip=1.0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return problem()


@pytest.fixture(scope="module")
def still() -> Inputs:
    return problem(dropout=0.0)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(ones: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return ones.keys() == others.keys() and all(
        value.dtype == others[name].dtype and torch.equal(value, others[name])
        for name, value in ones.items()
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_are_a_function_of_the_seed(inputs, precision):
    first = weights(build(inputs.shape, precision, 3))
    torch.rand(7)
    assert equal(first, weights(build(inputs.shape, precision, 3)))
    assert not equal(first, weights(build(inputs.shape, precision, 4)))


def test_float32_weights_are_drawn_as_by_the_model_itself(inputs):
    model = PatchTST(inputs.shape)
    torch.manual_seed(3)
    model.initialise()
    for precision in ("32-true", "bf16-mixed"):
        assert equal(weights(model), weights(build(inputs.shape, precision, 3)))


class Float32Sizes(TorchDispatchMode):
    """Notes the sizes of all float32 tensors that come into being with memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def __torch_dispatch__(self, function, types, words=(), named=None):
        result = function(*words, **(named or {}))
        if isinstance(result, Tensor) and result.device.type != "meta":
            self.sizes |= {result.numel()} if result.dtype == torch.float32 else set()
        return result


def test_bfloat16_weights_never_exist_in_float32(inputs):
    with Float32Sizes() as seen:
        model = build(inputs.shape, "bf16-true", 0)
    linears = {id(each.weight) for each in model.modules() if isinstance(each, nn.Linear)}
    linears |= {id(each.bias) for each in model.modules() if isinstance(each, nn.Linear)}
    for parameter in model.parameters():
        expected = torch.bfloat16 if id(parameter) in linears else torch.float32
        assert parameter.dtype == expected
    d = inputs.shape.d_model
    assert seen.sizes == {d, inputs.shape.n_patches * d}  # norms and positions
    with Float32Sizes() as seen:
        build(inputs.shape, "32-true", 0)
    assert 3 * d * d in seen.sizes


@pytest.mark.parametrize("precision", PRECISIONS)
def test_moments_are_as_narrow_as_the_weights(inputs, precision):
    engine = Engine(inputs, replace(SETTINGS, precision=precision), 0)
    engine.step(torch.arange(32), 1e-3)
    for parameter in engine.model.parameters():
        state = engine.optimizer.state[parameter]
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == parameter.dtype
    assert engine.model.embed.weight.dtype == (
        torch.bfloat16 if precision == "bf16-true" else torch.float32
    )


@pytest.mark.parametrize("clip", [0.05, 1e9])
@pytest.mark.parametrize("micro_batch", [32, 7])
def test_a_step_is_the_textbook_one(still, clip, micro_batch):
    settings = replace(SETTINGS, clip=clip, weight_decay=0.3)
    engine = Engine(still, settings, 0)
    engine.follow(Plan(micro_batch, False, 0))
    model = build(still.shape, "32-true", 0, still.train.base_rate)
    width, depth = still.shape.d_model, still.shape.n_layers
    parts = []
    for name, each in model.named_parameters():
        share = 64 / each.shape[1] if is_matrix(name) else 1.0
        decay = 0.3 / share if is_matrix(name) else 0.0
        parts.append({"params": [each], "share": share, "weight_decay": decay})
    optimizer = torch.optim.AdamW(
        parts, lr=1.0, betas=(0.9, 0.95), eps=1e-8 * 64 / width / depth, foreach=False
    )
    norms = []
    for batch, rate in zip(
        epoch_batches(160, 32, 0, 0), (1e-3, 2e-3, 0.0, 5e-3, 1e-3), strict=True
    ):
        loss = engine.step(batch, rate)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.zero_grad()
        logits = model(still.windows(still.train.rows[batch]))
        expected = F.binary_cross_entropy_with_logits(logits, still.train.labels[batch])
        expected.backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), clip)))
        optimizer.step()
        assert float(loss) == pytest.approx(float(expected.detach()), abs=1e-6)
    assert (min(norms) > clip) == (clip < 1)  # else clipping would not show
    for name, value in model.named_parameters():
        assert torch.allclose(engine.model.get_parameter(name), value, rtol=0, atol=2e-5), name


def is_matrix(name: str) -> bool:
    return name.endswith("weight") and "norm" not in name


def test_mixed_precision_computes_in_bfloat16(still):
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        engine = Engine(still, replace(SETTINGS, precision=precision), 0)
        kinds: list[torch.dtype] = []
        engine.model.layers[0].up.register_forward_hook(
            lambda module, words, result, kinds=kinds: kinds.append(result.dtype)
        )
        losses.append(float(engine.step(torch.arange(32), 1e-3)))
        engine.validate()
        assert set(kinds) == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_mixed_precision_is_that_of_float32_where_bfloat16_is_only_emulated(still):
    steps = {}
    for precision, in_float32 in (("32-true", False), ("bf16-mixed", True)):
        settings = replace(SETTINGS, precision=precision, in_float32=in_float32)
        engine = Engine(still, settings, 0)
        steps[precision] = float(engine.step(torch.arange(32), 1e-3)), engine.validate()
    assert steps["bf16-mixed"] == steps["32-true"]


@pytest.mark.parametrize("emulated", [False, True])
def test_settings_say_that_a_cpu_without_bfloat16_computes_in_float32(still, monkeypatch, emulated):
    def supported() -> bool:
        return not emulated

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", supported, raising=False)
    monkeypatch.setattr(train_settings, "device_of_this_machine", lambda: "cpu")
    found = {
        precision: settings_for(BEST, RULES, precision, 100).in_float32 for precision in PRECISIONS
    }
    assert found == {"32-true": False, "bf16-mixed": emulated, "bf16-true": False}
    assert not device.emulates_bfloat16("cuda")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_rest_of_an_epoch_is_a_batch_of_its_own(still, precision):
    engine = Engine(still, replace(SETTINGS, precision=precision), 0)
    engine.follow(Plan(16, True, 0))
    rows = torch.tensor([3, 141, 59, 26, 5])
    engine.model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"):
        logits = engine.model(still.windows(still.train.rows[rows])).float()
    expected = log_loss(logits, still.train.labels[rows])
    engine.model.train()
    assert float(engine.step(rows, 1e-3)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_whose_loss_or_gradient_is_not_finite_returns_no_number(still, what):
    engine = Engine(still, SETTINGS, 0)
    if what == "loss":
        with torch.no_grad():
            engine.model.head.bias.fill_(math.nan)
    else:
        engine.model.positions.register_hook(lambda gradient: gradient / 0)
    assert math.isnan(engine.step(torch.arange(32), 1e-3))


def test_validation_is_the_log_loss_without_dropout(inputs):
    engine = Engine(inputs, SETTINGS, 0)
    engine.step(torch.arange(32), 1e-2)
    engine.model.eval()
    with torch.no_grad():
        p = torch.sigmoid(engine.model(inputs.windows(inputs.val.rows)).double())
    y = inputs.val.labels.double()
    expected = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    engine.model.train()
    assert engine.validate() == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_was_kept_goes_on_to_the_same_bits(inputs, tmp_path, precision):
    settings = replace(SETTINGS, precision=precision)
    batches = epoch_batches(160, 32, 0, 0)
    engine = Engine(inputs, settings, 0)
    for batch in batches[:3]:
        engine.step(batch, 5e-3)
    kept = Checkpoint(tmp_path)
    kept.save(engine.tensors(), {"step": 3, "history": []})
    losses = [engine.step(batch, 5e-3) for batch in batches[3:]]

    other = Engine(inputs, settings, 99)
    torch.rand(3)
    tensors, _ = kept.load("cpu", pytest.fail)
    mapped = {value.untyped_storage().data_ptr() for value in tensors.values()}
    other.restore(tensors)
    assert not {value.untyped_storage().data_ptr() for value in other.tensors().values()} & mapped
    assert [other.step(batch, 5e-3) for batch in batches[3:]] == losses
    assert equal(engine.tensors(), other.tensors())
    moments = [name for name in engine.tensors() if name.startswith("optimizer.exp_avg_sq.")]
    assert len(moments) == len(list(engine.model.parameters()))


def remembered(engine: Engine) -> tuple[dict[str, Tensor], list[Tensor | None], Tensor]:
    gradients = [parameter.grad for parameter in engine.model.parameters()]
    return weights(engine.model), gradients, torch.get_rng_state()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_trying_the_model_leaves_no_trace(inputs, precision):
    engine = Engine(inputs, replace(SETTINGS, precision=precision), 0)
    before = remembered(engine)
    engine.choose(2**40, [])
    assert engine.time_step(math.inf) > 0
    after = remembered(engine)
    assert equal(before[0], after[0])
    assert after[1] == [None] * len(after[1])
    assert torch.equal(before[2], after[2])
    assert all(state["step"] == 0 for state in engine.optimizer.state.values())


def test_the_whole_batch_is_the_first_choice_and_what_was_tried_is_not_chosen_again(inputs):
    engine = Engine(inputs, replace(SETTINGS, batch_size=64), 0)
    tried: list[Plan] = []
    for expected in [(64, False), (32, False), (64, True), (32, True), (16, True)]:
        tried.append(engine.choose(2**40, tried))
        assert (tried[-1].micro_batch, tried[-1].recompute) == expected
    whole = Engine(inputs, replace(SETTINGS, batch_size=1000), 0).choose(2**40, [])
    assert whole.micro_batch == len(inputs.train.rows)
    with pytest.raises(InputError, match="parameters need"):
        engine.choose(memory.BYTES_PER_WEIGHT["32-true"] * inputs.shape.n_params, [])


def test_a_step_is_timed_as_it_will_be_made_but_not_for_long(inputs, monkeypatch):
    timed: list[int] = []

    def time(self: Engine, rows: Tensor) -> float:
        timed.append(len(rows))
        return 0.001 * len(rows)

    monkeypatch.setattr(Engine, "_time", time)
    engine = Engine(inputs, replace(SETTINGS, batch_size=128), 0)
    assert engine.time_step(1.0) == pytest.approx(0.128)
    engine.follow(Plan(64, False, 0))
    assert engine.time_step(1.0) == pytest.approx(0.128)
    assert timed == [32, 128, 32, 64]
    timed.clear()
    assert engine.time_step(0.031) == pytest.approx(0.032)
    assert timed == [32]


def test_hours_are_those_of_bare_products_where_these_are_too_many(inputs, monkeypatch):
    engine = Engine(inputs, SETTINGS, 0)
    assert 0 < engine._bare_products() < 60
    monkeypatch.setattr(Engine, "time_step", lambda self, most: 2.0)
    monkeypatch.setattr(Engine, "_bare_products", lambda self: 1.0)
    assert engine.hours(3600, limit=1.0) == 2.0
    assert engine.hours(3600, limit=0.5) == 1.0


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Let this machine have headers, a compiler and Triton, and let all compilations succeed."""
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("PATCHSCALE_COMPILE", raising=False)
    monkeypatch.setattr(device.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(device.shutil, "which", lambda name: name == "g++" and "/usr/bin/g++")
    monkeypatch.setattr(device, "find_spec", lambda name: name == "triton" or None)
    monkeypatch.setattr(device, "_fault", lambda name: "")
    device.can_compile.cache_clear()
    yield tmp_path
    device.can_compile.cache_clear()


def test_compiling_is_worth_it_for_many_steps_of_many_weights(compiler, capsys, monkeypatch):
    assert worth_compiling(MUCH, "cpu")
    assert worth_compiling(MUCH, "cuda")
    assert not worth_compiling(MUCH - 1, "cpu")
    assert not worth_compiling(MUCH, "mps")
    monkeypatch.setenv("PATCHSCALE_COMPILE", "0")
    assert not worth_compiling(MUCH, "cpu")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("cpu", {"which": lambda name: None}, "there is no C++ compiler"),
        ("cpu", {"get_paths": lambda: {"include": "/nowhere"}}, "the header Python.h is missing"),
        ("cuda", {"find_spec": lambda name: None}, "Triton is not installed"),
        ("cpu", {"_fault": lambda name: "g++: error: broken"}, "g++: error: broken"),
    ],
)
def test_why_layers_are_not_compiled_is_said_once(
    compiler, capsys, monkeypatch, kind, change, reason
):
    homes = {"which": device.shutil, "get_paths": device.sysconfig}
    for name, value in change.items():
        monkeypatch.setattr(homes.get(name, device), name, value)
    assert [worth_compiling(MUCH, kind) for _ in range(3)] == [False] * 3
    told = capsys.readouterr().err
    assert told == f"layers are not compiled, which takes longer: {reason}\n"


def test_a_cache_that_cannot_be_written_is_left(capsys, monkeypatch, tmp_path):
    for folder in (tmp_path / "new/cache", Path("/dev/null/cache")):
        monkeypatch.setenv(device.CACHE, str(folder))
        device.leave_unwritable_cache()
        device.leave_unwritable_cache()
    assert device.CACHE not in os.environ
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{device.CACHE}: '/dev/null/cache' cannot be written (Not a directory)")


class CompilerFailed(RuntimeError):
    def __init__(self, inner: Exception) -> None:
        self.inner_exception = inner
        super().__init__(f"{inner}\n\nSet TORCHDYNAMO_VERBOSE=1")


class Output(RuntimeError):
    output = "In file x:\n/tmp/y.cpp:3: fatal error: cannot write:  No space left\nmore\n"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CompilerFailed(RuntimeError("No working C++ compiler\n")), "No working C++ compiler"),
        (CompilerFailed(Output()), "/tmp/y.cpp:3: fatal error: cannot write: No space left"),
        (OSError(30, "Read-only file system", "/x"), "[Errno 30] Read-only file system: '/x'"),
        (ValueError(), "ValueError"),
        (RuntimeError("word " * 100), ("word " * 39).strip() + " ..."),
    ],
)
def test_the_reason_of_a_failed_compilation_is_one_line(error, reason):
    assert device.why_not_compiled(error) == reason


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_taken(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device_of_this_machine() == expected
