"""Published probabilities, cards and figures of trainings are compared in all their parts."""

import json
import runpy
import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from toy import SPACE, toy_params

from patchscale.study import paths
from patchscale.study.files import digest, read_arrow, read_json, write_arrow
from patchscale.study.params import load_best, load_params
from patchscale.train.inputs import read_inputs
from patchscale.verify.predictions import gap, recompute
from patchscale.verify.records import Check
from patchscale.verify.remake import retrain

CELL = "1K-h1"
TABLE = paths.predictions(CELL)
WEIGHTS = paths.published_weights(CELL, 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study with one tiny cell of two seeds, trained, the first seed's weights published.

    No test changes it.
    """
    root = tmp_path_factory.mktemp("trained")
    params = toy_params({"1K": 6320}, {"h1": 1})
    params["budgets"]["1K"]["settings"] = "table"
    row = {"budget": "1K", "horizon": "h1", "search": "h1"}
    row |= {"d_model": 16, "n_layers": 1, "n_heads": 2}
    grid = {"searches": ["h1"], "cells": {CELL: row}}
    for name, content in (("params", params), ("grid", grid), ("space", SPACE)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    with pytest.MonkeyPatch.context() as patch, chdir(root):
        patch.setenv("DVC_ROOT", str(root))
        patch.setenv("OMP_NUM_THREADS", "1")  # the seeds are trained in this process
        for command in ("download", "features a20", "split h1", f"hpo {CELL}", f"train {CELL}"):
            stage, *words = command.split()
            runpy.run_path(f"stages/{stage}.py")["main"](*words)
        runpy.run_path("stages/weights.py")["main"](CELL)
    return root


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    root = tmp_path / "study"
    shutil.copytree(trained, root, ignore=shutil.ignore_patterns("src", "stages", "models", "runs"))
    return root


def checked(root: Path) -> Check:
    (row,) = recompute(load_params(root), {f"weights@{CELL}": None}, root)
    assert row.what == f"probabilities of {CELL}"
    assert "\n" not in row.detail
    assert len(row.detail) < 400
    return row


def edited(root: Path, change: Callable[[pd.DataFrame], Any]) -> Check:
    """Return the check of a study whose table of probabilities was changed."""
    table = read_arrow(root / TABLE)
    found = change(table)
    write_arrow(root / TABLE, table if found is None else found)
    return checked(root)


def test_the_same_weights_give_the_same_and_what_has_no_weights_is_said(trained: Path) -> None:
    assert checked(trained) == Check(
        f"probabilities of {CELL}", "reproduced", "p_seed1 not compared, no weights"
    )


def nudge(column: str, by: float) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[table.index[-1], column] += by

    return change


def lift(table: pd.DataFrame) -> None:
    """Raise a seed and the mean together, on one test day."""
    last = table.index[-1]
    table.loc[last, "p_seed0"] += 2e-3
    table.loc[last, "p"] += 1e-3


def on_every_val_day(table: pd.DataFrame) -> None:
    """Raise the seed without weights and the mean together, on the validation days."""
    val = table["subset"] == "val"
    table.loc[val, "p_seed1"] += 0.02
    table.loc[val, "p"] += 0.01


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lift, "largest difference 2.0e-03, allowed 0.0001"),
        (on_every_val_day, "metrics/train/1K-h1.json differs from its probabilities"),
        (nudge("p", 1e-3), "p is not the mean of the seeds"),
        (nudge("p_seed0", 1e-3), "p is not the mean of the seeds"),
        (nudge("p_seed1", 1e-3), "p is not the mean of the seeds"),
        (nudge("p_seed1", 1.0), "a probability is not a number from 0 to 1"),
        (nudge("p_seed1", -1.0), "a probability is not a number from 0 to 1"),
        (nudge("date", pd.Timedelta(days=1)), "date differs from the split"),
        (lambda table: table.iloc[:-1], "date differs from the split"),
        (lambda table: table.iloc[:0], "date differs from the split"),
        (lambda table: table.iloc[::-1], "date differs from the split"),
        (lambda table: pd.concat([table, table]), "date differs from the split"),
        (lambda table: table.assign(subset="val"), "subset differs from the split"),
        (lambda table: table.assign(label=1), "its columns are not date, subset, p, p_seed0"),
        (lambda table: table.drop(columns="p_seed1"), "its columns are not date, subset, p, p_"),
        (lambda table: table.assign(p="half"), "not of their form"),
    ],
)
def test_every_column_is_compared(
    study: Path, change: Callable[[pd.DataFrame], Any], said: str
) -> None:
    row = edited(study, change)
    assert row.verdict == "differs"
    assert said in row.detail


@pytest.mark.parametrize("column", ["p", "p_seed0", "p_seed1"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", ["all", "one"])
def test_what_is_no_number_is_never_reproduced(
    study: Path, column: str, value: float, rows: str
) -> None:
    def change(table: pd.DataFrame) -> None:
        table.loc[table.index if rows == "all" else table.index[3], column] = value

    row = edited(study, change)
    assert row.verdict == "differs"
    assert "a probability is not a number from 0 to 1" in row.detail


def test_a_gap_that_is_no_number_is_infinite(trained: Path) -> None:
    params = load_params(trained)
    inputs = read_inputs(params, CELL, load_best(params, CELL, trained), root=trained)
    stored = read_arrow(trained / TABLE)["p_seed0"]
    assert gap(stored, trained / WEIGHTS, inputs) == 0
    stored[3] = np.nan
    assert gap(stored, trained / WEIGHTS, inputs) == float("inf")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("trained", False, "its card differs in trained"),
        ("trained", 1, "its card differs in trained"),
        ("n_params", 7, "its card differs in n_params"),
        ("n_params", float("nan"), "its card differs in n_params"),
        ("threads", 10**9, "its card differs in threads"),
        ("data_as_of", "2050-01-01", "its card differs in data_as_of"),
        ("features", {}, "its card differs in features"),
        ("shape", None, "its card differs in shape"),
        ("settings", {}, "its card differs in settings"),
        ("more\n" * 100, 1, "its card differs in more more"),
        ("replicates", [], "its card has not the seeds 0 to 1"),
        ("replicates", None, "not of their form"),
        ("replicates", [{"seed": 0}, {"seed": 1}], "not of their form"),
        ("replicates/1/val_log_loss", 0.1, "the validation log-loss of seed 1 is not that of"),
        ("replicates/1/val_log_loss", float("nan"), "the validation log-loss of seed 1 is not"),
        ("replicates/0/sha256", "0" * 64, "seed0.safetensors is not of the card"),
        ("replicates/0/kept_epoch", 9, "metrics/train/1K-h1.json differs"),
    ],
)
def test_a_card_is_compared_with_parameters_search_and_data(
    study: Path, key: str, value: object, said: str
) -> None:
    card = section = read_json(study / paths.card(CELL))
    *above, last = key.split("/")
    for part in above:
        section = section[int(part) if part.isdigit() else part]
    section[last] = value
    (study / paths.card(CELL)).write_text(json.dumps(card))
    row = checked(study)
    assert row.verdict == "differs"
    assert said in row.detail


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{}", b"\xff", b"null"])
@pytest.mark.parametrize("path", [paths.card(CELL), paths.train_metrics(CELL), TABLE, WEIGHTS])
def test_a_damaged_file_differs_in_one_line(study: Path, path: Path, content: bytes) -> None:
    (study / path).write_bytes(content)
    assert checked(study).verdict == "differs"


@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds", 3), ("n_params", 1), ("trained", False), ("val", {}), ("more", 1)],
)
def test_figures_of_a_training_are_made_again(study: Path, key: str, value: object) -> None:
    figures = read_json(study / paths.train_metrics(CELL)) | {key: value}
    (study / paths.train_metrics(CELL)).write_text(json.dumps(figures))
    assert checked(study).verdict == "differs"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\n1,", "\n2,", "its curves are not of the seeds of its card"),
        (",val_log_loss", ",loss", "not of their form"),
    ],
)
def test_a_curve_must_be_that_of_the_card(study: Path, old: str, new: str, said: str) -> None:
    path = study / paths.plot("curves", CELL)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    row = checked(study)
    assert row.verdict == "differs"
    assert said in row.detail


def test_a_curve_must_have_the_kept_epoch_of_the_card(study: Path) -> None:
    best = read_json(study / paths.card(CELL))["replicates"][0]["kept_epoch"]
    path = study / paths.plot("curves", CELL)
    path.write_text(path.read_text().replace(f"\n0,{best},", "\n0,9,"))
    assert "the curve of seed 0 is not that of its card" in checked(study).detail


def test_a_loss_of_a_curve_must_be_that_of_the_card(study: Path) -> None:
    path = study / paths.plot("curves", CELL)
    curves = pd.read_csv(path)
    curves["val_log_loss"] += 1e-3
    curves.to_csv(path, index=False)
    assert "the curve of seed 0 is not that of its card" in checked(study).detail


@pytest.mark.slow
def test_a_cell_trained_again_with_the_tracked_code_is_the_same_bits(
    trained: Path, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(trained, root)
    for command in (["init", "-q"], ["add", "src", "stages"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    (root / "stages/yaml.py").write_text("raise SystemExit('not tracked')")
    assert retrain(CELL, root) == Check(f"training of {CELL}", "reproduced", "bit for bit")


def test_weights_of_another_model_differ(study: Path) -> None:
    content = bytearray((study / WEIGHTS).read_bytes())
    content[-2] ^= 1
    (study / WEIGHTS).write_bytes(content)
    assert "is not of the card" in checked(study).detail
    card = read_json(study / paths.card(CELL))
    card["replicates"][0]["sha256"] = digest(study / WEIGHTS)
    (study / paths.card(CELL)).write_text(json.dumps(card))
    assert checked(study).verdict in ("within tolerance", "differs")


def test_without_weights_all_but_the_seeds_is_compared(study: Path) -> None:
    (study / WEIGHTS).unlink()
    row = checked(study)
    assert row.verdict == "not available"
    assert row.detail == (
        "its weights are not here; `dvc pull` brings them; all but p_seed0, p_seed1 compared"
    )
    assert edited(study, lambda table: table.assign(p=0.5)).verdict == "differs"


def test_a_table_that_is_missing_is_not_available(study: Path) -> None:
    (study / TABLE).unlink()
    assert checked(study).verdict == "not available"
