import numpy as np
import pytest

from patchscale.scaling import loss_slope, mean_with_interval

SIZES = np.array([2.01e6, 1.99e7, 2.02e8, 2.0e9])


def daily_losses(days: int = 250, sizes: int = 4) -> np.ndarray:
    random = np.random.default_rng(0)
    return 0.6 + 0.1 * random.standard_normal((days, sizes)) + 0.2 * random.random((days, 1))


@pytest.mark.parametrize("sizes", [2, 3, 4])
def test_the_slope_is_that_of_a_least_squares_line_through_mean_losses(sizes):
    losses, n = daily_losses(sizes=sizes), SIZES[:sizes]
    row = loss_slope(losses, n, 1)
    expected = np.polyfit(np.log10(n), losses.mean(axis=0), 1)[0]
    assert row["slope"] == pytest.approx(expected, abs=1e-12)
    assert (row["sizes"], row["days"]) == (sizes, 250)
    assert row["slope_low"] < row["slope"] < row["slope_high"]


def test_days_that_all_have_the_slope_leave_no_doubt_about_it():
    level = np.random.default_rng(1).random((250, 1))
    row = loss_slope(level - 0.03 * np.log10(SIZES), SIZES, 5)
    assert [row["slope_low"], row["slope"], row["slope_high"]] == pytest.approx([-0.03] * 3)


def test_the_order_of_the_sizes_does_not_matter():
    losses, turned = daily_losses(), [2, 0, 3, 1]
    assert loss_slope(losses[:, turned], SIZES[turned], 1)["slope"] == pytest.approx(
        loss_slope(losses, SIZES, 1)["slope"], abs=1e-12
    )


def test_a_loss_common_to_all_sizes_does_not_move_the_slope():
    losses = daily_losses()
    common = 5 * np.random.default_rng(2).random((250, 1))
    one, other = loss_slope(losses, SIZES, 1), loss_slope(losses + common, SIZES, 1)
    for name in ("slope", "slope_low", "slope_high"):
        assert one[name] == pytest.approx(other[name], abs=1e-9)


def test_a_mean_comes_with_its_interval_under_the_name_given():
    daily = np.random.default_rng(3).standard_normal(250)
    row = mean_with_interval(daily, 1, "gap")
    assert set(row) == {"gap", "gap_low", "gap_high"}
    assert row["gap"] == daily.mean()
    assert row["gap_low"] < row["gap"] < row["gap_high"]
    # independent days: the normal interval, up to the few blocks there are
    half = 1.96 * daily.std() / np.sqrt(250)
    assert row["gap_high"] - row["gap_low"] == pytest.approx(2 * half, rel=0.35)


def test_the_interval_of_a_constant_is_the_constant():
    assert mean_with_interval(np.full(60, 0.25), 3, "x") == {
        "x": 0.25,
        "x_low": 0.25,
        "x_high": 0.25,
    }
