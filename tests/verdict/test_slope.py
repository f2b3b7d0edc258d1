import numpy as np
import pytest
from scipy.stats import linregress, permutation_test

from patchscale.verdict.slope import slope_test, slope_weights

N = [2.1e4, 1.9e5, 2.0e6, 2.02e7]
YEARS = range(2007, 2019)


def losses_of(
    slope: float, seeds: tuple[int, ...] = (3, 3, 3, 1), seed: int = 0, noise: float = 0.02
) -> dict[str, np.ndarray]:
    """Return losses that change by a slope per tenfold N, with noise of years and of seeds."""
    random = np.random.default_rng(seed)
    year = 0.03 * random.standard_normal(12)
    tilt = slope + 0.01 * random.standard_normal(12)
    return {
        f"size{place}": (0.6 + year + tilt * np.log10(n))[:, None]
        + noise * random.standard_normal((12, count))
        for place, (n, count) in enumerate(zip(N, seeds, strict=True))
    }


def test_each_year_has_the_slope_of_least_squares_on_the_logarithm_of_size():
    losses = losses_of(0.01)
    test = slope_test(losses, N, YEARS)
    means = np.array([each.mean(axis=1) for each in losses.values()]).T
    expected = [linregress(np.log10(N), of_year).slope for of_year in means]
    assert list(test.slopes) == [str(year) for year in YEARS]
    assert list(test.slopes.values()) == pytest.approx(expected)
    assert test.mean.value == pytest.approx(np.mean(expected))
    assert test.higher == sum(slope > 0 for slope in expected)
    scipy = permutation_test(
        (np.array(expected),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert test.p == pytest.approx(scipy.pvalue)


def test_two_sizes_give_the_difference_per_tenfold():
    assert slope_weights([1e4, 1e6]) == pytest.approx([-0.5, 0.5])


def test_a_real_slope_is_found_and_none_is_not():
    found, none = (slope_test(losses_of(slope), N, YEARS) for slope in (0.03, 0.0))
    assert found.p < 0.01
    assert 0 < found.mean.low < 0.03 < found.mean.high
    assert none.p > 0.05
    assert none.mean.low < 0 < none.mean.high


def test_without_a_slope_one_study_in_twenty_is_significant():
    tests = [slope_test(losses_of(0.0, seed=seed), N, YEARS).p <= 0.05 for seed in range(600)]
    assert np.mean(tests) == pytest.approx(0.05, abs=0.025)


def test_the_noise_of_the_seeds_in_a_yearly_slope_is_that_of_a_simulation():
    test = slope_test(losses_of(0.0, seeds=(3, 3, 3, 1), noise=0.05), N, YEARS)
    weights, seeds = slope_weights(N), np.array([3, 3, 3, 1])
    assert test.effects.between_seeds == pytest.approx(
        0.05 * (weights**2 / seeds).sum() ** 0.5, rel=0.25
    )
    random = np.random.default_rng(0)
    drawn = 0.05 * random.standard_normal((20_000, 4)) / seeds**0.5 @ weights
    assert drawn.std() == pytest.approx(0.05 * (weights**2 / seeds).sum() ** 0.5, rel=0.02)


def test_the_standard_error_holds_the_noise_of_the_seeds():
    effects = [slope_test(losses_of(0.0, seed=seed), N, YEARS) for seed in range(300)]
    spread = np.std([test.mean.value for test in effects])
    errors = [test.effects.standard_error for test in effects]
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(spread, rel=0.15)


def test_a_size_of_one_seed_counts_as_one_of_three_in_the_slope():
    losses = losses_of(0.01)
    alone = {name: each.mean(axis=1, keepdims=True) for name, each in losses.items()}
    assert slope_test(alone, N, YEARS).slopes == pytest.approx(slope_test(losses, N, YEARS).slopes)
