"""Functions of a series and of its last n values, by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from patchscale.features import rolling

NAN = np.nan
Array = np.ndarray


def array(*values: float) -> Array:
    return np.array(values, dtype=float)


def same(found: Array, *expected: float) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_lag_is_the_value_n_sessions_earlier() -> None:
    same(rolling.lag(array(1, 2, 4, 8), 1), NAN, 1, 2, 4)
    same(rolling.lag(array(1, 2, 4, 8), 3), NAN, NAN, NAN, 1)
    same(rolling.lag(array(1, 2), 5), NAN, NAN)


def test_change_is_a_difference_or_a_percentage_of_the_earlier_value() -> None:
    same(rolling.diff(array(1, 2, 4, 1), 2), NAN, NAN, 3, -1)
    same(rolling.pct(array(1, 2, 4, 1), 2), NAN, NAN, 300, -50)
    same(rolling.pct_from(array(11, 9), array(10, 12)), 10, -25)


def test_change_from_nothing_is_zero() -> None:
    same(rolling.pct(array(0, 0, 5, 10), 1), NAN, 0, 0, 100)


def test_ratio_is_neutral_only_where_the_denominator_is_zero() -> None:
    same(
        rolling.ratio(array(1, 1, 0, NAN, 1, NAN), array(2, 0, 0, 0, NAN, 3), 7.0),
        *(0.5, 7, 7, NAN, NAN, NAN),
    )


def test_sign_ignores_rounding() -> None:
    same(rolling.sign(array(2, -2, 0, 1e-10, -1e-10, 2e-9, NAN)), 1, -1, 0, 0, 0, 1, NAN)
    assert rolling.sign(array(0.1 + 0.2 - 0.3)).tolist() == [0.0]


def test_position_between_two_levels_is_one_half_if_they_are_equal() -> None:
    low, high = array(0, 0, 0, 5), array(4, 4, 4, 5)
    same(rolling.between(array(1, 4, 6, 5), low, high), 0.25, 1, 1.5, 0.5)


def test_position_in_the_range_of_n_sessions() -> None:
    close, low, high = array(3, 2, 5, 4), array(2, 1, 4, 4), array(4, 3, 6, 4)
    same(rolling.place(close, low, high, 2), NAN, 1 / 3, 4 / 5, 0)
    same(rolling.place(*3 * [array(2, 2, 2, 3)], 2), NAN, 0.5, 0.5, 1)


def test_distance_is_to_the_nearer_level() -> None:
    same(rolling.dist(array(10, 40, 60, 90), 30, 70), 20, 10, 10, 20)


def test_outside_is_signed_and_zero_inside() -> None:
    same(rolling.outside(array(1, 5, 8, 10), array(*4 * [3]), array(*4 * [8])), -2, 0, 0, 2)


def test_functions_of_the_last_n_values() -> None:
    x = array(1, 2, 4, 8)
    same(rolling.total(x, 2), NAN, 3, 6, 12)
    same(rolling.sma(x, 2), NAN, 1.5, 3, 6)
    same(rolling.std(x, 3), NAN, NAN, np.std([1, 2, 4], ddof=1), np.std([2, 4, 8], ddof=1))
    same(rolling.lowest(x, 3), NAN, NAN, 1, 2)
    same(rolling.highest(x, 3), NAN, NAN, 4, 8)
    same(rolling.zscore(x, 3), NAN, NAN, *(5 / 3 / np.sqrt(7 / 3), 10 / 3 / np.sqrt(28 / 3)))


def test_sum_so_far_skips_the_warm_up() -> None:
    same(rolling.cumulate(array(NAN, 1, 2, 3)), 0, 1, 3, 6)


def test_exponential_average_begins_at_the_first_value_and_is_known_after_n() -> None:
    # span 3: half of the new value
    same(rolling.ewm(array(NAN, 8, 4, 2, 0), 3), NAN, NAN, NAN, 4, 2)


def test_quantile_lies_between_order_statistics() -> None:
    x = array(5, 1, 3, 2, 4)
    same(rolling.quantile(x, 5, 0.25), NAN, NAN, NAN, NAN, 2)
    same(rolling.quantile(x, 5, 0.05), NAN, NAN, NAN, NAN, 1.2)


def test_tail_mean_is_of_the_values_at_or_below_the_quantile() -> None:
    x = array(5, 1, 3, 2, 4)
    same(rolling.tail_mean(x, 5, 0.25), NAN, NAN, NAN, NAN, (1 + 2) / 2)
    same(rolling.tail_mean(x, 5, 0.05), NAN, NAN, NAN, NAN, 1)
    same(rolling.tail_mean(array(NAN, 2, 1, 1, 3), 4, 0.3), NAN, NAN, NAN, NAN, 1)


def test_zscore_of_equal_values_is_zero() -> None:
    assert rolling.zscore(np.full(30, 100.1), 20)[19:].tolist() == [0.0] * 11


def test_deviation_of_equal_values_is_zero_whatever_came_before() -> None:
    for seed in range(8):
        before = np.random.default_rng(seed).normal(896, 20, 60)
        x = np.append(before, np.full(40, 896.0))
        assert rolling.std(x, 20)[79:].tolist() == [0.0] * 21


def test_rank_counts_only_the_values_below_today() -> None:
    same(rolling.rank_below(array(1, 3, 2, 5, 5), 4), NAN, NAN, NAN, 75, 50)
    same(rolling.rank_below(np.full(5, 7.7), 4), NAN, NAN, NAN, 0, 0)


def test_rank_ignores_rounding() -> None:
    same(rolling.rank_below(array(0.3, 0.3, 0.1 + 0.2), 3), NAN, NAN, 0)


def test_since_counts_from_the_latest_of_equal_highs() -> None:
    same(rolling.since(array(3, 9, 4, 9, 1, 2, 2), 3), NAN, NAN, 1, 0, 1, 2, 0)


def test_run_counts_days_of_one_sign() -> None:
    x = array(NAN, 1, 2, -1, -3, -2, 0, 0, 5)
    same(rolling.run(x), NAN, 1, 2, -1, -2, -3, 0, 0, 1)


def test_days_since_cross_restart_at_each_change_of_sign() -> None:
    x = array(NAN, 1, 2, -1, -3, -2, 4)
    same(rolling.days_since_cross(x), NAN, 0, 1, 0, 1, 2, 0)


def test_correlation_of_pairs() -> None:
    x, y = array(1, 2, 3, 5, 4), array(2, 4, 6, 1, 2)
    expected = [np.corrcoef(x[k : k + 3], y[k : k + 3])[0, 1] for k in range(3)]
    same(rolling.correlation(x, y, 3), NAN, NAN, *expected)
    assert expected[0] == pytest.approx(1)


def test_correlation_with_a_flat_series_is_zero() -> None:
    same(rolling.correlation(array(1, 2, 3), np.zeros(3), 3), NAN, NAN, 0)


OF_N: dict[str, Callable[[Array], Array]] = {
    "lag": lambda x: rolling.lag(x, 3),
    "diff": lambda x: rolling.diff(x, 3),
    "pct": lambda x: rolling.pct(x, 3),
    "total": lambda x: rolling.total(x, 3),
    "sma": lambda x: rolling.sma(x, 3),
    "std": lambda x: rolling.std(x, 3),
    "ewm": lambda x: rolling.ewm(x, 3),
    "lowest": lambda x: rolling.lowest(x, 3),
    "highest": lambda x: rolling.highest(x, 3),
    "quantile": lambda x: rolling.quantile(x, 3, 0.05),
    "tail_mean": lambda x: rolling.tail_mean(x, 3, 0.05),
    "zscore": lambda x: rolling.zscore(x, 3),
    "rank_below": lambda x: rolling.rank_below(x, 3),
    "place": lambda x: rolling.place(x, x, x, 3),
    "since": lambda x: rolling.since(x, 3),
    "correlation": lambda x: rolling.correlation(x, x, 3),
}


@pytest.mark.parametrize("name", OF_N)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_series_keeps_its_length_and_warms_up(name: str, n: int) -> None:
    found = OF_N[name](np.arange(1.0, n + 1))
    known = max(0, n - 2 - (name in ("lag", "diff", "pct")))
    assert np.isnan(found).tolist() == [True] * (n - known) + [False] * known


@pytest.mark.parametrize("name", ["run", "days_since_cross", "sign", "cumulate"])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_series_without_warm_up_has_every_value(name: str, n: int) -> None:
    assert np.isfinite(getattr(rolling, name)(np.arange(1.0, n + 1))).tolist() == [True] * n
