import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.train.schedule import best_epoch, epoch_batches, learning_rate, patience_ended
from patchscale.train.settings import Settings

SETTINGS = Settings(
    lr=1e-3,
    weight_decay=0.01,
    warmup=0.1,
    epochs=5,
    batch_size=32,
    patience=10,
    min_delta=0.0,
    clip=1.0,
)
# eighths: sums and differences are exact, ties are frequent
LOSSES = st.lists(st.integers(0, 16).map(lambda eighths: eighths / 8), min_size=1, max_size=12)


def test_the_rate_warms_up_linearly_then_falls_to_zero_at_the_end():
    rates = [learning_rate(step, 100, SETTINGS) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[4] == pytest.approx(5e-4)
    assert rates[9] == 1e-3
    assert rates[54] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 45 / 91)) / 2)
    assert 0 < rates[99] < 1e-6
    assert learning_rate(100, 100, SETTINGS) == pytest.approx(0)
    assert all(np.diff(rates[9:]) < 0)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate(0, 10, replace(SETTINGS, warmup=0.0)) == 1e-3


@pytest.mark.parametrize("total", [1, 2, 5, 120, 480])
def test_every_step_of_a_run_however_short_has_a_rate_above_zero(total):
    rates = [learning_rate(step, total, SETTINGS) for step in range(total)]
    assert max(rates) == 1e-3
    assert min(rates) > 0


def test_epoch_batches_are_a_permutation_of_seed_and_epoch():
    batches = epoch_batches(70, 32, 3, 5)
    assert [len(batch) for batch in batches] == [32, 32, 6]
    flat = torch.cat(batches)
    assert torch.equal(flat.sort().values, torch.arange(70))
    assert torch.equal(flat, torch.cat(epoch_batches(70, 32, 3, 5)))
    assert not torch.equal(flat, torch.cat(epoch_batches(70, 32, 3, 6)))
    assert not torch.equal(flat, torch.cat(epoch_batches(70, 32, 4, 5)))


def test_epoch_batches_neither_follow_nor_touch_the_generator_of_dropout():
    torch.manual_seed(0)
    first = torch.cat(epoch_batches(70, 32, 3, 5))
    state = torch.get_rng_state()
    torch.rand(3)
    assert torch.equal(first, torch.cat(epoch_batches(70, 32, 3, 5)))
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())


def test_the_best_epoch_is_the_first_of_the_lowest():
    assert best_epoch([0.5]) == 1
    assert best_epoch([0.7, 0.5, 0.6, 0.5]) == 2


@settings(derandomize=True, deadline=None)
@given(LOSSES)
def test_the_best_epoch_is_that_of_a_loop_by_hand(losses):
    best = 1
    for epoch, loss in enumerate(losses, 1):
        if loss < losses[best - 1]:
            best = epoch
    assert best_epoch(losses) == best


def ended_by_hand(losses: list[float], patience: int, min_delta: float) -> bool:
    """Go through the last epochs and look for one that gained on all before them."""
    earlier, recent = losses[: len(losses) - patience], losses[len(losses) - patience :]
    if len(losses) <= patience:
        return False
    lowest = earlier[0]
    for loss in earlier:
        if loss < lowest:
            lowest = loss
    return not any(lowest - loss > min_delta for loss in recent)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(LOSSES, st.integers(1, 6), st.integers(0, 4).map(lambda eighths: eighths / 8))
def test_patience_ends_as_a_loop_by_hand_says(losses, patience, min_delta):
    assert patience_ended(losses, patience, min_delta) == ended_by_hand(losses, patience, min_delta)


def test_patience_ends_after_so_many_epochs_without_a_gain():
    losses = [0.9, 0.7, 0.8, 0.75, 0.71]
    assert [patience_ended(losses[:n], 3, 0.0) for n in range(1, 6)] == [False] * 4 + [True]
    assert not patience_ended([*losses[:4], 0.69], 3, 0.0)


def test_a_gain_of_min_delta_or_less_does_not_count():
    assert patience_ended([1.0, 0.875], 1, 0.25)
    assert patience_ended([1.0, 0.75], 1, 0.25)
    assert not patience_ended([1.0, 0.625], 1, 0.25)
    assert patience_ended([1.0, 1.0, 1.0], 2, 0.0)  # a loss that stands still
