import math
import os
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from patchscale import checkpoint
from patchscale.cell import Inputs, assemble
from patchscale.config import Best, Model
from patchscale.errors import InputError, Stopped
from patchscale.model import PatchTST
from patchscale.train import (
    Settings,
    Trained,
    epoch_batches,
    learning_rate,
    log_loss,
    make_optimizer,
    predict,
    predict_logits,
    refuse_if_large,
    train,
)

SETTINGS = Settings(
    lr=5e-3,
    weight_decay=0.01,
    warmup_steps=4,
    epochs=5,
    batch_size=32,
    patience=10,
    min_delta=0.0,
    clip=1.0,
)
N_TRAIN, N_VAL = 160, 80


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def problem(*, learnable: bool = True) -> Inputs:
    """Return a tiny cell whose label is the sign of the last bar, or a coin."""
    random = np.random.default_rng(0)
    n = 300
    table = pd.DataFrame(random.standard_normal((n, 2)), columns=["a", "b"])
    table.insert(0, "date", pd.bdate_range("2010-01-04", periods=n))
    label = table["a"] > 0 if learnable else random.random(n) < 0.5
    split = pd.DataFrame({"date": table["date"], "label": np.asarray(label, dtype=float)})[5:]
    names = ["train"] * N_TRAIN + ["purged"] * 5 + ["val"] * N_VAL
    split["contiguous"] = names + ["test"] * (len(split) - len(names))
    model = Model(
        budget="tiny",
        horizon="h1",
        context_length=6,
        patch_length=3,
        stride=3,
        normalisation="kind",
    )
    best = Best(
        cell="tiny-h1",
        trial=0,
        n_params=1000,
        d_model=8,
        n_layers=2,
        n_heads=2,
        d_ff=16,
        lr=0.01,
        dropout=0.1,
        weight_decay=0.0,
        warmup_steps=0,
        epochs=1,
    )
    kinds = {"a": "stationary", "b": "stationary"}
    return assemble(table, kinds, split, model, best)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return problem()


@pytest.fixture(scope="module")
def noise() -> Inputs:
    return problem(learnable=False)


def fit(inputs: Inputs, settings: Settings, path: Path, seed: int = 0, **options) -> Trained:
    options.setdefault("report", lambda line: None)
    return train(inputs, settings, seed, path / "state.pt", **options)


def same(one: Trained, other: Trained) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return one.history == other.history and all(
        torch.equal(tensor, theirs[name]) for name, tensor in ours.items()
    )


def test_a_label_of_the_last_bar_is_learned_better_than_the_prior(inputs, tmp_path):
    trained = fit(inputs, replace(SETTINGS, lr=1e-2, epochs=12), tmp_path)
    share = float(inputs.train.labels.mean())
    labels = inputs.val.labels
    prior = float(-(labels * math.log(share) + (1 - labels) * math.log(1 - share)).mean())
    assert trained.history[trained.best_epoch - 1]["val_log_loss"] < 0.5 * prior
    p = predict(trained.model, inputs.windows, inputs.val.rows)
    assert ((p > 0.5) == (labels == 1)).float().mean() > 0.9


def test_the_weights_of_the_best_epoch_are_returned_not_those_of_the_last(noise, tmp_path):
    trained = fit(noise, replace(SETTINGS, lr=3e-2, epochs=12, patience=50), tmp_path)
    values = [epoch["val_log_loss"] for epoch in trained.history]
    assert len(values) == 12
    assert trained.best_epoch == values.index(min(values)) + 1
    assert values[-1] > min(values) + 0.01  # else the last would pass for the best
    again = log_loss(predict_logits(trained.model, noise.windows, noise.val.rows), noise.val.labels)
    assert again == min(values)


def test_training_stops_patience_epochs_after_the_last_gain(noise, tmp_path):
    settings = replace(SETTINGS, lr=3e-2, epochs=40, patience=4)
    trained = fit(noise, settings, tmp_path)
    assert len(trained.history) == trained.best_epoch + 4 < 40


def test_a_gain_below_min_delta_does_not_count(inputs, tmp_path):
    trained = fit(inputs, replace(SETTINGS, epochs=8, patience=2, min_delta=10.0), tmp_path)
    values = [epoch["val_log_loss"] for epoch in trained.history]
    assert len(values) == 3
    assert values[2] < values[0]
    assert trained.best_epoch == values.index(min(values)) + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_to_the_very_bits_of_an_uninterrupted_one(inputs, tmp_path, number):
    whole = fit(inputs, SETTINGS, tmp_path / "whole")
    lines = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if line.startswith("epoch 2/"):
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped, match="2 epochs are kept"):
        fit(inputs, SETTINGS, tmp_path / "cut", report=interrupt)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len(lines) == 2

    resumed = fit(inputs, SETTINGS, tmp_path / "cut", report=lines.append)
    assert lines[2] == "resumed after epoch 2"
    assert len(lines) == 3 + SETTINGS.epochs - 2
    assert same(whole, resumed)


def test_a_finished_state_gives_the_same_model_without_training(noise, tmp_path):
    settings = replace(SETTINGS, lr=3e-2)
    first, lines = fit(noise, settings, tmp_path), []
    again = fit(noise, settings, tmp_path, report=lines.append)
    assert lines == ["resumed after epoch 5"]
    assert same(first, again)


def test_a_seed_fixes_every_bit(inputs, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    first, again, other = (
        fit(inputs, settings, tmp_path / str(run), seed) for run, seed in enumerate((0, 0, 1))
    )
    assert same(first, again)
    assert first.history != other.history


def test_training_does_not_depend_on_draws_made_before_it(inputs, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    first = fit(inputs, settings, tmp_path / "a")
    torch.rand(17)
    assert same(first, fit(inputs, settings, tmp_path / "b"))


def test_timing_the_first_steps_leaves_no_trace(inputs, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    untimed = fit(inputs, settings, tmp_path / "a")
    assert same(untimed, fit(inputs, settings, tmp_path / "b", max_hours=100.0))


def test_the_rate_warms_up_linearly_then_falls_to_a_tenth():
    settings = replace(SETTINGS, lr=1e-3, warmup_steps=10)
    rates = [learning_rate(step, 110, settings) for step in range(111)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[4] == pytest.approx(5e-4)
    assert rates[9] == rates[10] == 1e-3
    assert rates[60] == pytest.approx((1e-3 + 1e-4) / 2)
    assert rates[110] == pytest.approx(1e-4)
    assert all(np.diff(rates[10:]) < 0)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate(0, 10, replace(SETTINGS, lr=1e-3, warmup_steps=0)) == 1e-3


def test_weight_decay_reaches_the_matrices_and_nothing_else(inputs):
    model = PatchTST(inputs.shape)
    optimizer = make_optimizer(model, replace(SETTINGS, weight_decay=0.37))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    found = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, value in found.items():
        matrix = name.endswith("weight") and "norm" not in name
        assert value == (0.37 if matrix else 0.0), name
    assert found["embed.weight"] == found["layers.1.down.weight"] == 0.37
    assert found["positions"] == found["norm.weight"] == found["head.bias"] == 0.0


# min_delta 10 with patience 1 ends the base run after epoch 2 of 3, so both show when they change
BASE = replace(SETTINGS, epochs=3, patience=1, min_delta=10.0)
CHANGES = {
    "lr": 4e-3,
    "weight_decay": 0.5,
    "warmup_steps": 9,
    "epochs": 4,
    "batch_size": 40,
    "patience": 2,
    "min_delta": 0.0,
    "clip": 0.01,
}


@pytest.fixture(scope="module")
def base_run(inputs, tmp_path_factory) -> Trained:
    return fit(inputs, BASE, tmp_path_factory.mktemp("base"))


def test_the_changes_cover_every_setting():
    assert set(CHANGES) == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_consumed(inputs, base_run, tmp_path, name):
    changed = fit(inputs, replace(BASE, **{name: CHANGES[name]}), tmp_path)
    assert not same(base_run, changed)


def test_epoch_batches_are_a_permutation_of_seed_and_epoch():
    batches = epoch_batches(70, 32, 3, 5)
    assert [len(batch) for batch in batches] == [32, 32, 6]
    flat = torch.cat(batches)
    assert torch.equal(flat.sort().values, torch.arange(70))
    assert torch.equal(flat, torch.cat(epoch_batches(70, 32, 3, 5)))
    assert not torch.equal(flat, torch.cat(epoch_batches(70, 32, 3, 6)))
    assert not torch.equal(flat, torch.cat(epoch_batches(70, 32, 4, 5)))


def test_only_labels_of_train_and_validation_are_assembled(inputs):
    assert len(inputs.train.rows) == N_TRAIN
    assert len(inputs.val.rows) == N_VAL
    assert inputs.train.rows.max() < inputs.val.rows.min()
    assert set(inputs.judged["subset"]) == {"val", "test"}
    assert len(inputs.judged) == len(inputs.judged_rows) == 300 - 5 - N_TRAIN - 5


def test_the_reported_training_loss_weights_batches_by_their_size(inputs, tmp_path):
    # a rate of nearly zero: all batches of the epoch are scored by one model
    settings = replace(SETTINGS, lr=1e-12, epochs=1, batch_size=150)
    still = replace(inputs, shape=replace(inputs.shape, dropout=0.0))
    trained = fit(still, settings, tmp_path)
    logits = predict_logits(trained.model, still.windows, still.train.rows)
    assert trained.history[0]["train_log_loss"] == pytest.approx(
        log_loss(logits, still.train.labels), abs=1e-6
    )


def test_a_run_too_long_is_refused_in_one_line_before_an_epoch(inputs, tmp_path):
    lines = []
    with pytest.raises(InputError, match="allow it with PATCHSCALE_MAX_HOURS=") as raised:
        fit(inputs, SETTINGS, tmp_path, max_hours=1e-9, report=lines.append)
    assert "\n" not in str(raised.value)
    assert lines == []
    assert not (tmp_path / "state.pt").exists()


def test_a_model_larger_than_memory_is_refused_with_its_size():
    with pytest.raises(InputError, match=r"^10,000,000,000,000 parameters need .* GiB") as raised:
        refuse_if_large(10**13)
    assert "\n" not in str(raised.value)
    refuse_if_large(1000)


def test_a_loss_that_is_not_finite_ends_training(inputs, tmp_path):
    labels = torch.full_like(inputs.val.labels, math.nan)
    broken = replace(inputs, val=replace(inputs.val, labels=labels))
    with pytest.raises(FloatingPointError, match="diverged in epoch 1"):
        fit(broken, SETTINGS, tmp_path)
    assert checkpoint.load_state(tmp_path / "state.pt") is None
