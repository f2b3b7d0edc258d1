import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import N_TRAIN, N_VAL, SETTINGS, STEPS, problem
from torch import Tensor

from patchscale.model.patchtst import Layer, PatchTST, predict, predict_logits
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.study.errors import Diverged, InputError, Stopped
from patchscale.train import loop, memory
from patchscale.train.callbacks import Callbacks
from patchscale.train.engine import Engine, log_loss
from patchscale.train.inputs import Inputs
from patchscale.train.loop import Trained, train
from patchscale.train.memory import Plan
from patchscale.train.schedule import epoch_batches, learning_rate
from patchscale.train.settings import Settings


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass
class Witness(Callbacks):
    """Callbacks that record all calls and request a stop after `stop_after` steps."""

    stop_after: float = math.inf
    lines: list[str] = field(default_factory=list)
    beats: list[dict[str, float]] = field(default_factory=list)
    opened: list[list[dict[str, float]]] = field(default_factory=list)
    logged: list[dict[str, float]] = field(default_factory=list)

    def report(self, line: str) -> None:
        self.lines.append(line)

    def heartbeat(self, **state: float) -> None:
        self.beats.append(state)

    def stop_reason(self) -> str:
        steps = sum(beat["step"] > 0 for beat in self.beats)
        return "asked to" if steps >= self.stop_after else ""

    @contextmanager
    def track(self, past: list[dict[str, float]]) -> Iterator[Callable[[dict[str, float]], None]]:
        self.opened.append(list(past))
        yield self.logged.append


def fit(
    inputs: Inputs,
    settings: Settings,
    path: Path,
    seed: int = 0,
    witness: Witness | None = None,
    **options: float,
) -> Trained:
    callbacks = witness or Witness()
    return train(inputs, settings, seed, Checkpoint(path), callbacks=callbacks, **options)


def bits(path: Path) -> tuple[object, dict[str, bytes]]:
    """Return the history a run kept and the bytes of its best weights and of its last state."""
    facts = json.loads((path / "state.json").read_text())
    kept = {facts[key]["file"] for key in ("state", "best")}
    return facts["history"], {name: (path / name).read_bytes() for name in kept}


def same(one: Path, other: Path) -> bool:
    return bits(one) == bits(other)


def best_model(inputs: Inputs, path: Path) -> PatchTST:
    model = PatchTST(inputs.shape)
    model.load_state_dict(Checkpoint(path).best())
    return model


def val_losses(trained: Trained) -> list[float]:
    return [epoch["val_log_loss"] for epoch in trained.history]


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return problem()


@pytest.fixture(scope="module")
def noise() -> Inputs:
    return problem(learnable=False)


@pytest.fixture(scope="module")
def still() -> Inputs:
    return problem(dropout=0.0)


def force_plan(monkeypatch: pytest.MonkeyPatch, micro_batch: int, *, recompute: bool) -> None:
    monkeypatch.setattr(memory, "choose", lambda *words: Plan(micro_batch, recompute, 0))


def step_through(
    monkeypatch: pytest.MonkeyPatch, around: Callable[[Engine, int, Callable[[], Tensor]], Tensor]
) -> None:
    """Let every step go through `around(engine, number from 1, step)`."""
    step, number = Engine.step, 0

    def counted(self: Engine, batch: Tensor, rate: float) -> Tensor:
        nonlocal number
        number += 1
        return around(self, number, lambda: step(self, batch, rate))

    monkeypatch.setattr(Engine, "step", counted)


def test_a_label_of_the_last_bar_is_learned_better_than_the_prior(inputs, tmp_path):
    trained = fit(inputs, replace(SETTINGS, lr=1e-2, epochs=12), tmp_path)
    share = float(inputs.train.labels.mean())
    labels = inputs.val.labels
    prior = float(-(labels * math.log(share) + (1 - labels) * math.log(1 - share)).mean())
    assert trained.history[trained.kept_epoch - 1]["val_log_loss"] < 0.5 * prior
    p = predict(best_model(inputs, tmp_path), inputs.windows, inputs.val.rows)
    assert ((p > 0.5) == (labels == 1)).float().mean() > 0.9


def test_the_weights_of_the_best_epoch_are_kept_not_those_of_the_last(noise, tmp_path):
    trained = fit(noise, replace(SETTINGS, lr=3e-2, epochs=12, patience=50), tmp_path)
    values = val_losses(trained)
    assert len(values) == 12
    assert trained.kept_epoch == values.index(min(values)) + 1
    assert values[-1] > min(values) + 0.01  # else the last would pass for the best
    logits = predict_logits(best_model(noise, tmp_path), noise.windows, noise.val.rows)
    assert log_loss(logits, noise.val.labels) == min(values)


def test_training_stops_patience_epochs_after_the_last_gain(noise, tmp_path):
    trained = fit(noise, replace(SETTINGS, lr=3e-2, epochs=40, patience=4), tmp_path)
    assert len(trained.history) == trained.kept_epoch + 4 < 40


def test_a_gain_below_min_delta_does_not_count(inputs, tmp_path):
    trained = fit(inputs, replace(SETTINGS, epochs=8, patience=2, min_delta=10.0), tmp_path)
    values = val_losses(trained)
    assert len(values) == 3
    assert values[2] < values[0]
    assert trained.kept_epoch == values.index(min(values)) + 1


def test_a_seed_fixes_every_bit(inputs, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    for run, seed in enumerate((0, 0, 1)):
        fit(inputs, settings, tmp_path / str(run), seed)
    assert same(tmp_path / "0", tmp_path / "1")
    assert not same(tmp_path / "0", tmp_path / "2")


def test_every_epoch_has_batches_of_its_own_and_every_step_its_rate(inputs, tmp_path, monkeypatch):
    found: list[tuple[list[int], float]] = []
    step = Engine.step

    def noted(self: Engine, batch: Tensor, rate: float) -> Tensor:
        found.append((batch.tolist(), rate))
        return step(self, batch, rate)

    monkeypatch.setattr(Engine, "step", noted)
    settings = replace(SETTINGS, epochs=3)
    fit(inputs, settings, tmp_path, seed=6)
    batches = [batch for epoch in range(3) for batch in epoch_batches(N_TRAIN, 32, 6, epoch)]
    assert found == [
        (batch.tolist(), learning_rate(number, 3 * STEPS, settings))
        for number, batch in enumerate(batches)
    ]


def test_training_does_not_depend_on_draws_made_before_it(inputs, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    fit(inputs, settings, tmp_path / "a")
    torch.rand(17)
    fit(inputs, settings, tmp_path / "b")
    assert same(tmp_path / "a", tmp_path / "b")


def test_timing_a_step_leaves_no_trace(inputs, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    fit(inputs, settings, tmp_path / "a")
    fit(inputs, settings, tmp_path / "b", max_hours=100.0)
    assert same(tmp_path / "a", tmp_path / "b")


def test_only_labels_of_train_and_validation_are_assembled(inputs):
    assert len(inputs.train.rows) == N_TRAIN
    assert len(inputs.val.rows) == N_VAL
    assert inputs.train.rows.max() < inputs.val.rows.min()
    assert set(inputs.judged["subset"]) == {"val", "test"}
    assert len(inputs.judged) == len(inputs.judged_rows) == 300 - 5 - N_TRAIN - 5


def test_the_reported_training_loss_weights_batches_by_their_size(still, tmp_path):
    # a rate of nearly zero: all batches of the epoch are scored by one model
    settings = replace(SETTINGS, lr=1e-12, epochs=1, batch_size=150)
    trained = fit(still, settings, tmp_path)
    logits = predict_logits(best_model(still, tmp_path), still.windows, still.train.rows)
    assert trained.history[0]["train_log_loss"] == pytest.approx(
        log_loss(logits, still.train.labels), abs=1e-6
    )


# min_delta 10 with patience 1 ends the base run after epoch 2 of 3, so both show when they change
BASE = replace(SETTINGS, epochs=3, patience=1, min_delta=10.0)
CHANGES = {
    "lr": 4e-3,
    "weight_decay": 0.5,
    "warmup": 0.5,
    "epochs": 4,
    "batch_size": 40,
    "patience": 2,
    "min_delta": 0.0,
    "clip": 0.01,
    "precision": "bf16-mixed",
}


@pytest.fixture(scope="module")
def base_run(inputs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base")
    fit(inputs, BASE, path)
    return path


def test_the_changes_cover_every_setting():
    # a device other than the CPU may not be there; the other two have tests of their own
    of_the_machine = {"device", "compiled", "in_float32"}
    assert {*CHANGES, *of_the_machine} == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_consumed(inputs, base_run, tmp_path, name):
    fit(inputs, replace(BASE, **{name: CHANGES[name]}), tmp_path)
    assert not same(base_run, tmp_path)


def test_the_three_precisions_differ(inputs, tmp_path):
    precisions = ("32-true", "bf16-mixed", "bf16-true")
    for precision in precisions:
        fit(inputs, replace(SETTINGS, epochs=1, precision=precision), tmp_path / precision)
    found = [bits(tmp_path / precision)[0] for precision in precisions]
    assert found[0] != found[1] != found[2] != found[0]
    assert all(
        each[0]["val_log_loss"] == pytest.approx(found[0][0]["val_log_loss"], abs=0.02)
        for each in found
    )


@pytest.fixture
def compiled_sizes(monkeypatch) -> list[int]:
    """Return where the batch sizes of all calls of compiled layers are noted."""
    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Callable[..., object]:
        tokens = next(each for each in examples if each.ndim == 3)  # (P, B, d)

        def called(*words: Tensor) -> object:
            sizes.append(tokens.shape[1])
            return graph(*words)

        return called

    def compile_with_backend(layer: Layer, *, dynamic: bool) -> None:
        torch.nn.Module.compile(layer, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(Layer, "compile", compile_with_backend)
    torch.compiler.reset()
    return sizes


@pytest.mark.parametrize("recompute", [True, False])
def test_compiled_layers_train_whole_micro_batches_and_nothing_else(
    inputs, tmp_path, monkeypatch, compiled_sizes, recompute
):
    # 48, 48, 48 and 16 samples: neither the 16, nor a timed step, nor validation is worth a graph
    force_plan(monkeypatch, 48, recompute=recompute)
    settings = replace(SETTINGS, epochs=2, batch_size=48)
    witness = Witness()
    eager = fit(inputs, settings, tmp_path / "eager", witness=witness, max_hours=100.0)
    assert "compiled" not in witness.lines[0]
    assert compiled_sizes == []
    settings, witness = replace(settings, compiled=True), Witness()
    trained = fit(inputs, settings, tmp_path / "compiled", witness=witness, max_hours=100.0)
    assert "compiled" in witness.lines[0]
    layers, micro_batches, epochs = 2, 3, 2
    assert compiled_sizes == [48] * layers * micro_batches * epochs * (1 + recompute)
    assert val_losses(trained) == pytest.approx(val_losses(eager), abs=1e-6)


@pytest.fixture(scope="module")
def whole_runs(inputs, tmp_path_factory) -> Callable[[str], Path]:
    """Return the directory of an uninterrupted run of a precision."""
    done: dict[str, Path] = {}

    def whole(precision: str) -> Path:
        if precision not in done:
            done[precision] = tmp_path_factory.mktemp(precision)
            fit(inputs, replace(SETTINGS, epochs=3, precision=precision), done[precision])
        return done[precision]

    return whole


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("steps", [1, 3, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 2])
def test_a_run_stopped_after_any_step_resumes_to_the_same_bits(
    inputs, tmp_path, whole_runs, precision, steps
):
    settings, witness = replace(SETTINGS, epochs=3, precision=precision), Witness(steps)
    with pytest.raises(Stopped, match=r"^asked to: stopped, every step is kept; .* resumes$"):
        fit(inputs, settings, tmp_path, witness=witness)
    kept = json.loads((tmp_path / "state.json").read_text())
    assert kept["step"] == steps
    assert len(kept["history"]) == len(witness.logged) == steps // STEPS

    torch.rand(5)
    resumed = Witness()
    trained = fit(inputs, settings, tmp_path, witness=resumed)
    assert resumed.lines[0] == f"resumed after epoch {steps // STEPS}, step {steps}"
    assert sum(beat["step"] > 0 for beat in resumed.beats) == 3 * STEPS - steps
    assert trained.history == bits(tmp_path)[0]
    assert same(whole_runs(precision), tmp_path)


def test_a_run_stopped_after_every_step_ends_with_the_same_bits(inputs, tmp_path, whole_runs):
    settings = replace(SETTINGS, epochs=3)
    for _ in range(3 * STEPS - 1):
        with pytest.raises(Stopped):
            fit(inputs, settings, tmp_path, witness=Witness(1))
    fit(inputs, settings, tmp_path, witness=Witness(1))
    assert same(whole_runs("32-true"), tmp_path)


def test_a_run_keeps_its_state_as_often_as_asked(inputs, tmp_path, monkeypatch, whole_runs):
    steps: list[int] = []
    save = Checkpoint.save

    def noted(self: Checkpoint, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
        steps.append(facts["step"])
        save(self, tensors, facts)

    monkeypatch.setattr(Checkpoint, "save", noted)
    settings = replace(SETTINGS, epochs=3)
    fit(inputs, settings, tmp_path / "rarely")
    assert steps == [STEPS, 2 * STEPS, 3 * STEPS]
    steps.clear()
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    fit(inputs, settings, tmp_path / "often")
    assert steps == list(range(1, 3 * STEPS + 1))
    assert same(tmp_path / "rarely", whole_runs("32-true"))
    assert same(tmp_path / "often", whole_runs("32-true"))


def test_a_finished_run_is_returned_without_training(inputs, tmp_path, whole_runs):
    settings, witness = replace(SETTINGS, epochs=3), Witness(0)
    first = fit(inputs, settings, tmp_path)
    before = bits(tmp_path)
    again = fit(inputs, settings, tmp_path, witness=witness)
    assert again == first
    assert witness.lines == [f"resumed after epoch 3, step {3 * STEPS}"]
    assert [beat["epoch"] for beat in witness.beats] == [3]  # where it is, for who looks on
    assert witness.logged == []
    assert bits(tmp_path) == before


def test_a_stop_asked_for_when_nothing_is_left_stops_nothing(inputs, tmp_path):
    settings, witness = replace(SETTINGS, epochs=2), Witness(2 * STEPS)
    assert len(fit(inputs, settings, tmp_path, witness=witness).history) == 2
    assert witness.stop_reason()
    impatient, witness = replace(BASE, epochs=3), Witness(2 * STEPS)
    assert len(fit(inputs, impatient, tmp_path / "b", witness=witness).history) == 2
    assert witness.stop_reason()


def test_a_stop_asked_for_before_the_first_step_leaves_nothing(inputs, tmp_path):
    with pytest.raises(Stopped):
        fit(inputs, SETTINGS, tmp_path, witness=Witness(0))
    assert list(tmp_path.iterdir()) == []


def test_damaged_state_is_said_and_the_run_starts_anew(inputs, tmp_path, whole_runs):
    settings, witness = replace(SETTINGS, epochs=3), Witness()
    with pytest.raises(Stopped):
        fit(inputs, settings, tmp_path, witness=Witness(7))
    (tmp_path / "state-7-1.safetensors").write_bytes(b"other")
    fit(inputs, settings, tmp_path, witness=witness)
    assert "damaged" in witness.lines[0]
    assert len(witness.beats) == 3 * (STEPS + 1)
    assert same(whole_runs("32-true"), tmp_path)


@pytest.mark.parametrize("batch_size", [32, 48])
def test_micro_batches_add_up_to_the_batch(still, tmp_path, monkeypatch, batch_size):
    found = []
    for divisor, recompute in [(1, False), (2, False), (4, False), (4, True), (5, False)]:
        force_plan(monkeypatch, batch_size // divisor, recompute=recompute)
        settings = replace(SETTINGS, epochs=2, batch_size=batch_size)
        trained = fit(still, settings, tmp_path / f"{divisor}{recompute}")
        assert trained.plan == Plan(batch_size // divisor, recompute, 0)
        found.append([list(epoch.values()) for epoch in trained.history])
    assert np.ptp(np.array(found), axis=0).max() < 1e-6


def test_recomputed_activations_drop_the_same_units(inputs, tmp_path, monkeypatch):
    for recompute in (True, False):
        force_plan(monkeypatch, 32, recompute=recompute)
        fit(inputs, replace(SETTINGS, epochs=2), tmp_path / str(recompute))
    assert same(tmp_path / "True", tmp_path / "False")


def test_a_resumed_run_keeps_its_plan(inputs, tmp_path, monkeypatch):
    force_plan(monkeypatch, 16, recompute=True)
    with pytest.raises(Stopped):
        fit(inputs, SETTINGS, tmp_path, witness=Witness(2))
    force_plan(monkeypatch, 32, recompute=False)
    assert fit(inputs, SETTINGS, tmp_path).plan == Plan(16, True, 0)


def test_little_memory_makes_a_smaller_micro_batch(still, tmp_path):
    plenty = fit(still, replace(SETTINGS, epochs=1, batch_size=128), tmp_path / "a")
    model = memory.BYTES_PER_WEIGHT["32-true"] * still.shape.n_params
    free = int((model + (plenty.plan.expected - model) * 0.6) / (1 - memory.MARGIN))
    little = fit(still, replace(SETTINGS, epochs=1, batch_size=128), tmp_path / "b", free=free)
    assert plenty.plan.micro_batch == 128
    assert little.plan.micro_batch == 64
    assert val_losses(little) == pytest.approx(val_losses(plenty), abs=1e-6)


@pytest.mark.parametrize("since", [1, 2 * STEPS + 3])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
    ],
)
def test_a_run_out_of_memory_goes_on_in_smaller_pieces(still, tmp_path, monkeypatch, since, error):
    settings = replace(SETTINGS, batch_size=32)
    plain = fit(still, settings, tmp_path / "plain")

    def narrow(engine: Engine, number: int, step: Callable[[], Tensor]) -> Tensor:
        assert number < 100, "the same is tried again and again"
        if number >= since and engine.micro_batch > 8:
            raise error
        return step()

    step_through(monkeypatch, narrow)
    witness = Witness()
    trained = fit(still, settings, tmp_path / "narrow", witness=witness)
    assert trained.plan.micro_batch == 8
    assert trained.plan.recompute
    way = "out of memory with 32-true on cpu, micro-batch"
    recomputed = "recomputed activations"
    assert [line for line in witness.lines if line.startswith("out of memory")] == [
        f"{way} 32 x 1",
        f"{way} 32 x 1, {recomputed}",
        f"{way} 16 x 2, {recomputed}",
    ]
    done = since // STEPS
    assert [len(past) for past in witness.opened] == [0, done, done, done]
    assert trained.history[:done] == plain.history[:done]
    assert val_losses(trained) == pytest.approx(val_losses(plain), abs=1e-6)
    assert [row["val_log_loss"] for row in witness.logged] == val_losses(trained)


def test_a_run_for_which_nothing_is_small_enough_is_refused(inputs, tmp_path, monkeypatch):
    def never(engine: Engine, number: int, step: Callable[[], Tensor]) -> Tensor:
        assert number < 100, "the same is tried again and again"
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    step_through(monkeypatch, never)
    with pytest.raises(InputError, match=r"parameters need .* free here$"):
        fit(inputs, SETTINGS, tmp_path)


def test_another_error_is_passed_on(inputs, tmp_path, monkeypatch):
    def bug(engine: Engine, number: int, step: Callable[[], Tensor]) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    step_through(monkeypatch, bug)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(inputs, SETTINGS, tmp_path)


def finite(path: Path) -> bool:
    """Tell whether all that a run kept is finite."""
    return all(
        torch.isfinite(tensor).all()
        for file in path.glob("*.safetensors")
        for tensor in load_file(file).values()
    )


LOSS = "loss"
GRADIENT = "gradient"


@pytest.fixture
def explode(monkeypatch) -> Callable[[int, str], None]:
    """Return what lets the loss of a step, or only its gradient, not be finite."""

    def at(step: int, what: str) -> None:
        def around(engine: Engine, number: int, go: Callable[[], Tensor]) -> Tensor:
            if number == step and what == LOSS:
                with torch.no_grad():
                    engine.model.head.bias.fill_(math.nan)
            if number == step and what == GRADIENT:
                engine.model.embed.weight.register_hook(lambda gradient: gradient * math.inf)
            return go()

        step_through(monkeypatch, around)

    return at


@pytest.mark.parametrize("what", [LOSS, GRADIENT])
@pytest.mark.parametrize("often", [True, False])
@pytest.mark.parametrize("step", [STEPS + 1, STEPS + 3, 2 * STEPS])
def test_divergence_names_the_step_and_keeps_what_was_good(
    inputs, tmp_path, monkeypatch, explode, what, often, step
):
    if often:
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    explode(step, what)
    witness = Witness()
    with pytest.raises(Diverged) as raised:
        fit(inputs, SETTINGS, tmp_path, witness=witness)
    loss = witness.logged[-1]["val_log_loss"]
    assert str(raised.value) == (
        f"the loss of step {step} (epoch 2) or its gradient is not finite; last good: epoch 1, "
        f"validation log-loss {loss:.4f}; a lower lr or a longer warm-up may help"
    )
    kept = json.loads((tmp_path / "state.json").read_text())
    assert kept["step"] == (step - 1 if often else STEPS)
    assert [row["val_log_loss"] for row in kept["history"]] == [loss]
    assert finite(tmp_path)
    model = best_model(inputs, tmp_path)
    logits = predict_logits(model, inputs.windows, inputs.val.rows)
    assert log_loss(logits, inputs.val.labels) == loss


def test_where_losses_are_looked_at_late_nothing_that_is_not_finite_is_kept(
    inputs, tmp_path, monkeypatch, explode
):
    # "cpu:0" stands for a GPU, whose losses are looked at when a state is kept or an epoch ends
    settings = replace(SETTINGS, device="cpu:0")
    explode(STEPS + 2, LOSS)
    witness = Witness()
    with pytest.raises(Diverged, match=rf"step {STEPS + 2} \(epoch 2\)"):
        fit(inputs, settings, tmp_path / "a", witness=witness)
    assert witness.beats[-1]["step"] == STEPS
    explode(STEPS + 2, LOSS)
    with pytest.raises(Diverged, match=rf"step {STEPS + 2} \(epoch 2\)"):
        fit(inputs, settings, tmp_path / "b", witness=Witness(STEPS + 3))
    for path in (tmp_path / "a", tmp_path / "b"):
        assert finite(path)
        assert json.loads((path / "state.json").read_text())["step"] == STEPS


def test_divergence_in_the_first_epoch_leaves_nothing(inputs, tmp_path):
    labels = inputs.train.labels.clone()
    labels[:] = math.nan
    broken = replace(inputs, train=replace(inputs.train, labels=labels))
    with pytest.raises(
        Diverged, match=r"^the loss of step 1 \(epoch 1\).*; no epoch was finished.*; "
    ):
        fit(broken, SETTINGS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_validation_loss_that_is_not_finite_ends_training(inputs, tmp_path, monkeypatch):
    validate, number = Engine.validate, 0

    def third_time(self: Engine) -> float:
        nonlocal number
        number += 1
        return validate(self) if number < 3 else math.inf

    monkeypatch.setattr(Engine, "validate", third_time)
    with pytest.raises(Diverged, match=r"^the validation log-loss of epoch 3 is not finite; last "):
        fit(inputs, SETTINGS, tmp_path)
    assert len(bits(tmp_path)[0]) == 2


def test_trackers_get_every_epoch_once_and_in_order(inputs, tmp_path):
    first, second, third = Witness(STEPS + 2), Witness(STEPS + 3), Witness()
    for witness in (first, second):
        with pytest.raises(Stopped):
            fit(inputs, SETTINGS, tmp_path, witness=witness)
    trained = fit(inputs, SETTINGS, tmp_path, witness=third)
    assert [first.opened, second.opened] == [[[]], [first.logged]]
    assert third.opened == [first.logged + second.logged]
    rows = third.opened[0] + third.logged
    assert [{key: row[key] for key in trained.history[0]} for row in rows] == trained.history
    extra = {"seconds", "samples_per_second", "peak_memory_gib"}
    assert all(set(row) == {*trained.history[0], *extra} for row in rows)
    assert all(row[key] > 0 for row in rows for key in extra)


def test_the_seconds_of_an_interrupted_epoch_are_all_its_seconds(inputs, tmp_path, monkeypatch):
    clock = 0.0

    def slow(engine: Engine, number: int, step: Callable[[], Tensor]) -> Tensor:
        nonlocal clock
        clock += 10.0
        return step()

    step_through(monkeypatch, slow)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock)
    with pytest.raises(Stopped):
        fit(inputs, SETTINGS, tmp_path, witness=Witness(2))
    clock += 1e6
    witness = Witness()
    fit(inputs, SETTINGS, tmp_path, witness=witness)
    assert [row["seconds"] for row in witness.logged] == [10.0 * STEPS] * SETTINGS.epochs
    assert witness.logged[0]["samples_per_second"] == N_TRAIN / (10.0 * STEPS)
    assert [beat["seconds_left"] for beat in witness.beats[:4]] == [220, 210, 200, 200]
    assert {beat["samples_per_second"] for beat in witness.beats} == {3.2}


def test_the_temperature_is_tracked_where_there_is_one(inputs, tmp_path):
    witness = Witness()
    witness.celsius = lambda: 61.5
    fit(inputs, replace(SETTINGS, epochs=1), tmp_path, witness=witness)
    assert witness.logged[0]["temperature"] == 61.5


def test_beats_say_where_a_run_is(noise, tmp_path):
    witness = Witness()
    settings = replace(SETTINGS, lr=3e-2, epochs=3)
    trained = fit(noise, settings, tmp_path, witness=witness)
    assert trained.kept_epoch < 3  # else the best would be the last
    steps = [(epoch, step) for epoch in range(3) for step in range(1, STEPS + 1)]
    found = [(beat["epoch"], beat["step"]) for beat in witness.beats]
    assert [each for each in found if each[1]] == steps
    ends = [beat for beat in witness.beats if beat["step"] == 0]
    assert [beat["epoch"] for beat in ends] == [1, 2, 3]
    assert all(later >= earlier for earlier, later in pairwise(found))
    within = [beat for beat in witness.beats if beat["step"]]
    assert {(beat["epochs"], beat["steps"]) for beat in within} == {(3, STEPS)}
    losses = val_losses(trained)
    for number, beat in enumerate(ends, 1):
        assert beat["train_log_loss"] == trained.history[number - 1]["train_log_loss"]
        assert beat["val_log_loss"] == losses[number - 1]
        assert beat["best_val_log_loss"] == min(losses[:number])
        assert beat["best_epoch"] == losses.index(min(losses[:number])) + 1
    assert ends[-1]["seconds_left"] == 0
    assert all(beat["seconds_left"] > 0 for beat in witness.beats[:-2])


def test_plan_and_time_are_said_once_before_the_first_step(inputs, tmp_path):
    witness = Witness()
    fit(inputs, SETTINGS, tmp_path, witness=witness, max_hours=2.0)
    plan, time = witness.lines
    n_params = sum(parameter.numel() for parameter in PatchTST(inputs.shape).parameters())
    assert plan.startswith(
        f"N = {n_params:,}: 8 wide, 2 layers, 2 heads, d_ff 16; 32-true on cpu, micro-batch 32 x 1;"
    )
    assert plan.endswith(" available")
    steps = STEPS * SETTINGS.epochs
    assert re.fullmatch(rf"{steps} steps of a seed in about 0:\d\d:\d\d, by a timed step", time)


def test_a_run_too_long_is_refused_in_one_line_before_an_epoch(inputs, tmp_path):
    witness = Witness()
    with pytest.raises(InputError, match="allow it with PATCHSCALE_MAX_HOURS=") as raised:
        fit(inputs, SETTINGS, tmp_path, witness=witness, max_hours=1e-9)
    assert "\n" not in str(raised.value)
    assert witness.beats == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_under_way_is_not_refused_again(inputs, tmp_path):
    with pytest.raises(Stopped):
        fit(inputs, SETTINGS, tmp_path, witness=Witness(2))
    assert len(fit(inputs, SETTINGS, tmp_path, max_hours=1e-9).history) == SETTINGS.epochs


def test_a_model_larger_than_memory_is_refused_before_it_is_made(inputs, tmp_path, monkeypatch):
    huge = replace(inputs, shape=replace(inputs.shape, d_model=2**20, d_ff=2**21))
    monkeypatch.setattr(loop, "Engine", None)
    with pytest.raises(InputError, match=r"^17,[\d,]* parameters need .* GiB") as raised:
        fit(huge, SETTINGS, tmp_path)
    assert "\n" not in str(raised.value)
