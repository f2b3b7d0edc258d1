from dataclasses import astuple

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length

from patchscale.backtest.bootstrap import (
    CHUNK,
    DRAWS,
    Estimate,
    block_length,
    counts,
    drawn,
    estimates,
    interval,
    mean,
    mean_with_interval,
    optimal_length,
    p_value,
    total,
)


def autoregressive(n: int, seed: int = 5, memory: float = 0.8) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(n)
    series = np.zeros(n)
    for day in range(1, n):
        series[day] = memory * series[day - 1] + noise[day]
    return series


@pytest.mark.parametrize(("n", "block"), [(250, 20), (754, 20), (37, 24), (21, 80), (2, 20)])
def test_draws_equal_those_of_arch(n, block):
    chunks = counts(n, block)
    theirs = StationaryBootstrap(block, np.arange(n), seed=0).bootstrap(CHUNK + 50)
    for draw, (rows, _) in enumerate(theirs):
        ours = chunks[draw // CHUNK][draw % CHUNK]
        assert np.array_equal(ours, np.bincount(rows[0], minlength=n))


def test_every_draw_has_as_many_days_as_the_sample():
    chunks = counts(90, 20)
    assert sum(map(len, chunks)) == DRAWS
    assert all((chunk.sum(axis=1) == 90).all() for chunk in chunks)
    assert all((chunk >= 0).all() for chunk in chunks)


def test_draws_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        counts(90, 20)[0][0, 0] = 1


@pytest.mark.parametrize("n", [12, 37, 250, 754])
@pytest.mark.parametrize("memory", [0.0, 0.3, 0.8, 0.97, -0.5])
def test_the_optimal_length_equals_that_of_arch(n, memory):
    for seed in range(20):
        series = autoregressive(n, seed, memory)
        for daily in (series, series**2, (series > 0.8).astype(float)):
            if np.ptp(daily):
                theirs = optimal_block_length(daily)["stationary"].iloc[0]
                assert optimal_length(daily) == pytest.approx(theirs, abs=1e-9)


def test_the_optimal_length_grows_with_memory_and_has_a_limit():
    lengths = [optimal_length(autoregressive(754, memory=memory)) for memory in (0, 0.5, 0.9)]
    assert lengths == sorted(lengths)
    assert lengths[0] < 5 < 20 < lengths[2]
    noise = np.random.default_rng(0).standard_normal(251)
    assert optimal_length(np.diff(noise)) == 48  # 3 sqrt(n)
    assert optimal_length(np.diff(noise[:61])) == 20  # n / 3


@pytest.mark.parametrize("daily", [np.zeros(60), np.full(60, 0.1), np.ones(1), np.arange(2.0)])
def test_days_without_a_change_need_no_blocks(daily):
    assert optimal_length(daily) == 1


def test_blocks_are_whole_days_and_never_shorter_than_the_horizon():
    series = autoregressive(250)
    length = optimal_length(series)
    assert 5 < length < 30
    assert block_length(series, 1) == np.ceil(length)
    assert block_length(series, 60) == 60
    assert block_length(np.zeros(250), 1) == 1


def test_sums_and_means_weight_a_day_by_its_count():
    days, values = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]]), np.array([1.0, 2.0, 6.0])
    assert total(days, values).tolist() == [9, 6]
    assert mean(days, values).tolist() == [3, 2]


@pytest.mark.parametrize("horizon", [1, 40])
def test_the_interval_of_a_mean_equals_that_of_arch(horizon):
    series = autoregressive(400)
    found = mean_with_interval(series, horizon)
    block = block_length(series, horizon)
    theirs = StationaryBootstrap(block, series, seed=0).conf_int(
        np.mean, reps=DRAWS, method="percentile"
    )
    assert found.value == pytest.approx(series.mean())
    assert [found.low, found.high] == pytest.approx(theirs.ravel().tolist(), abs=1e-6)


def test_the_interval_is_wider_for_autocorrelated_days():
    series = autoregressive(400)
    width = np.diff(interval(drawn(lambda days: {"x": mean(days, series)}, 400, 20)["x"]))
    assert width > 1.5 * 2 * 1.96 * series.std() / np.sqrt(400)


def test_the_interval_of_a_constant_is_the_constant():
    assert mean_with_interval(np.full(60, 0.25), 3) == Estimate(0.25, 0.25, 0.25)


def test_two_series_of_the_same_days_share_their_draws():
    one, other = autoregressive(200, 1), autoregressive(200, 2)

    def draws(values: np.ndarray) -> np.ndarray:
        return drawn(lambda days: {"x": mean(days, values)}, 200, 20)["x"]

    assert draws(one) - draws(other) == pytest.approx(draws(one - other), abs=1e-5)
    common = draws(one + other) - draws(other)
    assert common == pytest.approx(draws(one), abs=1e-5)


def rare(share: float):
    """Return a statistic that is undefined in a share of the draws."""

    def statistic(days: np.ndarray) -> dict[str, np.ndarray]:
        place = np.arange(len(days)) / len(days)
        return {"x": np.where((place < share) & (len(days) > 1), np.nan, days[:, 0])}

    return statistic


def test_an_interval_needs_19_of_20_draws():
    held = estimates(rare(0.05), 50, 20)
    assert np.isfinite([held["x"].low, held["x"].high]).all()
    lost = estimates(rare(0.051), 50, 20)["x"]
    assert lost.value == 1.0
    assert np.isnan([lost.low, lost.high]).all()


def test_an_undefined_statistic_has_no_interval():
    row = estimates(lambda days: {"x": np.where(len(days) == 1, np.nan, days[:, 0])}, 50, 20)
    assert np.isnan(astuple(row["x"])).all()


def test_the_p_of_zero_counts_the_rarer_side_twice():
    assert p_value(np.arange(1.0, 1000.0)) == pytest.approx(2 / 1000)
    assert p_value(-np.arange(1.0, 1000.0)) == pytest.approx(2 / 1000)
    assert p_value(np.repeat([-1.0, 1.0], [100, 899])) == pytest.approx(2 * 101 / 1000)
    assert p_value(np.repeat([-1.0, 1.0], 500)) == 1
    assert p_value(np.zeros(10)) == 1
