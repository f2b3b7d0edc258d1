"""Subsets of a test year, and a reader that shows neither its labels nor later dates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from walked import BARS as HISTORY
from walked import YEAR, walk_params, write_tables

from patchscale.split.walk import DAYS, no_forecasts, read_walk, walk_forward, years_searched
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, write_arrow

DATES = pd.Series(pd.bdate_range("2001-12-27", "2004-01-05"))
RULES = walk_params().split


def dates_of(subset: pd.Series, name: str) -> list[str]:
    chosen = DATES[subset.index[subset == name]]
    return [f"{day:%Y-%m-%d}" for day in (chosen.iloc[0], chosen.iloc[-1])]


def test_a_test_year_follows_its_validation_year_and_later_dates_are_dropped() -> None:
    subset = walk_forward(DATES, 2003, 2)
    assert dates_of(subset, "train") == ["2001-12-27", "2001-12-27"]
    assert dates_of(subset, "val") == ["2002-01-01", "2002-12-27"]
    assert dates_of(subset, "test") == ["2003-01-01", "2003-12-31"]
    assert DATES[subset.index[subset == "purged"]].dt.strftime("%Y-%m-%d").tolist() == [
        "2001-12-28",
        "2001-12-31",
        "2002-12-30",
        "2002-12-31",
    ]
    assert subset.index.equals(DATES[DATES < "2004"].index)


def test_a_year_beyond_the_data_has_no_test_dates() -> None:
    assert (walk_forward(DATES, 2005, 1) != "test").all()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_tables(folder, HISTORY, walk_params())
    return folder


@pytest.mark.parametrize(("horizon", "ahead"), [("h1", 1), ("h5", 5)])
def test_labels_of_test_and_purged_dates_are_hidden_and_all_others_shown(
    root: Path, horizon: str, ahead: int
) -> None:
    whole = read_arrow(root / paths.split(horizon)).set_index("date")
    table = read_walk(root / paths.split(horizon), 2008, ahead, RULES)
    assert table["date"].tolist() == whole.index[whole.index < "2009"].tolist()
    shown = table["subset"].isin(("train", "val"))
    assert table.loc[~shown, "label"].isna().all()
    labels = table[shown].set_index("date")["label"]
    assert labels.tolist() == whole.loc[labels.index, "label"].tolist()
    # dates that the fixed split purges are samples of other years
    assert "purged" in set(whole.loc[labels.index, "contiguous"])


def test_a_year_without_enough_dates_is_refused_with_the_counts(root: Path) -> None:
    path = root / paths.split("h1")
    with pytest.raises(InputError, match=r"year 2009: test has 5\d samples; needed: 200 \(split"):
        read_walk(path, 2009, 1, RULES)
    with pytest.raises(InputError, match=r"year 2002: train has 0 samples; needed: 200 \(split"):
        read_walk(path, 2002, 1, RULES)


def test_training_dates_of_one_class_are_refused(tmp_path: Path, root: Path) -> None:
    table = read_arrow(root / paths.split("h1"))
    table["label"] = np.where(table["date"] < f"{YEAR - 1}", 0, table["label"]).astype("int8")
    write_arrow(tmp_path / "h1.arrow", table)
    with pytest.raises(InputError, match="train has 0 samples of one class; needed: 30"):
        read_walk(tmp_path / "h1.arrow", YEAR, 1, RULES)


def test_years_searched_are_those_of_the_scattered_division(root: Path) -> None:
    files = [root / paths.split(horizon) for horizon in ("h1", "h5")]
    assert years_searched(files) == set(range(2001, 2008))  # test begins in 2008


def test_a_table_without_forecasts_has_the_columns_of_one_with_them(tmp_path: Path) -> None:
    write_arrow(tmp_path / "none.arrow", no_forecasts(["p_seed0"]))
    table = read_arrow(tmp_path / "none.arrow")
    assert list(table) == [*DAYS, "p_seed0"]
    assert table.empty
