"""No feature depends on later bars.

Typical leaks are weekly values that use Friday on Monday, shifts by a negative number of rows, and
missing values that are filled from later rows.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference import random_vix

from patchscale.bars import PRICES
from patchscale.features.formulas import compute_tier
from patchscale.features.tiers import TIERS, WARM_UP

Compute = Callable[[pd.DataFrame], pd.DataFrame]

BARS = [*PRICES, "volume"]
NAMES = [feature.name for feature in TIERS["a200c"]] + BARS
CALENDAR = [feature.name for feature in TIERS["a200"] if feature.family == "calendar"]
OF_VIX = [feature.name for feature in TIERS["a200c"] if feature.family == "vix"]
LENGTH = 700
CUTS = 24


@pytest.fixture(scope="module")
def gapped() -> pd.DataFrame:
    """Return bars and `vix` without a tenth of all days, so that weeks begin and end on any day."""
    bars = random_bars(900)
    bars["vix"] = random_vix(bars)["close"]
    keep = np.random.default_rng(7).random(len(bars)) > 0.1
    return bars[keep].head(LENGTH).reset_index(drop=True)


@pytest.fixture(scope="module")
def cuts(gapped: pd.DataFrame) -> list[int]:
    """Return rows to cut at: random, first, last, and every weekday before and after warm-up."""
    last = LENGTH - 2
    random = np.random.default_rng(11).choice(np.arange(1, last), CUTS, replace=False).tolist()
    weekdays = gapped["date"].dt.day_of_week
    of_weekday = [
        int(gapped.index[(weekdays == day) & (gapped.index > after)][0])
        for day in range(5)
        for after in (150, 400)
    ]
    return sorted({0, last, WARM_UP - 1, WARM_UP, *random, *of_weekday})


def every_column(bars: pd.DataFrame) -> pd.DataFrame:
    """Return all 200 features, the 13 of the volatility index and the bar's five columns."""
    vix = bars[["date"]].assign(close=bars["vix"])
    table = compute_tier(bars, "a200c", vix=vix)
    bar = compute_tier(bars, "a25")[BARS]
    return table.assign(**{name: bar[name] for name in BARS})


def differing(found: pd.DataFrame, whole: pd.DataFrame, rows: int) -> set[str]:
    """Return the columns that differ in any bit of the first rows."""
    before, after = (
        table.head(rows).drop(columns="date").to_numpy(dtype=float) for table in (found, whole)
    )
    assert before.shape == after.shape
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    return set(whole.columns.drop("date")[~same.all(axis=0)])


def leaks_when_cut(compute: Compute, bars: pd.DataFrame, cuts: list[int]) -> set[str]:
    """Return the columns with a row <= t that differs on the history cut after t."""
    whole = compute(bars)
    return set().union(*(differing(compute(bars.head(row + 1)), whole, row + 1) for row in cuts))


def leaks_when_changed(compute: Compute, bars: pd.DataFrame, cuts: list[int]) -> set[str]:
    """Return the columns with a row <= t that changes when every bar after t changes."""
    whole = compute(bars)
    wrong: set[str] = set()
    for row in cuts:
        other = bars.copy()
        other.loc[row + 1 :, [*BARS, "vix"]] *= 3.0
        other.loc[row + 1 :, PRICES] += 10.0
        wrong |= differing(compute(other), whole, row + 1)
    return wrong


def leaks_when_dates_change(compute: Compute, bars: pd.DataFrame, cuts: list[int]) -> set[str]:
    """Return the columns with a row <= t that changes when other sessions follow after t."""
    whole = compute(bars)
    wrong: set[str] = set()
    for row in cuts:
        thinned = pd.concat([bars.head(row + 1), bars.iloc[row + 4 :: 3]], ignore_index=True)
        longer = bars.iloc[row + 1 :].assign(date=lambda later: later["date"] + pd.Timedelta("60D"))
        moved = pd.concat([bars.head(row + 1), longer], ignore_index=True)
        for other in (thinned, moved):
            wrong |= differing(compute(other), whole, row + 1)
    return wrong


LEAKS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "tomorrow": lambda bars: bars["close"].shift(-1),
    "in_five_days": lambda bars: bars["close"].shift(-5),
    "vix_tomorrow": lambda bars: bars["vix"].shift(-1),
    "filled_back": lambda bars: bars["close"].rolling(50).mean().bfill(),
    "centred": lambda bars: bars["close"].rolling(5, center=True).mean(),
    "standardised_whole": lambda bars: bars["close"] / bars["close"].std(),
    "own_week": lambda bars: (
        bars["close"].groupby(bars["date"].dt.to_period("W-SUN")).transform("last")
    ),
}
CHECKS = [leaks_when_cut, leaks_when_changed, leaks_when_dates_change]


def leaking(bars: pd.DataFrame) -> pd.DataFrame:
    table = bars[["date", *BARS]]
    return table.assign(**{name: leak(bars).to_numpy() for name, leak in LEAKS.items()})


def session_count(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the sessions left in each month, counted in the bars themselves."""
    left = bars.groupby(bars["date"].dt.to_period("M")).cumcount(ascending=False)
    return bars[["date"]].assign(left=left.to_numpy())


def test_history_is_cut_within_and_after_the_warm_up_on_every_weekday(
    gapped: pd.DataFrame, cuts: list[int]
) -> None:
    assert len(cuts) >= 24
    for rows in (cuts[: cuts.index(WARM_UP)], cuts[cuts.index(WARM_UP) :]):
        assert len(rows) >= 10
        assert set(gapped["date"].dt.day_of_week[rows]) == set(range(5))
    assert (cuts[0], cuts[-1]) == (0, LENGTH - 2)


@pytest.mark.parametrize("leaks", CHECKS)
def test_no_value_depends_on_later_bars(
    gapped: pd.DataFrame, cuts: list[int], leaks: Callable[..., set[str]]
) -> None:
    assert sorted(every_column(gapped).columns) == sorted(["date", *NAMES])
    assert leaks(every_column, gapped, cuts) == set()


@pytest.mark.parametrize("leaks", CHECKS)
def test_checks_catch_features_that_see_the_future(
    gapped: pd.DataFrame, cuts: list[int], leaks: Callable[..., set[str]]
) -> None:
    assert leaks(leaking, gapped, cuts) == set(LEAKS)


@pytest.mark.parametrize("leaks", [leaks_when_cut, leaks_when_dates_change])
def test_checks_catch_sessions_counted_in_the_bars(
    gapped: pd.DataFrame, cuts: list[int], leaks: Callable[..., set[str]]
) -> None:
    assert leaks(session_count, gapped, cuts) == {"left"}


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_of_the_history_cut_today_ends_with_the_same_row(
    gapped: pd.DataFrame, cuts: list[int], tier: str
) -> None:
    def compute(bars: pd.DataFrame) -> pd.DataFrame:
        return compute_tier(bars, tier, vix=bars[["date"]].assign(close=bars["vix"]))

    assert leaks_when_cut(compute, gapped, cuts[::6]) == set()


def test_later_bars_do_matter_to_later_rows(gapped: pd.DataFrame) -> None:
    # otherwise the checks would pass for features that do not depend on bars
    other = gapped.copy()
    random = np.random.default_rng(5)
    other.loc[300:, PRICES] *= np.exp(np.cumsum(random.normal(0, 0.02, LENGTH - 300)))[:, None]
    other.loc[300:, ["volume", "vix"]] *= random.uniform(0.5, 2, (LENGTH - 300, 2))
    later = [table.iloc[400:] for table in (every_column(gapped), every_column(other))]
    assert differing(*later, LENGTH) == set(NAMES) - set(CALENDAR)


def test_only_features_of_the_volatility_index_depend_on_it(gapped: pd.DataFrame) -> None:
    other = gapped.assign(vix=gapped["vix"][::-1].to_numpy())
    assert differing(every_column(other), every_column(gapped), LENGTH) == set(OF_VIX)


# without a database of examples a run leaves nothing behind, and two runs test the same; a failure
# is not reduced to a smaller one, which would take minutes
FAST = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)


@FAST
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 420),
    share=st.floats(0, 1),
    tick=st.sampled_from([None, 0.01, 0.5]),
    factor=st.sampled_from([1e-3, 0.9, 1.0, 40.0]),
    gone=st.integers(0, 30),
)
def test_features_of_rows_up_to_today_never_change_when_later_rows_do(
    seed: int, rows: int, share: float, tick: float | None, factor: float, gone: int
) -> None:
    bars = random_bars(rows, seed)
    if tick is not None:  # many prices are equal
        bars[PRICES] = (bars[PRICES] / tick).round() * tick
    bars["vix"] = random_vix(bars, seed)["close"]
    today = int(share * (rows - 2))
    other = random_bars(rows + 5, seed + 1, start="2000-01-03")
    other["vix"] = random_vix(other, seed + 1)["close"]
    other[[*BARS, "vix"]] *= factor
    later = other.iloc[today + 1 + gone :]
    changed = pd.concat([bars.head(today + 1), later], ignore_index=True)
    assert differing(every_column(changed), every_column(bars), today + 1) == set()


def day(bars: pd.DataFrame, date: str) -> int:
    return int(bars.index[bars["date"] == date][0])


def first_moved(bars: pd.DataFrame, name: str, row: int) -> int:
    """Return the first row of a column that moves with the close of `row`, up or down."""
    values = compute_tier(bars, "a20")[name]
    moved = pd.Series(False, index=values.index)
    for factor in (0.8, 1.25):  # a bounded value may not move with one of them
        changed = bars.copy()
        changed.loc[row, "close"] *= factor
        moved |= compute_tier(changed, "a20")[name] != values
    return int(moved[values.notna()].idxmax())


@pytest.fixture
def months(bars: pd.DataFrame) -> pd.DataFrame:
    """Return 500 bars from 2000-01-03 without Monday 2001-09-03 and Friday 2001-09-14."""
    away = bars["date"].isin(pd.to_datetime(["2001-09-03", "2001-09-14"]))
    return bars[~away].head(500).reset_index(drop=True)


WEEKLY = ["rsi_weekly", "stochrsi_weekly"]


@pytest.mark.parametrize("name", WEEKLY)
def test_tuesday_after_a_holiday_uses_the_week_that_ended_on_friday(
    months: pd.DataFrame, name: str
) -> None:
    values = compute_tier(months, "a20")[name]
    tuesday, friday = day(months, "2001-09-04"), day(months, "2001-08-31")
    assert tuesday == friday + 1
    # the first weekly value that depends on that Friday's close is Tuesday's
    assert first_moved(months, name, friday) == tuesday
    # Tuesday and the rest of its week do not change it
    changed = months.copy()
    changed.loc[tuesday : tuesday + 3, PRICES] *= 1.25
    again = compute_tier(changed, "a20")[name]
    assert again[: tuesday + 4].equals(values[: tuesday + 4])


@pytest.mark.parametrize("name", WEEKLY)
def test_week_that_ends_on_thursday_is_used_on_monday(months: pd.DataFrame, name: str) -> None:
    thursday, monday = day(months, "2001-09-13"), day(months, "2001-09-17")
    assert monday == thursday + 1
    assert first_moved(months, name, thursday) == monday


@pytest.mark.parametrize("name", WEEKLY)
def test_weekly_value_is_constant_within_a_week(gapped: pd.DataFrame, name: str) -> None:
    weeks = gapped["date"].dt.to_period("W-SUN")
    values = compute_tier(gapped, "a20")[name]
    assert (values.groupby(weeks).nunique() <= 1).all()
    assert values.nunique() > 30
