"""Stage backtest with predictions that do not match the split: one line, exit code 2."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, random_bars

from patchscale.bars import canonical_csv
from patchscale.split.dates import make_split
from patchscale.split.labels import touch_labels
from patchscale.split.table import read_split
from patchscale.study.files import write_arrow, write_json, write_text
from patchscale.study.params import Dataset, Split, Target, load_params


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the inputs of `backtest` for 2M-h1."""
    path = tmp_path_factory.mktemp("study")
    for name in ("params.yaml", "grid.yaml"):
        shutil.copy(ROOT / name, path)
    params = load_params(path)
    bars = random_bars(900)
    labels = touch_labels(bars, Target(side="up", reference="extreme", theta=0.01), 1)
    data = params.data.model_dump() | {"validation_from": "2001-12-03", "test_from": "2002-10-01"}
    split = make_split(
        bars["date"][:-1],
        labels[:-1],
        Dataset(**data),
        Split(**params.split.model_dump() | {"min_samples": 20, "min_class": 5}),
        1,
    )
    write_text(path / "data/raw/gspc/sp500.csv", canonical_csv(bars))
    write_arrow(path / "data/split/h1.arrow", split)
    write_json(path / "metrics/cards/2M-h1.json", {"trained": True, "n_params": 2_000_000})
    return path


def predictions(study: Path) -> pd.DataFrame:
    split = read_split(study / "data/split/h1.arrow", labels_of=set())
    judged = split[split["subset"].isin(["val", "test"])]
    p = np.random.default_rng(0).random(len(judged))
    return pd.DataFrame({"date": judged["date"], "subset": judged["subset"], "p": p, "p_seed0": p})


class Done(NamedTuple):
    returncode: int
    stderr: str


@pytest.fixture
def backtest(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[pd.DataFrame], Done]:
    """Return a function that runs the stage in this process on a table of predictions."""
    script = str(ROOT / "stages/backtest.py")
    monkeypatch.chdir(study)
    monkeypatch.setattr(sys, "argv", [script, "2M-h1"])

    def run(table: pd.DataFrame) -> Done:
        write_arrow(study / "data/predictions/2M-h1.arrow", table)
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            return Done(end.code, capsys.readouterr().err)
        return Done(0, capsys.readouterr().err)

    return run


def test_bad_predictions_are_refused_and_keep_the_outputs_of_good_ones(study, backtest):
    good = predictions(study)
    done = backtest(good)
    assert done.returncode == 0, done.stderr
    kept = {
        file: file.read_bytes()
        for folder in ("metrics/backtest", "plots", "data/losses", "data/trades")
        for file in (study / folder).rglob("*")
        if file.is_file()
    }
    assert len(kept) == 6
    missing, nan, two = good.drop(good.index[[3, 4]]), good.copy(), good.copy()
    nan.loc[good.index[7], "p"] = np.nan
    two.loc[good.index[7], "p"] = 2.0
    days = good["date"].dt.strftime("%Y-%m-%d").tolist()
    for table, said in (
        (missing, f"2 of {len(good)} dates are missing, the first {days[3]}"),
        (nan, f"p of {days[7]} is 'nan'; a finite number is needed"),
        (two, f"p of {days[7]} is 2.0; a probability from 0 to 1 is needed"),
        (good.iloc[::-1], f"{days[-2]} does not come after the date before it"),
        (good.assign(subset="exam"), f"subset of {days[0]} is 'exam'; one of train, val, test"),
        (good.drop(columns="p"), "columns date, subset, p_seed0; needed: date, subset, p"),
        (good.iloc[:0], "no rows"),
    ):
        done = backtest(table)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "data/predictions/2M-h1.arrow: " in line
        assert said in line
        assert {file: file.read_bytes() for file in kept} == kept


def test_a_constant_prediction_is_judged_and_its_ranking_undefined(study, backtest):
    done = backtest(predictions(study).assign(p=0.3, p_seed0=0.3))
    assert done.returncode == 0, done.stderr
    figures = yaml.safe_load((study / "metrics/backtest/2M-h1.json").read_text())
    for subset in ("val", "test"):
        assert figures[subset]["auc"] is None
        assert "probabilities are equal" in figures[subset]["undefined"]["auc"]
        assert figures[subset]["collapsed"]
