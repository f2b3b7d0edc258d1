import numpy as np
import pytest
from scipy.stats import nct
from scipy.stats import t as student

from patchscale.verdict.power import visible, visible_in_sd
from patchscale.verdict.sign_flip import sign_flip


@pytest.mark.parametrize("years", [6, 8, 12])
def test_the_visible_mean_is_found_by_four_of_five_simulations(years):
    mean = visible_in_sd(years)
    random = np.random.default_rng(99)
    found = [sign_flip(mean + random.standard_normal(years)).p <= 0.05 for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)


def test_the_visible_mean_is_in_the_unit_of_the_years():
    values = np.random.default_rng(1).standard_normal(8)
    assert visible(3 * values + 5) == pytest.approx(3 * visible(values))
    assert visible(values) == pytest.approx(visible_in_sd(8) * values.std(ddof=1))


def test_more_years_see_more():
    factors = [visible_in_sd(years) for years in (6, 8, 10, 12, 14)]
    assert factors == sorted(factors, reverse=True)


def test_fewer_than_six_years_see_nothing():
    assert visible(np.arange(5.0)) is None
    assert visible(np.ones(1)) is None


def test_with_many_years_the_visible_mean_is_that_of_students_test():
    def power(mean: float, years: int = 14) -> float:
        limit = student.ppf(0.975, years - 1)
        return float(1 - nct.cdf(limit, years - 1, mean * years**0.5))

    assert power(visible_in_sd(14)) == pytest.approx(0.8, abs=0.025)
