"""Computation of a tier: columns, warm-up, weekly series and the exchange's calendar."""

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from reference import random_vix

from patchscale.bars import PRICES
from patchscale.features import rolling
from patchscale.features.formulas import Namespace, compute_tier, drop_warm_up
from patchscale.features.tiers import A200, BAR, TIERS, VIX, Feature
from patchscale.study.errors import InputError

BAR_NAMES = [*PRICES, "volume"]
EVERY = A200 + BAR + VIX


def columns(tier: str) -> list[str]:
    return [feature.name for feature in TIERS[tier]]


def every_column(bars: pd.DataFrame) -> pd.DataFrame:
    table = compute_tier(bars, "a200c", vix=random_vix(bars))
    return table.assign(**{name: bars[name] for name in BAR_NAMES})


# columns


@pytest.mark.parametrize("tier", TIERS)
def test_tier_holds_its_dates_and_exactly_its_columns(bars: pd.DataFrame, tier: str) -> None:
    found = compute_tier(bars, tier, vix=random_vix(bars))
    assert list(found.columns) == ["date", *columns(tier)]
    assert found["date"].tolist() == bars["date"].tolist()
    assert found.drop(columns="date").dtypes.eq(float).all()


def test_column_is_the_same_in_every_tier(bars: pd.DataFrame) -> None:
    vix = random_vix(bars)
    whole = compute_tier(bars, "a200c", vix=vix)
    for tier in TIERS:
        shared = [name for name in columns(tier) if name in whole]
        found = compute_tier(bars, tier, vix=vix)
        pd.testing.assert_frame_equal(found[shared], whole[shared], check_exact=True)


@pytest.mark.parametrize("name", BAR_NAMES)
def test_bar_columns_are_the_bars(bars: pd.DataFrame, name: str) -> None:
    assert compute_tier(bars, "a25")[name].tolist() == bars[name].tolist()


def test_unknown_tier_is_refused(bars: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"features\.tier: 'a30' is unknown; allowed: a20, a25"):
        compute_tier(bars, "a30")


@pytest.mark.parametrize("tier", ["a20c", "a25c", "a50c", "a100c", "a200c"])
def test_tier_with_volatility_index_is_refused_where_there_is_none(
    bars: pd.DataFrame, tier: str
) -> None:
    with pytest.raises(InputError, match=rf"features\.tier: '{tier}' needs a volatility index"):
        compute_tier(bars, tier)


def test_labels_and_dividends_are_no_features(bars: pd.DataFrame) -> None:
    found = compute_tier(bars.assign(label=1.0), "a200")
    assert not {"label", "dividends", "splits"} & set(found.columns)


def test_computation_changes_neither_the_bars_nor_the_index(bars: pd.DataFrame) -> None:
    before, vix = bars.copy(), random_vix(bars)
    index = vix.copy()
    compute_tier(bars, "a200c", vix=vix)
    pd.testing.assert_frame_equal(bars, before)
    pd.testing.assert_frame_equal(vix, index)


# warm-up


@pytest.fixture(scope="module")
def from_monday() -> pd.DataFrame:
    return every_column(random_bars(340, start="2000-01-03"))


@pytest.fixture(scope="module")
def from_friday() -> pd.DataFrame:
    return every_column(random_bars(340, start="2000-01-07"))


@pytest.mark.parametrize("feature", EVERY, ids=lambda feature: feature.name)
def test_declared_warm_up_is_that_of_the_values(
    from_monday: pd.DataFrame, from_friday: pd.DataFrame, feature: Feature
) -> None:
    # weekly features begin a week earlier if the first week is a single Friday
    early = 5 if "weekly" in feature.name else 0
    for found in (from_monday[feature.name], from_friday[feature.name]):
        known = np.isfinite(found.to_numpy())
        actual = int(known.argmax())
        assert actual <= feature.warm_up <= actual + early
        assert known[actual:].all()
        assert found[:actual].isna().all()


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_drops_the_same_rows(bars: pd.DataFrame, tier: str) -> None:
    whole = compute_tier(bars, tier, vix=random_vix(bars))
    kept = drop_warm_up(whole)
    assert kept["date"].tolist() == bars["date"].tolist()[297:]
    pd.testing.assert_frame_equal(kept, whole.iloc[297:].reset_index(drop=True))
    assert np.isfinite(kept.drop(columns="date")).all(axis=None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["dema_9", "vwap_20", "implied_vs_realized"])
def test_value_missing_after_the_warm_up_is_refused_with_column_and_date(
    bars: pd.DataFrame, name: str, value: float
) -> None:
    wrong = compute_tier(bars, "a20c", vix=random_vix(bars))
    wrong.loc[[700, 650], name] = value
    day = wrong.loc[650, "date"]
    message = rf"features: {name} has no value on {day:%Y-%m-%d} \(2 of {len(bars) - 297} days\)"
    with pytest.raises(InputError, match=message):
        drop_warm_up(wrong)


@pytest.mark.parametrize("rows", [0, 1, 5, 100, 297])
@pytest.mark.parametrize("tier", ["a20", "a25c", "a100c", "a200c"])
def test_short_history_is_all_warm_up(rows: int, tier: str) -> None:
    bars = random_bars(400).head(rows)
    found = compute_tier(bars, tier, vix=random_vix(bars))
    assert len(found) == rows
    for feature in TIERS[tier]:
        assert found[feature.name].isna().all() or feature.warm_up < rows, feature.name
        assert found[feature.name][feature.warm_up :].notna().all(), feature.name
    kept = drop_warm_up(found)
    assert len(kept) == 0
    assert list(kept.columns) == ["date", *columns(tier)]


# weeks

WEEKS = {
    # days of one month with their closes, and the last week's close as known on each of them
    "whole weeks": (
        "2001-08-20 2001-08-21 2001-08-24 2001-08-27 2001-08-31 2001-09-10",
        [1, 2, 3, 4, 5, 6],
        [None, None, None, 3, 3, 5],
    ),
    "Monday holiday": (  # Labor Day on 3 September
        "2001-08-30 2001-08-31 2001-09-04 2001-09-05 2001-09-06 2001-09-07 2001-09-10",
        [1, 2, 3, 4, 5, 6, 7],
        [None, None, 2, 2, 2, 2, 6],
    ),
    "Friday holiday": (  # Good Friday on 13 April
        "2001-04-05 2001-04-06 2001-04-09 2001-04-10 2001-04-11 2001-04-12 2001-04-16 2001-04-17",
        [1, 2, 3, 4, 5, 6, 7, 8],
        [None, None, 2, 2, 2, 2, 6, 6],
    ),
    "Friday and Monday holiday": (  # Good Friday on 13, Easter Monday on 16 April
        "2001-04-11 2001-04-12 2001-04-17 2001-04-20 2001-04-23",
        [1, 2, 3, 4, 5],
        [None, None, 2, 2, 4],
    ),
    "week of 2001-09-11": (  # trading on Monday only
        "2001-09-06 2001-09-07 2001-09-10 2001-09-17 2001-09-18 2001-09-21 2001-09-24",
        [1, 2, 3, 4, 5, 6, 7],
        [None, None, 2, 3, 3, 3, 6],
    ),
    "one session on a Wednesday": (
        "2001-09-27 2001-09-28 2001-10-03 2001-10-08 2001-10-12 2001-10-15",
        [1, 2, 3, 4, 5, 6],
        [None, None, 2, 3, 3, 5],
    ),
    "a week without a session": (
        "2001-09-06 2001-09-07 2001-09-17 2001-09-18 2001-09-24",
        [1, 2, 3, 4, 5],
        [None, None, 2, 2, 4],
    ),
    "a session on Saturday and one on Sunday": (
        "2001-09-07 2001-09-08 2001-09-10 2001-09-16 2001-09-17",
        [1, 2, 3, 4, 5],
        [None, None, 2, 2, 4],
    ),
    "over the end of a year": (
        "2001-12-28 2001-12-31 2002-01-02 2002-01-04 2002-01-07",
        [1, 2, 3, 4, 5],
        [None, 1, 1, 1, 4],
    ),
}


def with_closes(days: list[str], closes: list[float]) -> Namespace:
    bars = pd.DataFrame({"date": pd.to_datetime(days), "volume": 1.0})
    return Namespace(
        bars.assign(**{name: np.array(closes, dtype=float) for name in PRICES}), "XNYS"
    )


@pytest.mark.parametrize("case", WEEKS)
def test_weekly_value_of_a_day_is_that_of_the_last_week_before_its_own(case: str) -> None:
    days, closes, expected = WEEKS[case]
    bars = with_closes(days.split(), closes)
    known = bars.last_week(bars["weekly_close"])
    assert [None if np.isnan(value) else value for value in known] == expected


@pytest.mark.parametrize("case", WEEKS)
def test_indicator_of_weekly_closes_is_known_when_the_week_is_over(case: str) -> None:
    # the change from one weekly close to the next
    days, closes, expected = WEEKS[case]
    bars = with_closes(days.split(), closes)
    known = bars.last_week(rolling.diff(bars["weekly_close"], 1))
    ends = sorted({value for value in expected if value is not None})
    change = dict(zip(ends[1:], np.diff(ends), strict=True))
    assert [None if np.isnan(value) else value for value in known] == [
        change.get(value) for value in expected
    ]


def test_weekly_close_is_that_of_each_weeks_last_session() -> None:
    days, closes, _ = WEEKS["week of 2001-09-11"]
    assert with_closes(days.split(), closes)["weekly_close"].tolist() == [2, 3, 6, 7]


# calendar


def left(days: list[str], calendar: str = "XNYS") -> list[float]:
    bars = random_bars(len(days)).assign(date=pd.to_datetime(days))
    return compute_tier(bars, "a200", calendar)["sessions_to_month_end"].tolist()


@pytest.mark.parametrize(
    ("day", "sessions"),
    [
        ("1997-01-17", 10),  # before Martin Luther King Day was a holiday, 20-24 and 27-31
        ("1998-01-16", 9),  # and since
        ("2001-08-31", 0),
        ("2001-09-04", 18),  # 5-7, 10-14, 17-21, 24-28: the closure of 11-14 was not scheduled
        ("2001-09-10", 14),
        ("2001-09-17", 9),
        ("2001-09-28", 0),
        ("2018-03-28", 1),
        ("2018-03-29", 0),  # Good Friday ends the month
        ("2018-12-03", 19),  # without Christmas; the day of mourning on the 5th was not scheduled
        ("2018-12-24", 4),
        ("2018-12-31", 0),
        ("2020-07-02", 20),  # Independence Day was kept on Friday the 3rd
        ("2021-06-18", 8),  # before Juneteenth was a holiday, 21-25 and 28-30
        ("2021-12-23", 5),  # Christmas was kept on Friday the 24th
        ("2021-12-31", 0),  # and New Year's Day, a Saturday, not at all
        ("2022-06-17", 8),  # 21-24 and 27-30
        ("2023-11-22", 5),  # Thanksgiving
        ("2024-02-28", 1),
        ("2024-03-01", 19),
        ("2024-03-28", 0),  # Good Friday
    ],
)
def test_sessions_to_month_end_are_those_of_the_published_schedule(day: str, sessions: int) -> None:
    assert left([day]) == [sessions]


def test_sessions_to_month_end_count_down_by_one_a_session() -> None:
    days = exchange_calendars.get_calendar("XNYS").sessions_in_range("2009-01-02", "2011-12-30")
    found = np.array(left([f"{day:%Y-%m-%d}" for day in days]))
    ends = np.append(days.month[1:] != days.month[:-1], True)
    assert (found[ends] == 0).all()
    assert (found[:-1][~ends[:-1]] == found[1:][~ends[:-1]] + 1).all()
    assert found.max() == 22


def test_sessions_to_month_end_do_not_depend_on_later_rows() -> None:
    days = ["2001-08-31", "2001-09-04", "2001-09-10", "2001-09-17", "2001-12-31"]
    whole = left(days)
    for rows in range(1, 5):
        assert left(days[:rows]) == whole[:rows]
    assert left(["2001-09-10", "2001-09-17"])[0] == whole[2]


def test_sessions_to_month_end_are_those_of_the_data_sets_exchange() -> None:
    assert left(["2024-12-24"], "XNYS") == [4.0]  # 26, 27, 30, 31
    assert left(["2024-12-24"], "XLON") == [3.0]  # without Boxing Day
    assert left(["2024-12-24"], "24/7") == [7.0]


def test_calendar_features_are_angles_of_the_week_and_the_year() -> None:
    # Monday 2001-01-01 ... Friday, and the first of each month
    days = pd.to_datetime([*pd.bdate_range("2001-01-01", periods=5), pd.Timestamp("2001-04-02")])
    found = compute_tier(random_bars(6).assign(date=days), "a200")
    turn = 2 * np.pi / 5 * np.array([0, 1, 2, 3, 4, 0])
    np.testing.assert_allclose(found["day_of_week_sin"], np.sin(turn), atol=1e-12)
    np.testing.assert_allclose(found["day_of_week_cos"], np.cos(turn), atol=1e-12)
    np.testing.assert_allclose(found["month_sin"], [0] * 5 + [1], atol=1e-12)
    np.testing.assert_allclose(found["month_cos"], [1] * 5 + [0], atol=1e-12)
