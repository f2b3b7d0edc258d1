"""No label of a subset depends on bars of a later one, and each horizon has its own labels."""

import runpy
from contextlib import chdir
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_study
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.bars import PRICES, canonical_csv
from patchscale.features.tiers import WARM_UP
from patchscale.split.dates import contiguous, scattered
from patchscale.split.labels import touch_labels
from patchscale.study import paths
from patchscale.study.files import read_arrow, write_text
from patchscale.study.params import Dataset, Scattered, Split, Target, load_params

LONGEST_CONTEXT = 70
UP = Target(side="up", reference="extreme", theta=0.01)
# without a database of examples a run leaves nothing behind, and two runs test the same
FAST = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def dataset(validation_from: pd.Timestamp, test_from: pd.Timestamp) -> Dataset:
    return Dataset(
        source="csv",
        series="bars",
        path="bars.csv",
        calendar="XNYS",
        start="1999-01-04",
        end="2030-12-31",
        validation_from=f"{validation_from:%Y-%m-%d}",
        test_from=f"{test_from:%Y-%m-%d}",
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[pd.Series, Dataset, int]:
    """Return session dates with holes, a data set with boundaries on any days, and a horizon."""
    n = draw(st.integers(40, 250))
    holes = np.random.default_rng(draw(st.integers(0, 999))).random(n) < 0.1
    dates = pd.Series(pd.bdate_range("2000-01-03", periods=n)[~holes])
    span = (dates.iloc[-1] - dates.iloc[0]).days
    first = draw(st.integers(1, span - 1))
    second = draw(st.integers(first + 1, span))
    boundaries = [dates.iloc[0] + pd.Timedelta(days=days) for days in (first, second)]
    return dates, dataset(*boundaries), draw(st.integers(1, 8))


def is_true(flags: pd.Series | np.ndarray) -> list[int]:
    return np.flatnonzero(flags).tolist()


@FAST
@given(histories())
def test_no_label_window_reaches_the_next_subset(
    history: tuple[pd.Series, Dataset, int],
) -> None:
    dates, data, horizon = history
    subset = contiguous(dates, data, horizon)
    for name, start in (("train", data.validation_from), ("val", data.test_from)):
        for row in is_true(subset == name):
            window = dates.iloc[row : row + horizon + 1]
            assert len(window) == horizon + 1
            assert (window < pd.Timestamp(start)).all()


@FAST
@given(histories())
def test_every_other_date_is_a_sample_of_the_subset_it_lies_in(
    history: tuple[pd.Series, Dataset, int],
) -> None:
    # to ask for the whole context inside the subset would lose its first months
    dates, data, horizon = history
    subset = contiguous(dates, data, horizon)
    n_train = int((dates < data.validation_from).sum())
    n_before_test = int((dates < data.test_from).sum())
    assert is_true(subset == "train") == list(range(n_train - horizon))
    assert is_true(subset == "val") == list(range(n_train, n_before_test - horizon))
    assert is_true(subset == "test") == list(range(n_before_test, len(dates)))


@FAST
@given(histories(), st.integers(1, 30), st.integers(0, 70), st.integers(0, 99))
def test_scattered_training_never_sees_validation_nor_either_of_them_test(
    history: tuple[pd.Series, Dataset, int], block: int, embargo: int, seed: int
) -> None:
    dates, data, horizon = history
    rules = Split(
        longest_context=60,
        embargo=embargo,
        min_samples=1,
        min_class=1,
        scattered=Scattered(fraction=0.15, block=block, seed=seed),
    )
    subset = scattered(dates, data, horizon, rules)
    n_before_test = int((dates < data.test_from).sum())
    assert is_true(subset == "test") == list(range(n_before_test, len(dates)))
    validation = set(is_true(subset == "val"))
    for row in is_true(subset == "train"):
        assert row + horizon < n_before_test
        assert validation.isdisjoint(range(row + 1, row + horizon + 1))
        # no context of a training date contains sessions of a validation label
        assert validation.isdisjoint(range(row - horizon - embargo, row))
    assert all(row + horizon < n_before_test for row in validation)


@settings(FAST, max_examples=40)
@given(
    n=st.integers(30, 200),
    row=st.integers(0, 190),
    horizon=st.integers(1, 8),
    factor=st.sampled_from([0.2, 5.0]),
    side=st.sampled_from(["up", "down"]),
    reference=st.sampled_from(["extreme", "close"]),
)
def test_labels_do_not_change_when_bars_beyond_their_window_change(
    bars: pd.DataFrame, n: int, row: int, horizon: int, factor: float, side: Any, reference: Any
) -> None:
    target = Target(side=side, reference=reference, theta=0.01)
    history = bars.iloc[:n]
    row = min(row, n - horizon - 1)
    before = touch_labels(history, target, horizon)
    other = history.copy()
    other.loc[row + horizon + 1 :, PRICES] *= factor
    after = touch_labels(other, target, horizon)
    assert after[: row + 1].tolist() == before[: row + 1].tolist()
    assert before[: row + 1].notna().all()


def test_labels_do_change_when_the_last_bar_of_their_window_changes(bars: pd.DataFrame) -> None:
    for horizon in (1, 2, 3, 5):
        before = touch_labels(bars, UP, horizon)
        row = int(before.index[before == 0][-1])
        other = bars.copy()
        other.loc[row + horizon, "high"] *= 5
        after = touch_labels(other, UP, horizon)
        assert after[row] == 1
        assert is_true((after != before) & before.notna()) == [
            day for day in range(row, row + horizon) if before[day] == 0
        ]


@pytest.fixture(scope="module")
def splits(bars: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the split stage on 900 bars for every horizon; return its tables and the horizons."""
    folder = tmp_path_factory.mktemp("study")
    dates = {
        "start": "2000-01-03",
        "end": "2010-12-31",
        "validation_from": f"{bars['date'][500]:%Y-%m-%d}",
        "test_from": f"{bars['date'][700]:%Y-%m-%d}",
    }
    sizes = {"min_samples": 20, "min_class": 5, "longest_context": LONGEST_CONTEXT}
    write_study(
        folder,
        ("params/dataset", "csv"),
        *((f"params/datasets/csv/{key}", day) for key, day in dates.items()),
        *((f"params/split/{key}", size) for key, size in sizes.items()),
        ("params/target", UP.model_dump()),
    )
    write_text(folder / paths.raw("csv", "bars"), canonical_csv(bars))
    main = runpy.run_path(str(ROOT / "stages" / "split.py"))["main"]
    horizons = load_params(folder).horizons
    with chdir(folder):
        for name in horizons:
            main(name)
    return {name: read_arrow(folder / paths.split(name)) for name in horizons}, horizons


def test_stage_keeps_every_date_that_has_features_a_longest_context_and_a_label(
    splits: Any, bars: pd.DataFrame
) -> None:
    # the longest context, not the one in use: all tiers and contexts have the same dates
    tables, horizons = splits
    for name, table in tables.items():
        first, last = WARM_UP + LONGEST_CONTEXT - 1, len(bars) - horizons[name]
        assert table["date"].tolist() == bars["date"][first:last].tolist()


def test_first_session_of_test_is_itself_a_sample(splits: Any, bars: pd.DataFrame) -> None:
    # its context may lie before the boundary
    for table in splits[0].values():
        for name, row in (("val", 500), ("test", 700)):
            assert table.loc[table["contiguous"] == name, "date"].iloc[0] == bars["date"][row]


def test_last_dates_before_each_boundary_are_purged(splits: Any, bars: pd.DataFrame) -> None:
    tables, horizons = splits
    for name, table in tables.items():
        gone = table.loc[table["contiguous"] == "purged", "date"].tolist()
        ahead = horizons[name]
        rows = [*range(500 - ahead, 500), *range(700 - ahead, 700)]
        assert gone == bars["date"][rows].tolist()


def test_every_horizon_has_its_own_labels(splits: Any, bars: pd.DataFrame) -> None:
    # labels of one horizon used for all would look like a result
    tables, horizons = splits
    rounded = bars.assign(**bars[PRICES].round(6))  # what the canonical file holds
    for name, table in tables.items():
        expected = touch_labels(rounded, UP, horizons[name])
        expected.index = pd.Index(rounded["date"])
        assert table["label"].tolist() == expected[table["date"]].tolist()
    h1, h5 = tables["h1"]["label"], tables["h5"]["label"]
    assert (h1[: len(h5)] != h5).mean() > 0.1
    shares = [tables[name]["label"].mean() for name in ("h1", "h2", "h3", "h5")]
    assert shares == sorted(set(shares))
