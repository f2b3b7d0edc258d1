"""Division of prediction dates: contiguous for training, scattered for the search."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from patchscale.split.dates import contiguous, make_split, scattered
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, Scattered, Split


def dataset(validation_from: object, test_from: object) -> Dataset:
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


def rules(
    *,
    seed: int = 0,
    block: int = 20,
    fraction: float = 0.15,
    embargo: int = 60,
    min_samples: int = 1,
    min_class: int = 1,
) -> Split:
    return Split(
        longest_context=60,
        embargo=embargo,
        min_samples=min_samples,
        min_class=min_class,
        scattered=Scattered(fraction=fraction, block=block, seed=seed),
    )


DAYS = pd.Series(pd.bdate_range("2020-01-06", periods=15))
SMALL = dataset(DAYS[6], DAYS[11])
MANY = pd.Series(pd.bdate_range("2000-01-03", periods=1500))
TEST_ROW = 1310
LARGE = dataset(MANY[1000], MANY[TEST_ROW])


def rows(subset: np.ndarray, name: str) -> list[int]:
    return np.flatnonzero(subset == name).tolist()


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return start and end, exclusive, of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]]))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_contiguous_rows_of_a_small_calendar_with_horizon_1() -> None:
    subset = contiguous(DAYS, SMALL, 1)
    assert rows(subset, "train") == [0, 1, 2, 3, 4]
    assert rows(subset, "val") == [6, 7, 8, 9]
    assert rows(subset, "test") == [11, 12, 13, 14]
    assert rows(subset, "purged") == [5, 10]


def test_contiguous_rows_of_a_small_calendar_with_horizon_3() -> None:
    subset = contiguous(DAYS, SMALL, 3)
    assert rows(subset, "train") == [0, 1, 2]
    assert rows(subset, "val") == [6, 7]
    assert rows(subset, "test") == [11, 12, 13, 14]
    assert rows(subset, "purged") == [3, 4, 5, 8, 9, 10]


def test_boundary_on_a_weekend_is_the_next_session() -> None:
    monday, weekend = DAYS[5], DAYS[5] - pd.Timedelta(days=1)
    assert monday.day_of_week == 0
    on_session = contiguous(DAYS, dataset(monday, DAYS[11]), 2)
    on_sunday = contiguous(DAYS, dataset(weekend, DAYS[11]), 2)
    assert on_sunday.tolist() == on_session.tolist()


def test_validation_shorter_than_the_horizon_leaves_no_label_across_a_boundary() -> None:
    subset = contiguous(DAYS, dataset(DAYS[9], DAYS[11]), 5)
    assert rows(subset, "train") == [0, 1, 2, 3]
    assert rows(subset, "val") == []
    assert rows(subset, "test") == [11, 12, 13, 14]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("horizon", [1, 5])
def test_subset_of_every_scattered_row_follows_from_its_distance_to_validation(
    horizon: int, seed: int
) -> None:
    embargo = 60
    subset = scattered(MANY, LARGE, horizon, rules(seed=seed, embargo=embargo))
    last = TEST_ROW - horizon
    validation = np.flatnonzero(subset == "val")
    for row, found in enumerate(subset):
        if row >= TEST_ROW:
            assert found == "test"
        elif row >= last:
            assert found == "purged"
        elif found != "val":
            ahead = ((validation > row) & (validation <= row + horizon)).any()
            behind = ((validation < row) & (validation >= row - horizon - embargo)).any()
            assert found == ("purged" if ahead or behind else "train"), row


@pytest.mark.parametrize("seed", range(5))
def test_scattered_validation_is_whole_blocks_with_every_day_a_sample(seed: int) -> None:
    # one sample per block would waste most validation days
    subset = scattered(MANY, LARGE, 1, rules(seed=seed, block=20))
    found = runs(subset == "val")
    assert len(found) > 3
    for start, end in found:
        assert start % 20 == 0
        # only the last block before test may lose its end to the purge
        assert (end - start) % 20 == 0 or end == TEST_ROW - 1


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.4])
def test_scattered_fraction_is_kept_to_a_block(fraction: float) -> None:
    subset = scattered(MANY, LARGE, 1, rules(fraction=fraction, block=20))
    assert abs(len(rows(subset, "val")) - fraction * TEST_ROW) <= 20


def test_scattered_blocks_fall_all_over_the_history() -> None:
    subset = scattered(MANY, LARGE, 1, rules(block=20))
    third = TEST_ROW // 3
    validation = np.array(rows(subset, "val"))
    assert [int(((validation // third) == part).sum()) > 0 for part in range(3)] == [True] * 3


@pytest.mark.parametrize("seed", range(5))
def test_every_period_of_the_history_has_one_scattered_block(seed: int) -> None:
    subset = scattered(MANY, LARGE, 1, rules(seed=seed, block=20))
    count = round(0.15 * TEST_ROW / 20)
    period = TEST_ROW / count
    starts = [start for start, _ in runs(subset == "val")]
    blocks = np.flatnonzero(subset == "val") // 20
    assert len(starts) <= count == len(set(blocks))
    for number, block in enumerate(sorted(set(blocks))):
        assert number * period - 40 < block * 20 < (number + 1) * period + 40


def test_scattered_embargo_is_added_to_the_horizon() -> None:
    subset = scattered(MANY, LARGE, 5, rules(block=20, fraction=0.02, embargo=60))
    for (_, end), (after, _) in pairwise(runs(subset == "val")):
        gap = subset[end:after]
        assert (gap[:65] == "purged").all()
        assert (gap[65:-5] == "train").all()
        assert (gap[-5:] == "purged").all()


def test_scattered_split_is_the_same_for_the_same_seed_only() -> None:
    first, again, other = (
        scattered(MANY, LARGE, 3, rules(seed=seed)).tolist() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_all_horizons_validate_on_the_same_blocks() -> None:
    wide = scattered(MANY, LARGE, 5, rules())
    narrow = scattered(MANY, LARGE, 1, rules())
    assert set(rows(wide, "val")) <= set(rows(narrow, "val"))
    assert len(rows(narrow, "val")) - len(rows(wide, "val")) <= 4


def alternating(n: int) -> pd.Series:
    return pd.Series(np.arange(n) % 2, dtype=float)


def test_split_table_holds_every_date_with_both_splits() -> None:
    table = make_split(MANY, alternating(1500), LARGE, rules(), 3)
    assert list(table.columns) == ["date", "label", "contiguous", "scattered"]
    assert table["date"].tolist() == MANY.tolist()
    assert table["label"].dtype == "int8"
    assert table["label"].tolist() == alternating(1500).tolist()
    assert table["contiguous"].tolist() == contiguous(MANY, LARGE, 3).tolist()
    assert table["scattered"].tolist() == scattered(MANY, LARGE, 3, rules()).tolist()


def test_too_few_samples_are_refused_with_the_counts() -> None:
    make_split(MANY, alternating(1500), LARGE, rules(min_samples=190), 3)
    message = (
        r"split\.contiguous, h=3: test has 190 samples, 95 positive; "
        r"needed: 191 samples \(split\.min_samples\)"
    )
    with pytest.raises(InputError, match=message):
        make_split(MANY, alternating(1500), LARGE, rules(min_samples=191), 3)


@pytest.mark.parametrize(("label", "positives"), [(1.0, 185), (0.0, 5)])
def test_too_few_of_either_class_are_refused_with_the_counts(label: float, positives: int) -> None:
    labels = alternating(1500)
    labels[TEST_ROW:] = label
    labels[TEST_ROW : TEST_ROW + 5] = 1 - label
    make_split(MANY, labels, LARGE, rules(min_class=5), 1)
    message = (
        rf"test has 190 samples, {positives} positive; .* 6 of each class \(split\.min_class\)"
    )
    with pytest.raises(InputError, match=message):
        make_split(MANY, labels, LARGE, rules(min_class=6), 1)


def test_scattered_validation_must_be_large_enough_too() -> None:
    few = rules(min_samples=50, fraction=0.01, block=10)
    with pytest.raises(InputError, match=r"split\.scattered, h=1: val has 10 samples"):
        make_split(MANY, alternating(1500), LARGE, few, 1)


def test_scattered_rows_of_a_small_calendar() -> None:
    # 32 dates, test from row 26: blocks of 4 begin at 0, 4 ... 20; seed 9 draws those at 4 and 20
    days = pd.Series(pd.bdate_range("2020-01-06", periods=32))
    data = dataset(days[20], days[26])
    subset = scattered(days, data, 2, rules(seed=9, block=4, fraction=0.3, embargo=3))
    assert rows(subset, "val") == [4, 5, 6, 7, 20, 21, 22, 23]
    # purged: 2 before a block, 2 + 3 after it, the last 2 before test
    assert rows(subset, "purged") == [2, 3, 8, 9, 10, 11, 12, 18, 19, 24, 25]
    assert rows(subset, "train") == [0, 1, 13, 14, 15, 16, 17]
    assert rows(subset, "test") == [26, 27, 28, 29, 30, 31]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("horizon", "embargo"), [(1, 0), (3, 0), (1, 12), (5, 7)])
def test_scattered_blocks_are_purged_as_skfolio_purges_them(
    horizon: int, embargo: int, seed: int
) -> None:
    from skfolio.model_selection import CombinatorialPurgedCV

    block, folds, chosen = 20, 12, 3
    n = block * folds
    # no block lies in the `horizon` dates before test; skfolio has no test set that follows
    days = MANY[: n + horizon + 50]
    data = dataset(days[n - block], days[n + horizon])
    drawn = rules(seed=seed, block=block, fraction=chosen * block / (n + horizon), embargo=embargo)
    subset = scattered(days, data, horizon, drawn)[:n]
    theirs = CombinatorialPurgedCV(
        n_folds=folds, n_test_folds=chosen, purged_size=horizon, embargo_size=embargo
    )
    same = [
        train.tolist()
        for train, tests in theirs.split(np.zeros((n, 1)))
        if sorted(np.concatenate(tests).tolist()) == rows(subset, "val")
    ]
    assert same == [rows(subset, "train")]
