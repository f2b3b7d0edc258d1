"""Reading of a split table without the labels that a stage must not see."""

from pathlib import Path

import pandas as pd
import pytest

from patchscale.split.table import read_split
from patchscale.study.files import write_arrow

ROWS = [
    # label, contiguous, scattered
    (1, "train", "val"),
    (0, "train", "purged"),
    (1, "purged", "train"),
    (0, "val", "train"),
    (1, "val", "val"),
    (1, "purged", "purged"),
    (0, "test", "test"),
    (1, "test", "test"),
]
DAYS = pd.bdate_range("2018-01-01", periods=len(ROWS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a split file with all combinations that matter."""
    table = pd.DataFrame(ROWS, columns=["label", "contiguous", "scattered"])
    table.insert(0, "date", DAYS)
    write_arrow(tmp_path / "h1.arrow", table.astype({"label": "int8"}))
    return tmp_path / "h1.arrow"


def labels(table: pd.DataFrame) -> list[int | None]:
    return [None if pd.isna(label) else int(label) for label in table["label"]]


def test_labels_of_test_stay_hidden_unless_asked_for(path: Path) -> None:
    seen = read_split(path, ("train", "val"))
    assert seen["subset"].tolist() == [row[1] for row in ROWS]
    assert labels(seen) == [1, 0, None, 0, 1, None, None, None]
    judged = read_split(path, ("test",))
    assert labels(judged) == [None, None, None, None, None, None, 0, 1]


def test_search_reads_scattered_labels_and_none_of_purged_or_test(path: Path) -> None:
    seen = read_split(path, ("train", "val"), "scattered")
    assert seen["subset"].tolist() == [row[2] for row in ROWS]
    assert labels(seen) == [1, None, 1, 0, 1, None, None, None]


def test_all_dates_are_returned_whatever_labels_are_read(path: Path) -> None:
    for wanted in ((), ("test",), ("train", "val", "test")):
        table = read_split(path, wanted)
        assert list(table.columns) == ["date", "label", "subset"]
        assert table["date"].tolist() == DAYS.tolist()
        assert table["label"].dtype == float
