"""Forecasts of a walk forward are compared with split and parameters in all their parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from walked import BARS, walk_params, write_tables

from patchscale.split.walk import DAYS, read_walk
from patchscale.study import paths
from patchscale.study.files import read_arrow, read_json, write_arrow, write_json
from patchscale.study.params import Params, Walked
from patchscale.verify.records import DIFFERS, UNAVAILABLE, Check
from patchscale.verify.walk import compare_walks, walked_budgets

TABLE, FIGURES = paths.walk("2M"), paths.walk_metrics("2M")


def params_of_one_walk() -> Params:
    """Return parameters in which 2M is walked at h5 with two seeds, and no other budget."""
    params = walk_params()
    budgets = {
        name: budget.model_copy(
            update={"walk": Walked(seeds=2, horizons=["h5"] if name == "2M" else [])}
        )
        for name, budget in params.budgets.items()
    }
    return params.model_copy(update={"budgets": budgets})


PARAMS = params_of_one_walk()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    write_tables(root, BARS, PARAMS)
    return root


@pytest.fixture
def root(tables: Path) -> Path:
    """Write forecasts and figures as stage walk does; return the folder of the study."""
    splits = [
        read_walk(tables / paths.split(horizon), year, ahead, PARAMS.split).assign(
            horizon=horizon, year=year
        )
        for horizon, ahead in [("h5", PARAMS.horizons["h5"])]
        for year in PARAMS.walk_years
    ]
    days = pd.concat(split[split["subset"].isin(("val", "test"))] for split in splits)
    p = np.random.default_rng(0).random((2, len(days)))
    write_arrow(tables / TABLE, days[list(DAYS)].assign(p_seed0=p[0], p_seed1=p[1]))
    saw = {"2006": True, "2008": False}
    write_json(tables / FIGURES, {"walked": True, "seeds": 2, "settings_saw_year": saw})
    return tables


def checked(root: Path) -> Check:
    (row,) = compare_walks(PARAMS, root)
    assert row.what == "walk of 2M"
    return row


def test_what_nobody_touched_is_compared_but_for_its_probabilities(root: Path) -> None:
    row = checked(root)
    assert (row.verdict, row.detail) == (
        UNAVAILABLE,
        "no weights are kept; all but probabilities compared",
    )
    assert walked_budgets(PARAMS) == ["2M"]


def test_a_missing_table_is_not_available(root: Path) -> None:
    (root / TABLE).unlink()
    assert (checked(root).verdict, checked(root).detail) == (UNAVAILABLE, f"{TABLE} is missing")


def nudge(column: str, by: Any) -> Callable[[pd.DataFrame], Any]:
    def change(table: pd.DataFrame) -> None:
        table.loc[table.index[-1], column] += by

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nudge("p_seed1", 1.0), "a probability is not a number from 0 to 1"),
        (nudge("p_seed0", np.nan), "a probability is not a number from 0 to 1"),
        (nudge("date", pd.Timedelta(days=1)), "date differs from the split"),
        (nudge("subset", "s"), "subset differs from the split"),
        (nudge("horizon", "0"), "horizon differs from the split"),
        (nudge("year", 1), "year differs from the split"),
        (lambda table: table.iloc[:-1], "date differs from the split"),
        (lambda table: table.drop(columns="p_seed1"), "its columns are not horizon, year, date"),
    ],
)
def test_a_change_of_the_table_is_found(
    root: Path, change: Callable[[pd.DataFrame], Any], said: str
) -> None:
    table = read_arrow(root / TABLE)
    found = change(table)
    write_arrow(root / TABLE, table if found is None else found)
    assert checked(root).verdict == DIFFERS
    assert said in checked(root).detail


@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds", 3), ("walked", 1), ("settings_saw_year", {"2006": False, "2008": False})],
)
def test_a_change_of_the_figures_is_found(root: Path, key: str, value: Any) -> None:
    write_json(root / FIGURES, read_json(root / FIGURES) | {key: value})
    row = checked(root)
    assert (row.verdict, row.detail) == (
        DIFFERS,
        f"{FIGURES} differs from the parameters and the split",
    )


@pytest.mark.parametrize("content", [b"", b"[]", b"nothing"])
def test_damaged_files_differ_in_one_line(root: Path, content: bytes) -> None:
    (root / FIGURES).write_bytes(content)
    assert checked(root).verdict == DIFFERS
    (root / TABLE).write_bytes(content)
    row = checked(root)
    assert row.verdict == DIFFERS
    assert "\n" not in row.detail
