"""Pitfall 11: weekly values knew Friday on Monday, features used shift(-5), a tier was filled."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from patchscale.features import TIERS, compute_tier
from patchscale.market import PRICES

Compute = Callable[[pd.DataFrame], pd.DataFrame]

NAMES = [feature.name for feature in TIERS["a25"]]
CUTS = 24


@pytest.fixture(scope="module")
def gapped(bars: pd.DataFrame) -> pd.DataFrame:
    """Return 480 bars of which a tenth is missing, so that weeks begin and end anywhere."""
    keep = np.random.default_rng(7).random(len(bars)) > 0.1
    return bars[keep].head(480).reset_index(drop=True)


@pytest.fixture(scope="module")
def cuts(gapped: pd.DataFrame) -> list[int]:
    """Return rows to cut at: random ones, one of every weekday, and the first and last."""
    random = np.random.default_rng(11).choice(np.arange(1, 479), CUTS, replace=False).tolist()
    weekdays = gapped["date"].dt.day_of_week
    of_weekday = [
        int(gapped.index[(weekdays == day) & (gapped.index > 200)][0]) for day in range(5)
    ]
    return sorted({0, 478, *random, *of_weekday})


def leaks_when_cut(compute: Compute, bars: pd.DataFrame, cuts: list[int]) -> set[str]:
    """Return the columns whose row t differs between the history cut after t and the whole."""
    whole = compute(bars)
    wrong: set[str] = set()
    for row in cuts:
        cut = compute(bars.iloc[: row + 1])
        assert len(cut) == row + 1
        for name in whole.columns.drop("date"):
            if not np.array_equal(cut[name].iloc[-1:], whole[name].iloc[[row]], equal_nan=True):
                wrong.add(name)
    return wrong


def leaks_when_changed(compute: Compute, bars: pd.DataFrame, cuts: list[int]) -> set[str]:
    """Return the columns with a row <= t that changes when every bar after t changes."""
    whole = compute(bars)
    wrong: set[str] = set()
    for row in cuts:
        other = bars.copy()
        other.loc[row + 1 :, [*PRICES, "volume"]] *= 3.0
        other.loc[row + 1 :, PRICES] += 10.0
        changed = compute(other)
        for name in whole.columns.drop("date"):
            before, after = whole[name].iloc[: row + 1], changed[name].iloc[: row + 1]
            if not np.array_equal(before, after, equal_nan=True):
                wrong.add(name)
    return wrong


def tier(bars: pd.DataFrame) -> pd.DataFrame:
    return compute_tier(bars, "a25")


def own_week(bars: pd.DataFrame) -> pd.Series:
    """Return the close of each day's own week, known before the week is over."""
    return bars["close"].groupby(bars["date"].dt.to_period("W-SUN")).transform("last")


LEAKS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "tomorrow": lambda bars: bars["close"].shift(-1),
    "in_five_days": lambda bars: bars["close"].shift(-5),
    "filled_back": lambda bars: bars["close"].rolling(50).mean().bfill(),
    "centred": lambda bars: bars["close"].rolling(5, center=True).mean(),
    "standardised_whole": lambda bars: bars["close"] / bars["close"].std(),
    "own_week": own_week,
}


def leaking(bars: pd.DataFrame) -> pd.DataFrame:
    return tier(bars).assign(**{name: leak(bars).to_numpy() for name, leak in LEAKS.items()})


def test_every_value_is_the_same_on_the_history_cut_after_it(
    gapped: pd.DataFrame, cuts: list[int]
) -> None:
    assert len(cuts) >= 20
    assert list(tier(gapped).columns) == ["date", *NAMES]
    assert leaks_when_cut(tier, gapped, cuts) == set()


def test_no_value_changes_when_later_bars_change(gapped: pd.DataFrame, cuts: list[int]) -> None:
    assert leaks_when_changed(tier, gapped, cuts) == set()


@pytest.mark.parametrize("leaks", [leaks_when_cut, leaks_when_changed])
def test_both_checks_catch_features_that_see_the_future(
    gapped: pd.DataFrame, cuts: list[int], leaks: Callable[..., set[str]]
) -> None:
    assert leaks(leaking, gapped, cuts) == set(LEAKS)


def test_later_bars_do_matter_to_later_rows(gapped: pd.DataFrame) -> None:
    # else the two checks would pass on features that read no bars
    other = gapped.copy()
    other.loc[300:, [*PRICES, "volume"]] *= np.linspace(1, 3, 180)[:, None]
    before, after = tier(gapped), tier(other)
    for name in NAMES:
        assert not np.array_equal(before[name].iloc[400:], after[name].iloc[400:]), name


def day(bars: pd.DataFrame, date: str) -> int:
    return int(bars.index[bars["date"] == date][0])


def first_moved(bars: pd.DataFrame, name: str, row: int) -> int:
    """Return the first row of a column that moves with the close of `row`, up or down."""
    values = tier(bars)[name]
    moved = pd.Series(False, index=values.index)
    for factor in (0.8, 1.25):  # one of them, since a bounded value may stand at its bound
        changed = bars.copy()
        changed.loc[row, "close"] *= factor
        moved |= tier(changed)[name] != values
    return int(moved[values.notna()].idxmax())


@pytest.fixture
def months(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars of 2000-01-03 … 2001-12 without the Monday 2001-09-03 and Friday 2001-09-14."""
    away = bars["date"].isin(pd.to_datetime(["2001-09-03", "2001-09-14"]))
    return bars[~away].head(500).reset_index(drop=True)


WEEKLY = ["rsi_weekly", "stochrsi_weekly"]


@pytest.mark.parametrize("name", WEEKLY)
def test_tuesday_after_a_holiday_knows_the_week_that_ended_on_friday(
    months: pd.DataFrame, name: str
) -> None:
    values = tier(months)[name]
    tuesday, friday = day(months, "2001-09-04"), day(months, "2001-08-31")
    assert tuesday == friday + 1
    # the first weekly value that can read that Friday's close is Tuesday's
    assert first_moved(months, name, friday) == tuesday
    # and Tuesday itself, with the rest of its week, does not touch it
    changed = months.copy()
    changed.loc[tuesday : tuesday + 3, PRICES] *= 1.25
    again = tier(changed)[name]
    assert again[: tuesday + 4].equals(values[: tuesday + 4])


@pytest.mark.parametrize("name", WEEKLY)
def test_week_that_ends_on_thursday_is_known_on_monday(months: pd.DataFrame, name: str) -> None:
    thursday, monday = day(months, "2001-09-13"), day(months, "2001-09-17")
    assert monday == thursday + 1
    assert first_moved(months, name, thursday) == monday


@pytest.mark.parametrize("name", WEEKLY)
def test_weekly_value_stands_still_within_a_week(gapped: pd.DataFrame, name: str) -> None:
    weeks = gapped["date"].dt.to_period("W-SUN")
    values = tier(gapped)[name]
    assert (values.groupby(weeks).nunique() <= 1).all()
    assert values.nunique() > 30
