"""Each search sees the labels of its own horizon, of dates before the test year, and no others."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, random_bars
from walked import BEST

from patchscale.split.dates import make_split
from patchscale.split.labels import touch_labels
from patchscale.study import paths
from patchscale.study.files import read_arrow, write_arrow, write_json
from patchscale.study.params import Params, load_params
from patchscale.train.inputs import Inputs, read_inputs

BARS = random_bars(3000, seed=3)
WARM_UP = 120
HORIZONS = {"h1": 1, "h3": 3, "h5": 5}


@pytest.fixture(scope="module")
def params() -> Params:
    raw = load_params(ROOT).model_dump()
    dates = [f"{BARS['date'][row]:%Y-%m-%d}" for row in (0, 1900, 2500, 2999)]
    keys = ("start", "validation_from", "test_from", "end")
    raw["datasets"][raw["dataset"]] |= dict(zip(keys, dates, strict=True))
    return Params.model_validate(raw).with_grid(load_params(ROOT).grid)


@pytest.fixture(scope="module")
def study(tmp_path_factory, params) -> Path:
    """Return a folder with features and splits of random bars."""
    root = tmp_path_factory.mktemp("study")
    tier = params.features.tier
    noise = np.random.default_rng(0).standard_normal(len(BARS))
    write_arrow(root / paths.features(tier), pd.DataFrame({"date": BARS["date"], "noise": noise}))
    write_json(root / paths.kinds(tier), {"noise": "stationary"})
    for name, ahead in HORIZONS.items():
        labels = touch_labels(BARS, params.target, ahead)
        chosen = labels.notna() & (BARS.index >= WARM_UP)
        table = make_split(BARS["date"][chosen], labels[chosen], params.data, params.split, ahead)
        write_arrow(root / paths.split(name), table)
    return root


def seen(inputs: Inputs) -> dict[int, float]:
    """Return every label that a search reads, by row of the bars."""
    parts = (inputs.train, inputs.val)
    return {
        int(row): float(label)
        for part in parts
        for row, label in zip(part.rows, part.labels, strict=True)
    }


def searched(params: Params, root: Path, name: str) -> dict[int, float]:
    return seen(read_inputs(params, f"2M-{name}", BEST, division="scattered", root=root))


def touched(row: int, ahead: int, theta: float) -> float:
    """Return the label by its definition, without the library."""
    after = BARS["high"][row + 1 : row + 1 + ahead].max()
    return float(after >= BARS["close"][row] * (1 + theta))


@pytest.mark.parametrize("name", HORIZONS)
def test_a_search_reads_the_labels_of_its_horizon(study, params, name):
    labels = searched(params, study, name)
    assert len(labels) > 1500
    for row, label in labels.items():
        assert label == touched(row, HORIZONS[name], params.target.theta)


def test_searches_of_h1_h3_and_h5_saw_different_labels(study, params):
    h1, h3, h5 = (searched(params, study, name) for name in HORIZONS)
    common = h1.keys() & h3.keys() & h5.keys()
    assert len(common) > 1500
    for one, other in ((h1, h3), (h3, h5), (h1, h5)):
        assert np.mean([one[row] != other[row] for row in common]) > 0.05


@pytest.mark.parametrize("name", HORIZONS)
def test_a_search_reads_nothing_of_test_nor_a_label_that_looks_into_it(study, params, name):
    last = max(searched(params, study, name))
    assert last + HORIZONS[name] < 2500


@pytest.mark.parametrize("name", HORIZONS)
def test_changing_the_labels_of_test_changes_nothing_a_search_reads(study, params, name, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    before = searched(params, study, name)
    labels = touch_labels(BARS, params.target, HORIZONS[name])
    chosen = labels.notna() & (BARS.index >= WARM_UP)
    labels[BARS.index >= 2500 - HORIZONS[name]] = np.arange(500 + HORIZONS[name]) % 2
    table = make_split(
        BARS["date"][chosen], labels[chosen], params.data, params.split, HORIZONS[name]
    )
    write_arrow(tmp_path / "study" / paths.split(name), table)
    assert searched(params, tmp_path / "study", name) == before


@pytest.mark.parametrize("division", ["contiguous", "scattered"])
def test_a_search_has_the_scattered_division_and_a_training_the_contiguous_one(
    study, params, division
):
    inputs = read_inputs(params, "2M-h3", BEST, division=division, root=study)
    table = read_arrow(study / paths.split("h3"))
    for name, samples in {"train": inputs.train, "val": inputs.val}.items():
        dates = BARS["date"][samples.rows.tolist()].tolist()
        assert dates == table.loc[table[division] == name, "date"].tolist()


@pytest.mark.parametrize("name", HORIZONS)
def test_no_training_context_of_a_search_holds_most_of_a_validation_block(study, params, name):
    inputs = read_inputs(params, f"2M-{name}", BEST, division="scattered", root=study)
    train, val = set(inputs.train.rows.tolist()), set(inputs.val.rows.tolist())
    assert not train & val
    for row in train:  # its label ends before the next block, its context begins after the last
        assert not val & set(range(row, row + HORIZONS[name] + 1))
        assert not val & set(range(row - params.split.embargo + 1, row))
