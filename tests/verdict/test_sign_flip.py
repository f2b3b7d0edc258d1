import json

import numpy as np
import pytest
from scipy.stats import permutation_test

from patchscale.backtest.flatten import flatten
from patchscale.study.errors import InputError
from patchscale.verdict.sign_flip import corrected, set_means, sign_flip

RANDOM = np.random.default_rng(0)


def scipy_p(values: np.ndarray) -> float:
    test = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    return float(test.pvalue)


@pytest.mark.parametrize("years", range(2, 13))
def test_the_p_value_is_that_of_scipys_exact_test(years):
    for shift in (-0.8, 0.0, 0.4, 1.5):
        values = shift + RANDOM.standard_normal(years)
        assert sign_flip(values).p == pytest.approx(scipy_p(values), abs=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        [1, 1, 1, 1, 1, 1],
        [1, -1, 2, -2, 3, -3],
        [0, 0, 0, 1],
        [0.1, 0.2, -0.3, 0.1, 0.2, -0.3, 0.4],
        [0, 0, 0],
        [-0.7, -0.1, -0.2, -0.1, -0.4, -0.3, 0.1, 0.2],
    ],
)
def test_ties_count_as_in_scipy(values):
    assert sign_flip(values).p == pytest.approx(scipy_p(np.array(values, dtype=float)), abs=1e-12)


@pytest.mark.parametrize("years", [6, 7, 9, 12])
def test_the_interval_holds_the_means_that_the_test_accepts_and_no_other(years):
    values = RANDOM.standard_normal(years) ** 3
    mean = sign_flip(values).mean
    for end, outward in ((mean.low, -1e-9), (mean.high, 1e-9)):
        assert scipy_p(values - end + outward) > 0.05
        assert scipy_p(values - end - outward) <= 0.05
    assert mean.low < mean.value < mean.high
    assert mean.value == values.mean()


def test_the_interval_excludes_zero_exactly_if_the_p_value_is_at_most_five_percent():
    both = set()
    for _ in range(300):
        test = sign_flip(0.7 + RANDOM.standard_normal(8))
        excludes = test.mean.low > 0 or test.mean.high < 0
        assert excludes == (test.p <= 0.05)
        both.add(excludes)
    assert both == {True, False}


def test_the_interval_contains_the_true_mean_as_often_as_its_ranks_say():
    tests = [sign_flip(3 + RANDOM.standard_t(2, 7)).mean for _ in range(2000)]
    share = np.mean([test.low <= 3 <= test.high for test in tests])
    rank = int(0.025 * 2**7)
    assert share == pytest.approx(1 - 2 * rank / 2**7, abs=0.015)


@pytest.mark.parametrize("years", [1, 3, 5])
def test_fewer_than_six_years_exclude_nothing_and_say_so(years):
    row = flatten(sign_flip(np.arange(1.0, years + 1)))
    assert (row["mean_low"], row["mean_high"]) == (None, None)
    assert row["p"] == row["least_p"] == min(1, 2 / 2**years)
    json.dumps(row, allow_nan=False)


def test_six_years_can_reach_five_percent():
    test = sign_flip([1.0, 2, 3, 4, 5, 6])
    assert test.p == test.least_p == 1 / 32
    assert (test.mean.low, test.mean.high) == (1, 6)


def test_negative_values_mirror_the_test():
    values = RANDOM.standard_normal(9)
    mine, mirrored = sign_flip(values), sign_flip(-values)
    assert mine.p == mirrored.p
    assert (mine.mean.low, mine.mean.high) == (-mirrored.mean.high, -mirrored.mean.low)
    assert mine.higher + mirrored.higher == mine.years == 9


def test_the_order_and_the_unit_of_the_years_do_not_matter():
    values = RANDOM.standard_normal(10)
    other = sign_flip(1e-9 * values[::-1])
    assert other.p == sign_flip(values).p
    assert other.mean.low == pytest.approx(1e-9 * sign_flip(values).mean.low)


def test_the_means_are_those_of_every_set_once():
    means = set_means(np.array([[1.0, 2, 4], [0, 0, 3]]))
    assert sorted(means[0]) == pytest.approx([1, 1.5, 2, 7 / 3, 2.5, 3, 4])
    assert sorted(means[1]) == [0, 0, 0, 1, 1.5, 1.5, 3]


def test_more_years_than_memory_allows_are_refused():
    assert sign_flip(RANDOM.standard_normal(20)).years == 20
    with pytest.raises(InputError, match="21 test years; the exact test over years allows 20"):
        sign_flip(np.ones(21))


def test_several_tests_are_corrected_by_holm():
    tests = {name: sign_flip(np.ones(years)) for name, years in (("a", 6), ("b", 7), ("c", 8))}
    found = {name: test.p_holm for name, test in corrected(tests).items()}
    assert found == {"a": 1 / 32, "b": 1 / 32, "c": 3 / 128}
    assert corrected({}) == {}
