from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from patchscale.bars import PRICES, forward_adjust

MakeBars = Callable[..., pd.DataFrame]


def closes(*values: float, dividends: dict[int, float], splits: dict[int, float]) -> pd.DataFrame:
    n = len(values)
    bars = pd.DataFrame({"date": pd.bdate_range("2018-01-01", periods=n)})
    for offset, name in enumerate(PRICES):
        bars[name] = np.array(values) + 0.1 * offset
    bars["close"] = np.array(values, dtype=float)
    bars["volume"] = 1000.0
    for name, events in (("dividends", dividends), ("splits", splits)):
        bars[name] = 0.0
        for row, value in events.items():
            bars.loc[row, name] = value
    return bars


@pytest.fixture
def eventful(make_bars: MakeBars) -> pd.DataFrame:
    """Return unadjusted bars that pay dividends and split twice, once on an ex-date."""
    bars = make_bars(300, seed=5)
    bars.loc[[20, 83, 146, 209, 272], "dividends"] = [0.7, 0.6, 0.4, 0.45, 0.5]
    for row, ratio in ((120, 2.0), (209, 1.5)):
        bars.loc[row, "splits"] = ratio
        bars.loc[row:, PRICES] = bars.loc[row:, PRICES] / ratio
    return bars


def test_dividend_by_hand() -> None:
    bars = closes(100, 99, 99, dividends={1: 1.0}, splits={})
    out = forward_adjust(bars)
    factor = 100 / 99  # the holder of 100 got 99 and a dividend of 1
    np.testing.assert_allclose(out["close"], [100, 100, 100], rtol=1e-15)
    np.testing.assert_allclose(out["high"], bars["high"] * [1, factor, factor], rtol=1e-15)
    assert out["volume"].tolist() == [1000, 1000, 1000]


def test_split_by_hand() -> None:
    out = forward_adjust(closes(100, 50, 51, dividends={}, splits={1: 2.0}))
    assert out["close"].tolist() == [100, 100, 102]
    assert out["open"].tolist() == [100, 100, 102]
    assert out["volume"].tolist() == [1000, 500, 500]


def test_reverse_split_by_hand() -> None:
    out = forward_adjust(closes(10, 100, 110, dividends={}, splits={1: 0.1}))
    np.testing.assert_allclose(out["close"], [10, 10, 11], rtol=1e-15)
    np.testing.assert_allclose(out["volume"], [1000, 10_000, 10_000], rtol=1e-15)


def test_dividend_on_the_day_of_a_split_is_per_new_share() -> None:
    # one share at 100 becomes two at 49.5, each paid 0.5: nothing gained, nothing lost
    out = forward_adjust(closes(100, 49.5, 49.5, dividends={1: 0.5}, splits={1: 2.0}))
    np.testing.assert_allclose(out["close"], [100, 100, 100], rtol=1e-15)


def test_steps_multiply() -> None:
    out = forward_adjust(closes(100, 90, 45, 40, dividends={1: 10, 3: 5}, splits={2: 2.0}))
    np.testing.assert_allclose(out["close"], [100, 100, 100, 100], rtol=1e-15)


def test_events_of_the_first_day_leave_it_as_it_is() -> None:
    out = forward_adjust(closes(100, 101, dividends={0: 3.0}, splits={}))
    assert out["close"].tolist() == [100, 101]


def test_input_is_not_changed(eventful: pd.DataFrame) -> None:
    before = eventful.copy()
    forward_adjust(eventful)
    pd.testing.assert_frame_equal(eventful, before)


def test_bars_without_events_come_back_unchanged(bars: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(forward_adjust(bars), bars)


def test_appending_rows_never_changes_earlier_rows(eventful: pd.DataFrame) -> None:
    whole = forward_adjust(eventful)
    for n in (1, 20, 21, 120, 121, 209, 210, 271, 299):
        pd.testing.assert_frame_equal(
            forward_adjust(eventful.iloc[:n]), whole.iloc[:n], check_exact=True
        )


def test_dividend_above_the_previous_close_is_refused_with_its_date() -> None:
    with pytest.raises(ValueError, match="dividend of 2018-01-02 is not below the previous close"):
        forward_adjust(closes(1.0, 1.0, dividends={1: 2.0}, splits={}))


def back_adjusted_close(bars: pd.DataFrame) -> np.ndarray:
    """Return closes as Yahoo adjusts them: today's stays, earlier ones are scaled down."""
    close, dividends = bars["close"].to_numpy(), bars["dividends"].to_numpy()
    ratio = bars["splits"].replace(0.0, 1.0).to_numpy()
    n = len(bars)
    later_splits = np.array([np.prod(ratio[day + 1 :]) for day in range(n)])
    close, dividends = close / later_splits, dividends / later_splits
    adjusted, factor = np.empty(n), 1.0
    for day in reversed(range(n)):
        adjusted[day] = close[day] * factor
        if dividends[day] and day:
            factor *= 1 - dividends[day] / close[day - 1]
    return adjusted


def test_forward_and_back_adjusted_closes_have_one_ratio(eventful: pd.DataFrame) -> None:
    ratio = forward_adjust(eventful)["close"].to_numpy() / back_adjusted_close(eventful)
    assert ratio[0] > 3  # the events matter
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
