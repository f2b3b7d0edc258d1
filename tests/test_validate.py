from typing import Any

import numpy as np
import pandas as pd
import pytest

from patchscale.config import Dataset
from patchscale.errors import InputError
from patchscale.validate import MAX_RETURN, check_bars, exchange_sessions

QUARTER = Dataset(
    source="csv",
    series="bars",
    path="bars.csv",
    calendar="XNYS",
    start="2018-01-02",
    end="2018-03-29",
    validation_from="2018-02-01",
    test_from="2018-03-01",
)


@pytest.fixture(scope="module")
def sessions() -> pd.DatetimeIndex:
    return exchange_sessions(QUARTER)


@pytest.fixture
def good(sessions: pd.DatetimeIndex) -> pd.DataFrame:
    close = 100 + np.arange(len(sessions)) % 5
    return pd.DataFrame(
        {
            "date": sessions,
            "open": close - 0.5,
            "high": close + 1.0,
            "low": close - 1.0,
            "close": close.astype(float),
            "volume": 1e6,
            "dividends": 0.0,
            "splits": 0.0,
        }
    )


def refusal(bars: pd.DataFrame, dataset: Dataset = QUARTER) -> str:
    with pytest.raises(InputError) as caught:
        check_bars(bars, dataset, "datasets.mine")
    line = str(caught.value)
    assert line.startswith("datasets.mine: ")
    assert "\n" not in line
    return line


def with_value(bars: pd.DataFrame, day: str, **values: float) -> pd.DataFrame:
    row = bars.index[bars["date"] == day][0]
    for column, value in values.items():
        bars.loc[row, column] = value
    return bars


def test_sessions_are_those_of_the_exchange(sessions: pd.DatetimeIndex) -> None:
    days = set(sessions.strftime("%Y-%m-%d"))
    assert len(days) == 61
    assert {"2018-01-02", "2018-03-29"} <= days
    assert not {"2018-01-01", "2018-01-15", "2018-02-19", "2018-01-06"} & days


def test_good_bars_give_a_report(good: pd.DataFrame) -> None:
    good.loc[10, "dividends"] = 0.4
    good.loc[21, "open"] = good.loc[20, "close"]
    report: dict[str, Any] = check_bars(good, QUARTER, "datasets.mine")
    moves = report.pop("largest_moves")
    assert report == {
        "rows": 61,
        "first": "2018-01-02",
        "last": "2018-03-29",
        "sessions_missing_allowed": [],
        "dividends": 1,
        "splits": 0,
        "open_equals_previous_close": round(1 / 60, 4),
    }
    assert len(moves) == 5
    assert all(move == round(100 / 104 - 1, 6) for move in moves.values())


def test_missing_sessions_are_refused_with_their_dates(good: pd.DataFrame) -> None:
    bars = good[~good["date"].isin(pd.to_datetime(["2018-01-16", "2018-03-29"]))]
    line = refusal(bars.reset_index(drop=True))
    assert "sessions of XNYS are missing on 2018-01-16, 2018-03-29" in line


def test_long_list_of_dates_is_cut_and_counted(good: pd.DataFrame) -> None:
    line = refusal(good.iloc[:-8])
    assert line.endswith("2018-03-20, 2018-03-21, 2018-03-22, 2018-03-23, 2018-03-26 and 3 more")


def test_allowed_gap_passes_and_is_reported(good: pd.DataFrame) -> None:
    bars = good[good["date"] != "2018-01-16"].reset_index(drop=True)
    allowing = QUARTER.model_copy(update={"allowed_gaps": ["2018-01-16"]})
    report = check_bars(bars, allowing, "datasets.mine")
    assert report["sessions_missing_allowed"] == ["2018-01-16"]
    assert report["rows"] == 60
    without_another = bars[bars["date"] != "2018-01-17"].reset_index(drop=True)
    assert refusal(without_another, allowing).endswith("missing on 2018-01-17")


@pytest.mark.parametrize("day", ["2018-01-07", "2018-01-15", "2018-03-30"])
def test_day_that_is_no_session_is_refused(good: pd.DataFrame, day: str) -> None:
    extra = good.iloc[[3]].assign(date=pd.Timestamp(day))
    bars = pd.concat([good, extra]).sort_values("date").reset_index(drop=True)
    assert refusal(bars).endswith(f"days are no sessions of XNYS on {day}")


def test_repeated_date_is_refused(good: pd.DataFrame) -> None:
    bars = pd.concat([good.iloc[:8], good.iloc[7:]], ignore_index=True)
    assert refusal(bars).endswith("dates repeat or go back on 2018-01-11")


def test_dates_out_of_order_are_refused(good: pd.DataFrame) -> None:
    order = list(range(len(good)))
    order[5], order[6] = order[6], order[5]
    bars = good.iloc[order].reset_index(drop=True)
    assert refusal(bars).endswith("dates repeat or go back on 2018-01-09")


def test_no_bars_at_all_are_refused(good: pd.DataFrame) -> None:
    assert "no bars between 2018-01-02 and 2018-03-29" in refusal(good.iloc[:0])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"high": 99.0, "low": 90.0}, "high is below open or close"),
        ({"open": 103.5}, "high is below open or close"),
        ({"low": 200.0}, "low is above open or close"),
        ({"open": 90.0}, "low is above open or close"),
        ({"low": 0.0}, "a price is not positive"),
        ({"open": -1.0, "low": -2.0}, "a price is not positive"),
        ({"volume": -1.0}, "volume is negative"),
    ],
)
def test_impossible_bar_is_refused_with_its_date(
    good: pd.DataFrame, values: dict[str, float], problem: str
) -> None:
    # close 101, open 100.5, high 102, low 100 before the change
    bars = with_value(good, "2018-02-20", close=101, open=100.5, high=102, low=100)
    check_bars(bars, QUARTER, "datasets.mine")
    assert refusal(with_value(bars, "2018-02-20", **values)).endswith(f"{problem} on 2018-02-20")


def halved_from(bars: pd.DataFrame, day: str) -> pd.DataFrame:
    prices = ["open", "high", "low", "close"]
    bars.loc[bars["date"] >= day, prices] = bars.loc[bars["date"] >= day, prices] / 2
    return bars


def test_huge_move_is_refused_with_its_date(good: pd.DataFrame) -> None:
    line = refusal(halved_from(good, "2018-02-20"))
    assert line.endswith(f"close moved by more than {MAX_RETURN:.0%} on 2018-02-20")


def test_huge_move_on_the_day_of_a_split_passes(good: pd.DataFrame) -> None:
    bars = with_value(halved_from(good, "2018-02-20"), "2018-02-20", splits=2.0)
    assert check_bars(bars, QUARTER, "datasets.mine")["splits"] == 1


def test_split_on_another_day_does_not_excuse_a_huge_move(good: pd.DataFrame) -> None:
    bars = with_value(halved_from(good, "2018-02-20"), "2018-02-21", splits=2.0)
    assert refusal(bars).endswith("on 2018-02-20")


def test_volume_of_zero_passes(good: pd.DataFrame) -> None:
    assert check_bars(with_value(good, "2018-02-20", volume=0.0), QUARTER, "k")["rows"] == 61
