"""Labels by hand, and against a loop over all days."""

from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from patchscale.split.labels import touch_labels
from patchscale.study.params import Target

NAN = float("nan")


def target(
    side: Literal["up", "down"] = "up",
    reference: Literal["extreme", "close"] = "extreme",
    theta: float = 0.01,
) -> Target:
    return Target(side=side, reference=reference, theta=theta)


def six_days() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "high": [100.5, 100.9, 101.0, 100.2, 103.0, 100.0],
            "low": [99.5, 99.0, 99.9, 98.9, 98.0, 97.0],
            "close": [100.0, 100.0, 100.0, 100.0, 101.0, 98.0],
        }
    )


@pytest.mark.parametrize(
    ("side", "reference", "horizon", "expected"),
    [
        # up, targets 101 101 101 101 102.01; highs ahead 100.9 101 100.2 103 100
        ("up", "extreme", 1, [0, 1, 0, 1, 0, NAN]),
        ("up", "extreme", 2, [1, 1, 1, 1, NAN, NAN]),
        # closes ahead 100 100 100 101 98
        ("up", "close", 1, [0, 0, 0, 1, 0, NAN]),
        ("up", "close", 2, [0, 0, 1, 1, NAN, NAN]),
        # down, targets 99 99 99 99 99.99; lows ahead 99 99.9 98.9 98 97
        ("down", "extreme", 1, [1, 0, 1, 1, 1, NAN]),
        ("down", "extreme", 2, [1, 1, 1, 1, NAN, NAN]),
        # closes ahead 100 100 100 101 98
        ("down", "close", 1, [0, 0, 0, 0, 1, NAN]),
        ("down", "close", 2, [0, 0, 0, 1, NAN, NAN]),
    ],
)
def test_labels_of_six_days_by_hand(
    side: Any, reference: Any, horizon: int, expected: list[float]
) -> None:
    labels = touch_labels(six_days(), target(side, reference), horizon)
    np.testing.assert_array_equal(labels, expected)


def test_high_of_the_day_itself_does_not_count() -> None:
    bars = six_days()
    bars.loc[0, "high"] = 200.0
    assert touch_labels(bars, target(), 1)[0] == 0


def test_theta_is_the_distance_of_the_target() -> None:
    labels = touch_labels(six_days(), target(theta=0.03), 1)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 0, NAN])


@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
def test_last_h_rows_have_no_label(bars: pd.DataFrame, horizon: int) -> None:
    labels = touch_labels(bars, target(), horizon)
    assert labels.iloc[-horizon:].isna().all()
    assert labels.iloc[:-horizon].isin([0.0, 1.0]).all()


def test_labels_keep_the_index_of_the_bars(bars: pd.DataFrame) -> None:
    part = bars.iloc[100:150]
    assert touch_labels(part, target(), 2).index.equals(part.index)


def test_labels_do_not_change_the_bars(bars: pd.DataFrame) -> None:
    before = bars.copy()
    touch_labels(bars, target(), 5)
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize("horizon", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("reference", ["extreme", "close"])
@pytest.mark.parametrize("side", ["up", "down"])
def test_labels_equal_a_loop_over_every_day_ahead(
    bars: pd.DataFrame, side: Any, reference: Any, horizon: int
) -> None:
    close = bars["close"].tolist()
    high = close if reference == "close" else bars["high"].tolist()
    low = close if reference == "close" else bars["low"].tolist()
    expected = []
    for day in range(len(bars)):
        if day + horizon >= len(bars):
            expected.append(NAN)
            continue
        hit = False
        for ahead in range(day + 1, day + horizon + 1):
            if side == "up":
                hit = hit or high[ahead] >= close[day] * 1.01
            else:
                hit = hit or low[ahead] <= close[day] * 0.99
        expected.append(float(hit))
    labels = touch_labels(bars, target(side, reference), horizon)
    np.testing.assert_array_equal(labels, expected)
    assert 0 < labels.mean() < 1


def test_longer_horizon_has_all_touches_of_a_shorter_one(bars: pd.DataFrame) -> None:
    shorter, longer = (touch_labels(bars, target(), horizon) for horizon in (1, 5))
    both = longer.notna()
    assert (longer[both] >= shorter[both]).all()
    assert longer[both].mean() > shorter[both].mean() + 0.05
