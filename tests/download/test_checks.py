"""Checks of canonical bars: what is refused, what exceptions allow, and the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars, write_study

from patchscale.bars import PRICES, as_written
from patchscale.download.calendar import exchange_sessions
from patchscale.download.checks import MAX_MOVE, check_bars, check_dataset
from patchscale.download.seams import dividends_count_twice
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, load_params

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
    """Return what is wrong, without the advice for bars that are right all the same."""
    return whole_refusal(bars, dataset).partition("; if this is right")[0]


def whole_refusal(bars: pd.DataFrame, dataset: Dataset = QUARTER) -> str:
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


def test_a_period_may_begin_and_end_on_a_day_without_a_session(sessions: pd.DatetimeIndex) -> None:
    period = QUARTER.model_copy(update={"start": "2018-01-01", "end": "2018-04-01"})
    assert list(exchange_sessions(period)) == list(sessions)


def test_good_bars_give_a_report(good: pd.DataFrame) -> None:
    good.loc[10, "dividends"] = 0.4
    good.loc[21, "open"] = good.loc[20, "close"]
    report: dict[str, Any] = check_bars(good, QUARTER, "datasets.mine")
    moves = report.pop("largest_moves")
    assert report == {
        "rows": 61,
        "first": "2018-01-02",
        "last": "2018-03-29",
        "sessions_missing": [],
        "sessions_extra": [],
        "exceptions": {},
        "dividends": 1,
        "splits": {},
        "open_equals_previous_close": round(1 / 60, 4),
        "on_tick_grid": 1.0,
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


def allowing(*days: str) -> Dataset:
    return QUARTER.model_copy(update={"exceptions": dict.fromkeys(days, "day of mourning")})


def test_excepted_gap_passes_and_is_reported_with_its_reason(good: pd.DataFrame) -> None:
    bars = good[good["date"] != "2018-01-16"].reset_index(drop=True)
    report = check_bars(bars, allowing("2018-01-16", "2018-01-17"), "datasets.mine")
    assert report["sessions_missing"] == ["2018-01-16"]
    assert report["exceptions"] == {"2018-01-16": "day of mourning"}
    assert report["rows"] == 60
    without_another = bars[bars["date"] != "2018-01-17"].reset_index(drop=True)
    assert refusal(without_another, allowing("2018-01-16")).endswith("missing on 2018-01-17")


def with_extra_row(bars: pd.DataFrame, day: str) -> pd.DataFrame:
    extra = bars.iloc[[3]].assign(date=pd.Timestamp(day))
    return pd.concat([bars, extra]).sort_values("date").reset_index(drop=True)


@pytest.mark.parametrize(
    ("day", "kind"),
    [
        ("2018-01-07", "a weekend"),
        ("2018-01-15", "a holiday of XNYS"),
        ("2018-03-30", "a holiday of XNYS"),
    ],
)
def test_day_that_is_no_session_is_refused_unless_excepted(
    good: pd.DataFrame, day: str, kind: str
) -> None:
    bars = with_extra_row(good, day)
    assert refusal(bars).endswith(f"rows of {kind} on {day}")
    report = check_bars(bars, allowing(day), "datasets.mine")
    assert report["sessions_extra"] == [day]
    assert report["exceptions"] == {day: "day of mourning"}


def test_repeated_date_is_refused(good: pd.DataFrame) -> None:
    bars = pd.concat([good.iloc[:8], good.iloc[7:]], ignore_index=True)
    assert refusal(bars).endswith("dates repeat on 2018-01-11")


def test_dates_out_of_order_are_refused(good: pd.DataFrame) -> None:
    order = list(range(len(good)))
    order[5], order[6] = order[6], order[5]
    bars = good.iloc[order].reset_index(drop=True)
    assert refusal(bars).endswith("dates go back on 2018-01-09")


def test_no_bars_at_all_are_refused(good: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="k: BARS: no bars between 2018-01-02 and 2018-03-29"):
        check_dataset({"BARS": good.iloc[:0]}, QUARTER, "k")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"high": 99.0, "low": 90.0}, "high is below open or close"),
        ({"high": 100.7, "low": 100.8}, "high is below low"),
        ({"close": np.nan}, "close is not a number"),
        ({"volume": np.nan}, "volume is not a number"),
        ({"open": 103.5}, "high is below open or close"),
        ({"low": 101.5}, "low is above open or close"),
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


def scaled_from(bars: pd.DataFrame, day: str, factor: float) -> pd.DataFrame:
    prices = ["open", "high", "low", "close"]
    bars.loc[bars["date"] >= day, prices] = bars.loc[bars["date"] >= day, prices] * factor
    return bars


@pytest.mark.parametrize("factor", [0.6, 1.41])
def test_huge_move_is_refused_with_its_date_unless_excepted(
    good: pd.DataFrame, factor: float
) -> None:
    bars = scaled_from(good, "2018-02-20", factor)
    assert refusal(bars).endswith(f"close moved by more than {MAX_MOVE:.0%} on 2018-02-20")
    report = check_bars(bars, allowing("2018-02-20"), "datasets.mine")
    assert report["exceptions"] == {"2018-02-20": "day of mourning"}


@pytest.mark.parametrize(
    ("factor", "name"), [(1 / 2, "2:1"), (1 / 3, "3:1"), (0.252, "4:1"), (10.0, "1:10")]
)
def test_move_by_the_ratio_of_a_split_is_named_a_split(
    good: pd.DataFrame, factor: float, name: str
) -> None:
    line = refusal(scaled_from(good, "2018-02-20", factor))
    assert line.endswith(f"close moved as by a {name} split that is not recorded on 2018-02-20")


def test_huge_move_on_the_day_of_a_split_passes(good: pd.DataFrame) -> None:
    bars = with_value(scaled_from(good, "2018-02-20", 0.5), "2018-02-20", splits=2.0)
    assert check_bars(bars, QUARTER, "datasets.mine")["splits"] == {"2018-02-20": 2.0}


@pytest.mark.parametrize("ratio", [2.0, 1.5, 0.25])
def test_split_without_a_move_of_the_prices_is_refused(good: pd.DataFrame, ratio: float) -> None:
    line = refusal(with_value(good, "2018-02-20", splits=ratio))
    assert (
        "a split is recorded but prices do not move by it (already split-adjusted?) on 2018-02-20"
        in line
    )


def test_split_on_another_day_does_not_excuse_a_huge_move(good: pd.DataFrame) -> None:
    bars = with_value(scaled_from(good, "2018-02-20", 0.5), "2018-02-21", splits=2.0)
    assert "2018-02-2" in refusal(bars)


def test_volume_of_zero_passes(good: pd.DataFrame) -> None:
    assert check_bars(with_value(good, "2018-02-20", volume=0.0), QUARTER, "k")["rows"] == 61


WITH_VIX = QUARTER.model_copy(update={"volatility": "VIX"})


def both(bars: pd.DataFrame) -> dict[str, pd.DataFrame]:
    vix = bars.assign(volume=0.0)
    vix.loc[30, "high"] = 220.0
    vix.loc[30, "close"] = 215.6  # more than twice the close before, as VIX on 2018-02-05
    return {"BARS": bars.copy(), "VIX": vix}


def test_volatility_index_may_double_in_a_day_and_has_no_volume(good: pd.DataFrame) -> None:
    report = check_dataset(both(good), WITH_VIX, "k")
    assert list(report) == ["BARS", "VIX"]
    assert max(report["VIX"]["largest_moves"].values()) > 1
    with pytest.raises(InputError, match="k: BARS: close moved"):
        check_dataset({"BARS": both(good)["VIX"], "VIX": good}, WITH_VIX, "k")


@pytest.mark.parametrize("column", ["dividends", "splits"])
def test_volatility_index_has_no_actions(good: pd.DataFrame, column: str) -> None:
    series = both(good)
    series["VIX"].loc[7, column] = 1.0
    with pytest.raises(InputError, match=r"k: VIX: .* has a dividend or split on 2018-01-11"):
        check_dataset(series, WITH_VIX, "k")


@pytest.mark.parametrize("rows", [slice(0, -25), slice(1, None)])
def test_series_that_ends_or_begins_elsewhere_is_refused_with_all_ranges(
    good: pd.DataFrame, rows: slice
) -> None:
    # a series that is stale by 25 sessions must not go unnoticed
    series = both(good)
    series["VIX"] = series["VIX"].iloc[rows].reset_index(drop=True)
    first, last = (f"{day:%Y-%m-%d}" for day in series["VIX"]["date"].iloc[[0, -1]])
    whole = "from 2018-01-02 to 2018-03-29"
    with pytest.raises(InputError) as caught:
        check_dataset(series, WITH_VIX, "k")
    found = f"BARS {whole}, VIX from {first} to {last}"
    assert str(caught.value) == f"k: {found}; every series must run {whole} (k.start and .end)"


def test_series_that_all_end_too_early_are_refused(good: pd.DataFrame) -> None:
    series = {name: bars.iloc[:-1] for name, bars in both(good).items()}
    with pytest.raises(InputError, match=r"to 2018-03-28; every series must run .*2018-03-29"):
        check_dataset(series, WITH_VIX, "k")


def test_excepted_last_session_ends_all_series_one_day_earlier(good: pd.DataFrame) -> None:
    excepting = WITH_VIX.model_copy(update={"exceptions": {"2018-03-29": "source closed"}})
    series = {name: bars.iloc[:-1] for name, bars in both(good).items()}
    assert check_dataset(series, excepting, "k")["VIX"]["last"] == "2018-03-28"
    series["VIX"] = both(good)["VIX"]
    with pytest.raises(
        InputError, match=r"BARS .* to 2018-03-28, VIX .* to 2018-03-29; every series must"
    ):
        check_dataset(series, excepting, "k")


def test_spliced_bars_are_refused_with_the_seam_unless_excepted(good: pd.DataFrame) -> None:
    bars = scaled_from(good, "2018-02-20", 1 / 0.99743)
    assert refusal(bars).endswith("unadjusted bars mixed?) on 2018-02-20")
    report = check_bars(bars, allowing("2018-02-20"), "datasets.mine")
    assert report["on_tick_grid"] == round(33 / 61, 4)
    assert report["exceptions"] == {"2018-02-20": "day of mourning"}


def paying(n: int = 2500, seed: int = 0) -> pd.DataFrame:
    """Return unadjusted bars in cents, with a dividend of 1 % every 60 sessions."""
    bars = random_bars(n, seed)
    bars.loc[60::60, "dividends"] = (bars["close"].shift(1)[60::60] * 0.01).round(2)
    held = (1 - bars["dividends"] / bars["close"].shift(1)).fillna(1.0).cumprod()
    bars[PRICES] = bars[PRICES].mul(held, axis=0)
    bars["dividends"] = (bars["dividends"] * held).round(2)
    bars[PRICES] = bars[PRICES].round(2)
    return bars


def adjusted(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars as yfinance sends them by default: adjusted, with the dividends beside them."""
    step = (1 - bars["dividends"] / bars["close"].shift(1)).fillna(1.0)
    factor = 0.97 * step[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)  # and a later dividend
    return bars.assign(**{name: bars[name] * factor for name in PRICES})


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_prices_beside_their_dividends_are_recognised(seed: int) -> None:
    bars = paying(seed=seed)
    assert not dividends_count_twice(bars)
    assert dividends_count_twice(adjusted(bars))
    in_cents = adjusted(bars)
    in_cents[PRICES] = in_cents[PRICES].round(2)
    assert dividends_count_twice(in_cents)


def test_prices_off_the_tick_grid_are_unadjusted_where_their_gaps_say_so() -> None:
    bars = paying()
    for name in (*PRICES, "dividends"):
        bars[name] *= 1.2345678  # another currency
    assert not dividends_count_twice(bars)


def test_adjusted_prices_with_a_single_dividend_are_refused_unless_excepted(
    good: pd.DataFrame,
) -> None:
    bars = with_value(good, "2018-02-20", dividends=0.5)
    check_bars(bars, QUARTER, "k")
    bars[PRICES] *= 0.9871234
    assert "would count twice" in refusal(bars)
    assert refusal(bars).endswith("the first dividend is on 2018-02-20")
    report = check_bars(bars, allowing("2018-02-20"), "datasets.mine")
    assert report["exceptions"] == {"2018-02-20": "day of mourning"}


def test_refusal_of_what_may_be_right_says_how_to_allow_it(good: pd.DataFrame) -> None:
    bars = good[~good["date"].isin(pd.to_datetime(["2018-01-16", "2018-03-28"]))]
    line = whole_refusal(bars.reset_index(drop=True))
    override = "++datasets.mine.exceptions={2018-01-16: why, 2018-03-28: why}"
    assert line.endswith(f"; if this is right, give the reason: -S '{override}'")
    moved = good.copy()
    moved.loc[30:, PRICES] = moved.loc[30:, PRICES] * 1.41
    assert "-S '++datasets.mine.exceptions={2018-02-14: why}'" in whole_refusal(moved)
    line = whole_refusal(good.iloc[:-8])
    assert line.endswith("right, give the reason of each day in datasets.mine.exceptions")


def test_advised_override_is_one_that_dvc_writes_and_the_parameters_allow(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    folder = write_study(tmp_path)
    override = "++datasets.gspc.exceptions={2018-01-16: why, 2018-03-28: why}"
    apply_overrides(str(folder / "params.yaml"), [override])
    assert load_params(folder).data.exceptions == {"2018-01-16": "why", "2018-03-28": "why"}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"volume": 2.0**63}, "volume is 2^53 or more"),
        ({"high": 1e300}, "a price is 10^9 or more"),
        ({"low": 4e-7}, "a price is not positive"),
    ],
)
def test_number_that_the_canonical_file_cannot_hold_is_refused(
    good: pd.DataFrame, values: dict[str, float], problem: str
) -> None:
    bars = as_written(with_value(good, "2018-02-20", **values))
    assert refusal(bars).endswith(f"{problem} on 2018-02-20")


def test_error_of_rounding_is_no_contradiction(good: pd.DataFrame) -> None:
    close = good.loc[good["date"] == "2018-02-20", "close"].item()
    bars = with_value(good, "2018-02-20", high=close - 1e-13)
    check_bars(as_written(bars), QUARTER, "k")


def test_period_without_a_session_is_refused(good: pd.DataFrame) -> None:
    closed = {"start": "2001-09-11", "end": "2001-09-16"}
    with pytest.raises(InputError, match="'XNYS' does not cover 2001-09-11 to 2001-09-16"):
        check_dataset({"bars": good}, QUARTER.model_copy(update=closed), "k")


def test_split_of_ratio_1_is_no_split(good: pd.DataFrame) -> None:
    bars = as_written(good.assign(splits=1.0))
    assert check_bars(bars, QUARTER, "k")["splits"] == {}
    assert (bars["splits"] == 0).all()
