"""In a walk forward nothing before a boundary depends on bars after it, for each test year.

Each check is also given a leak that it must find.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from walked import BARS, BEST, HORIZONS, TIER, YEAR, walk_params, write_tables

from patchscale.bars import PRICES
from patchscale.baselines import forecasts, regressors
from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.model.windows import Windows
from patchscale.split.walk import read_walk, walk_forward
from patchscale.study import paths
from patchscale.study.tables import read_features
from patchscale.train.inputs import Inputs, assemble

PARAMS = walk_params()
Read = Callable[[Path, int, int], pd.DataFrame]
# without a database of examples a run leaves nothing behind, and two runs test the same
FAST = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def read(path: Path, year: int, horizon: int) -> pd.DataFrame:
    return read_walk(path, year, horizon, PARAMS.split)


def unpurged(path: Path, year: int, horizon: int) -> pd.DataFrame:
    """Read a test year with a leak: labels reach over the boundaries."""
    return read_walk(path, year, 0, PARAMS.split)


def scaled_with_all(path: Path, year: int, horizon: int) -> pd.DataFrame:
    """Read a test year with a leak: every date up to the end of the year is of training."""
    table = read(path, year, horizon)
    table["subset"] = table["subset"].replace("val", "train")
    return table


def changed_from(day: pd.Timestamp) -> pd.DataFrame:
    """Return the bars with other prices, which begin at half, and volumes from a day on."""
    late = BARS["date"] >= day
    random = np.random.default_rng(0)
    bars = BARS.copy()
    factors = 0.5 * np.exp(np.cumsum(random.normal(0, 0.03, late.sum())))
    bars.loc[late, PRICES] *= factors[:, None]
    bars.loc[late, "volume"] *= 3
    return bars


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    write_tables(root, BARS, PARAMS)
    return root


BOUNDARIES = {
    "validation": pd.Timestamp(YEAR - 1, 1, 1),
    "test": pd.Timestamp(YEAR, 1, 1),
    "later": pd.Timestamp(YEAR + 1, 1, 1),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a study for each boundary, in which every bar after it is another."""
    roots = {name: tmp_path_factory.mktemp(name) for name in BOUNDARIES}
    for name, root in roots.items():
        write_tables(root, changed_from(BOUNDARIES[name]), PARAMS)
    return roots


def inputs_of(root: Path, horizon: str, reader: Read) -> Inputs:
    """Return the inputs of a test year as stage walk assembles them."""
    split = reader(root / paths.split(horizon), YEAR, HORIZONS[horizon])
    table, kinds = read_features(TIER, split["date"], root)
    known = table[table["date"] <= split["date"].iloc[-1]]
    return assemble(known, kinds, split, PARAMS.window, BEST)


def what_training_sees(inputs: Inputs) -> dict[str, object]:
    return {
        "windows": inputs.windows(inputs.train.rows).tolist(),
        "labels": inputs.train.labels.tolist(),
        "base rate": inputs.train.base_rate,
    }


def what_selection_sees(inputs: Inputs) -> dict[str, object]:
    return what_training_sees(inputs) | {
        "val windows": inputs.windows(inputs.val.rows).tolist(),
        "val labels": inputs.val.labels.tolist(),
    }


def what_is_forecast(inputs: Inputs) -> dict[str, object]:
    judged = inputs.windows(inputs.judged_rows).tolist()
    return what_selection_sees(inputs) | {"windows of all": judged}


SEEN = {
    "validation": what_training_sees,
    "test": what_selection_sees,
    "later": what_is_forecast,
}


def leaks(
    whole: Path, changed: dict[str, Path], boundary: str, horizon: str, reader: Read
) -> set[str]:
    """Return what is seen before a boundary and depends on bars after it."""
    before, after = (
        SEEN[boundary](inputs_of(root, horizon, reader)) for root in (whole, changed[boundary])
    )
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_bars_after_a_boundary_change_nothing_before_it(
    whole: Path, changed: dict[str, Path], boundary: str, horizon: str
) -> None:
    assert leaks(whole, changed, boundary, horizon, read) == set()


def test_later_bars_do_change_what_comes_after_them(whole: Path, changed: dict[str, Path]) -> None:
    # otherwise the checks would pass for inputs that do not depend on bars
    first, other = (inputs_of(root, "h5", read) for root in (whole, changed["validation"]))
    assert first.windows(first.val.rows).tolist() != other.windows(other.val.rows).tolist()
    assert first.val.labels.tolist() != other.val.labels.tolist()


def test_the_checks_find_labels_that_reach_over_a_boundary(
    whole: Path, changed: dict[str, Path]
) -> None:
    assert "labels" in leaks(whole, changed, "validation", "h5", unpurged)
    assert "val labels" in leaks(whole, changed, "test", "h5", unpurged)


def test_the_checks_find_a_scaler_that_sees_validation(
    whole: Path, changed: dict[str, Path]
) -> None:
    found = leaks(whole, changed, "validation", "h5", scaled_with_all)
    assert {"windows", "base rate"} <= found


@pytest.mark.parametrize("horizon", HORIZONS)
def test_scalers_and_base_rate_are_those_of_the_training_rows(whole: Path, horizon: str) -> None:
    inputs = inputs_of(whole, horizon, read)
    table, kinds = read_features(TIER, pd.Series(dtype="datetime64[ns]"), whole)
    days = table["date"][inputs.train.rows.numpy()]
    assert (days < BOUNDARIES["validation"]).all()
    values = table[list(kinds)].to_numpy(dtype=float)
    own = Windows(values, list(kinds.values()), inputs.train.rows.numpy(), 60)
    assert torch.equal(own(inputs.judged_rows), inputs.windows(inputs.judged_rows))
    positives = float(inputs.train.labels.sum())
    assert inputs.train.base_rate == (positives + 1) / (len(days) + 2)
    assert inputs.as_of < BOUNDARIES["later"]


@FAST
@given(
    start=st.dates(date(1999, 1, 1), date(2003, 12, 31)),
    n=st.integers(300, 1500),
    holes=st.integers(0, 999),
    year=st.integers(2000, 2010),
    horizon=st.integers(1, 60),
)
def test_no_label_window_reaches_the_next_subset_of_a_test_year(
    start: date, n: int, holes: int, year: int, horizon: int
) -> None:
    days = pd.bdate_range(start, periods=n)
    dates = pd.Series(days[np.random.default_rng(holes).random(n) > 0.1])
    subset = walk_forward(dates, year, horizon)
    assert (dates[subset.index] < pd.Timestamp(year + 1, 1, 1)).all()
    ends = {"train": pd.Timestamp(year - 1, 1, 1), "val": pd.Timestamp(year, 1, 1)}
    for name, end in ends.items():
        for row in np.flatnonzero(subset == name):
            window = dates.iloc[row : row + horizon + 1]
            assert len(window) == horizon + 1
            assert (window < end).all()


def baseline_forecasts(bars: pd.DataFrame, root: Path, horizon: str) -> pd.DataFrame:
    ahead = HORIZONS[horizon]
    split = read(root / paths.split(horizon), YEAR, ahead)
    features = drop_warm_up(compute_tier(bars, TIER))
    _, kinds = read_features(TIER, split["date"], root)
    inputs = regressors(bars, None, features, kinds, 60, PARAMS.target, ahead)
    return forecasts(split, inputs).set_index("date")


@pytest.mark.parametrize(("boundary", "same"), [("test", "val"), ("later", "test")])
def test_baselines_of_a_year_do_not_depend_on_bars_after_it(
    whole: Path, changed: dict[str, Path], boundary: str, same: str
) -> None:
    first = baseline_forecasts(BARS, whole, "h5")
    other = baseline_forecasts(changed_from(BOUNDARIES[boundary]), changed[boundary], "h5")
    rows = first.index[first["subset"] == same]
    pd.testing.assert_frame_equal(first.loc[rows], other.loc[rows], check_exact=True)
    if boundary == "test":
        rows = first.index[first["subset"] == "test"]
        assert not first.loc[rows, "har_logistic"].equals(other.loc[rows, "har_logistic"])
