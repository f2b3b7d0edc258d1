from dataclasses import astuple

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap

from patchscale.backtest.bootstrap import DRAWS
from patchscale.report.scaling import (
    EXPONENTS,
    PowerLaw,
    power_law,
    size_losses,
    slope,
)

SIZES = np.array([2.01e6, 1.99e7, 2.02e8, 2.0e9])


def daily(days: int = 250, seeds: int = 3, level: float = 0.6, seed: int = 0) -> np.ndarray:
    """Return daily losses of seeds that share their days."""
    random = np.random.default_rng(seed)
    day = 0.2 * random.standard_normal((days, 1))
    return level + day + 0.1 * random.standard_normal((days, seeds))


def sure(losses: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean losses, and draws that all equal them."""
    return np.array(losses), np.tile(losses, (DRAWS, 1))


# size_losses


def test_the_mean_loss_of_a_size_is_over_days_and_seeds():
    tables = [daily(seeds=seeds) for seeds in (3, 1)]
    point, draws = size_losses(tables, 20)
    assert point == pytest.approx([table.mean() for table in tables])
    assert draws.shape == (DRAWS, 2)


def test_one_seed_is_drawn_as_its_days_are():
    table = daily(seeds=1)
    _, draws = size_losses([table], 20)
    theirs = StationaryBootstrap(20, table, seed=0).bootstrap(30)
    expected = [rows[0].mean() for rows, _ in theirs]
    assert draws[:30, 0] == pytest.approx(expected, abs=1e-6)


def test_days_are_drawn_for_all_sizes_together():
    table = daily(seeds=1)
    _, draws = size_losses([table, table + 0.1], 20)
    assert draws[:, 1] - draws[:, 0] == pytest.approx(np.full(DRAWS, 0.1), abs=1e-6)


def test_only_seeds_that_differ_add_variance():
    one = daily(seeds=1)
    alike, apart = np.tile(one, 3), one + np.array([-0.1, 0.0, 0.1])
    spread = [size_losses([table], 20)[1].std() for table in (one, alike, apart)]
    assert spread[1] == pytest.approx(spread[0], rel=1e-3)
    # variance of a mean of three draws with replacement of three values
    added = np.array([-0.1, 0.0, 0.1]).var() / 3
    assert spread[2] ** 2 - spread[0] ** 2 == pytest.approx(added, rel=0.1)


def test_seeds_of_two_sizes_are_drawn_apart():
    table = daily(seeds=3)
    _, draws = size_losses([table, table], 20)
    assert not np.allclose(draws[:, 0], draws[:, 1], atol=1e-3)


# slope


@pytest.mark.parametrize("sizes", [2, 3, 4])
def test_the_slope_is_that_of_a_least_squares_line_through_the_losses(sizes):
    losses = np.random.default_rng(0).random(sizes)
    found, p = slope(*sure(list(losses)), SIZES[:sizes])
    expected = np.polyfit(np.log10(SIZES[:sizes]), losses, 1)[0]
    assert astuple(found) == pytest.approx((expected,) * 3)
    assert p == pytest.approx(2 / (DRAWS + 1))


def test_a_slope_within_the_noise_of_days_has_an_interval_over_zero():
    tables = [daily(level=0.6, seed=seed) for seed in range(4)]
    found, p = slope(*size_losses(tables, 20), SIZES)
    assert found.low < 0 < found.high
    assert p > 0.05


def test_the_p_and_the_interval_of_a_slope_agree():
    for level in np.linspace(0.5, 0.7, 9):
        tables = [daily(seed=0, level=level), daily(seed=1)]
        found, p = slope(*size_losses(tables, 20), SIZES[:2])
        assert (p < 0.05) == (found.low > 0 or found.high < 0)


# power law


@pytest.mark.parametrize("alpha", [0.1, 0.34, 1.1])
def test_a_law_without_noise_is_found(alpha):
    exponent = EXPONENTS[np.argmin(abs(EXPONENTS - alpha))]
    middle = np.exp(np.log(SIZES).mean())
    row = power_law(*sure(list(0.55 + 0.02 * (SIZES / middle) ** -exponent)), SIZES)
    assert row.alpha.value == pytest.approx(exponent)
    assert row.floor.value == pytest.approx(0.55, abs=1e-6)
    assert row.scale.value == pytest.approx(0.02, abs=1e-6)
    assert row.identified
    assert row.says.startswith(f"alpha is {exponent:.2f} [")


def test_the_fit_is_the_best_of_all_least_squares_fits_on_the_grid():
    losses = np.array([0.70, 0.66, 0.655, 0.62])
    row = power_law(*sure(list(losses)), SIZES)
    middle = np.exp(np.log(SIZES).mean())
    errors = []
    for exponent in EXPONENTS:
        x = np.column_stack([np.ones(4), (SIZES / middle) ** -exponent])
        fit, *_ = np.linalg.lstsq(x, losses, rcond=None)
        errors.append((((x @ fit - losses) ** 2).sum(), exponent, *fit))
    best = min(errors)
    assert [row.alpha.value, row.floor.value, row.scale.value] == pytest.approx(best[1:])


def test_three_constants_are_not_fitted_to_two_sizes():
    assert power_law(*sure([0.7, 0.6]), SIZES[:2]) == PowerLaw(
        identified=False, says="three constants cannot be fitted to 2 sizes"
    )


def test_three_sizes_identify_nothing_however_well_they_fit():
    row = power_law(*sure([0.7, 0.65, 0.63]), SIZES[:3])
    assert not row.identified
    assert row.says.endswith("three sizes leave nothing to judge the fit by")


def test_a_loss_that_is_not_known_to_fall_has_no_exponent():
    noise = 0.01 * np.random.default_rng(0).standard_normal((DRAWS, 4))
    row = power_law(np.full(4, 0.6), 0.6 + noise, SIZES)
    assert not row.identified
    assert row.says.endswith("the loss is not known to fall with size at all")


def test_exponents_that_reach_the_end_of_the_grid_are_not_identified():
    random = np.random.default_rng(0)
    law = 0.6 + 0.05 * (SIZES / np.exp(np.log(SIZES).mean())) ** -0.05
    draws = law + 0.003 * random.standard_normal((DRAWS, 4))
    row = power_law(law, draws, SIZES)
    assert row.scale.low > 0
    assert row.alpha.low == EXPONENTS[0]
    assert not row.identified
    assert "fit alike" in row.says
