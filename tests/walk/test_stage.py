"""Stage walk: what it trains, keeps, forecasts and says, on a toy study of one cell."""

import json
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from toy import SPACE, toy_params

from patchscale.model.patchtst import predict
from patchscale.model.weights import load_model, save_weights
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.pool import Pool
from patchscale.split.walk import DAYS, read_walk
from patchscale.study import paths
from patchscale.study.errors import InputError, Stopped
from patchscale.study.files import digest, read_arrow, read_json
from patchscale.study.params import Params, load_chosen, load_params
from patchscale.train.loop import train

YEARS = [2011, 2012]
SEEDS = 2


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study with one tiny budget, ready to be walked; no test changes it."""
    root = tmp_path_factory.mktemp("prepared")
    params = toy_params({"1K": 6320}, {"h1": 1})
    params["budgets"]["1K"] |= {
        "settings": "table",
        "walk": {"seeds": SEEDS, "horizons": ["h1"]},
    }
    params["walk"]["years"] = []
    row = {"budget": "1K", "horizon": "h1", "search": "h1"}
    row |= {"d_model": 16, "n_layers": 1, "n_heads": 2}
    grid = {"searches": ["h1"], "cells": {"1K-h1": row}}
    for name, content in (("params", params), ("grid", grid), ("space", SPACE)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    with chdir(root):
        for command in ("download", "features a20", "split h1", "hpo 1K-h1", "settings"):
            run(*command.split())
    return root


def run(stage: str, *words: str) -> None:
    runpy.run_path(f"stages/{stage}.py")["main"](*words)


@pytest.fixture
def study(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a copy that a test may change; it is the current folder, with one process."""
    root = tmp_path / "study"
    shutil.copytree(prepared, root)
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.chdir(root)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield root
    torch.set_num_threads(threads)


def changed(**sections: Any) -> None:
    """Change sections of params.yaml in the current folder."""
    file = Path("params.yaml")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | sections))


def jobs(params: Params, year: int) -> list[Any]:
    stage = runpy.run_path("stages/walk.py")
    found: list[Any] = stage["jobs_of"](params, "1K", "h1", year, Path("walk"))
    return found


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every pool stop when a number of trainings have ended."""
    whole: Callable[..., Any] = Pool.train

    def part(self: Pool, replicas: Any) -> Any:
        for count, outcome in enumerate(whole(self, replicas)):
            if count == number:
                raise Stopped.between_steps("asked")
            yield outcome

    monkeypatch.setattr(Pool, "train", part)


def test_forecasts_are_those_of_each_year_trained_on_the_years_before_it(study: Path) -> None:
    run("walk", "1K")
    params = load_params()
    table = read_arrow(paths.walk("1K"))
    assert list(table) == [*DAYS, "p_seed0", "p_seed1"]
    assert table["p_seed0"].between(0, 1).all()
    assert (table["p_seed0"] != table["p_seed1"]).all()
    for year in YEARS:
        found = table[table["year"] == year]
        split = read_walk(paths.split("h1"), year, 1, params.split)
        judged = split[split["subset"].isin(("val", "test"))]
        assert found["date"].tolist() == judged["date"].tolist()
        assert found["subset"].tolist() == judged["subset"].tolist()
        assert set(found.loc[found["subset"] == "test", "date"].dt.year) == {year}
    # a training by hand, with weights rounded as published ones are
    replica = jobs(params, 2012)[1].replica
    checkpoint = Checkpoint(study / "alone")
    train(replica.inputs, replica.settings, 1, checkpoint)
    save_weights(study / "weights", checkpoint.best())
    model = load_model(study / "weights", replica.inputs.shape)
    alone = predict(model, replica.inputs.windows, replica.inputs.judged_rows)
    of_2012 = table.loc[table["year"] == 2012, "p_seed1"]
    np.testing.assert_array_equal(alone.double().numpy(), of_2012)
    assert not list((study / ".resume").glob("walk-1K/*"))


def test_a_training_gets_no_label_of_test_and_no_day_after_the_year(study: Path) -> None:
    split = read_arrow(paths.split("h1")).set_index("date")
    days = read_arrow(paths.features("a20"))["date"]
    inputs = jobs(load_params(), 2011)[0].replica.inputs
    assert f"{inputs.as_of:%Y}" == "2011"
    for samples, last in ((inputs.train, "2010"), (inputs.val, "2011")):
        dates = days[samples.rows.numpy()]
        assert (dates < last).all()
        assert samples.labels.tolist() == split.loc[dates, "label"].tolist()
    assert int(inputs.judged_rows.max()) < int((days < "2012").sum())


def test_settings_chosen_on_labels_of_a_test_year_are_said_so(study: Path) -> None:
    run("walk", "1K")
    searched = read_arrow(paths.split("h1"))
    searched = searched[searched["scattered"].isin(("train", "val"))]
    truth = {str(year): bool((searched["date"].dt.year == year).any()) for year in YEARS}
    assert truth == {"2011": True, "2012": False}  # the search knows no day of its test year
    figures = read_json(paths.walk_metrics("1K"))
    assert figures == {"walked": True, "seeds": SEEDS, "settings_saw_year": truth}


def test_a_walk_that_was_stopped_trains_only_what_it_lacks(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("walk", "1K")
    whole = digest(paths.walk("1K"))
    paths.walk("1K").unlink()
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            run("walk", "1K")
    kept = sorted(file.name for file in (study / ".resume/walk-1K").glob("*-seed*.json"))
    assert [name.rpartition("-")[0] for name in kept] == [
        "h1-2011-seed0",
        "h1-2011-seed1",
        "h1-2012-seed0",
    ]
    assert not paths.walk("1K").exists()
    # one of them is damaged: it is trained again, the others are not
    (study / ".resume/walk-1K" / kept[0]).write_text(json.dumps({"p": [0.5], "sha256": "0"}))
    capsys.readouterr()
    run("walk", "1K")
    assert "walk of 1K: 2 of 4 trainings to do" in capsys.readouterr().err
    assert digest(paths.walk("1K")) == whole


def test_each_year_and_each_setting_has_a_training_of_its_own(study: Path) -> None:
    def identities() -> list[str]:
        return [job.replica.checkpoint.path.name for year in YEARS for job in jobs(params, year)]

    params = load_params()
    before = identities()
    assert len(set(before)) == len(YEARS) * SEEDS
    assert len({name.rpartition("-")[2] for name in before}) == len(YEARS)
    assert identities() == before
    changed(train=params.train.model_dump() | {"clip": 0.5})
    params = load_params()
    assert set(identities()).isdisjoint(before)


def test_only_the_years_asked_for_are_walked(study: Path) -> None:
    changed(walk={"years": [2012]})
    run("walk", "1K")
    assert set(read_arrow(paths.walk("1K"))["year"]) == {2012}
    run("walk_baselines")
    baselines = read_arrow(paths.walk("baselines"))
    names = ["prior", "persistence", "vol_logistic", "har_logistic", "boosting"]
    assert list(baselines) == [*DAYS, *names]
    assert baselines[list(DAYS)].equals(read_arrow(paths.walk("1K"))[list(DAYS)])
    assert ((baselines[names] > 0) & (baselines[names] < 1)).all(axis=None)


def test_a_budget_that_is_not_walked_leaves_an_empty_table(study: Path) -> None:
    params = load_params().model_dump()
    params["budgets"]["1K"]["walk"]["horizons"] = []
    changed(budgets=params["budgets"])
    run("walk", "1K")
    table = read_arrow(paths.walk("1K"))
    assert (len(table), list(table)) == (0, [*DAYS, "p_seed0"])
    assert read_json(paths.walk_metrics("1K")) == {
        "walked": False,
        "seeds": 0,
        "settings_saw_year": {},
    }


def test_without_test_years_nothing_is_walked(study: Path) -> None:
    datasets = load_params().model_dump()["datasets"]
    datasets["gspc"]["walk"] = None
    changed(datasets=datasets)
    for words in (("walk", "1K"), ("walk_baselines",)):
        run(*words)
    assert read_arrow(paths.walk("1K")).empty
    assert read_arrow(paths.walk("baselines")).empty


def test_a_walk_that_would_take_too_long_is_refused_with_the_hours(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHSCALE_MAX_HOURS", "0.000001")
    with pytest.raises(InputError, match=r"budgets\.1K\.walk: 4 trainings, 1 at a time, would"):
        run("walk", "1K")


def test_settings_are_those_of_the_fixed_split(study: Path) -> None:
    from patchscale.train.settings import settings_of

    best = settings_of(load_params(), "1K-h1")
    assert load_chosen("1K") == {"1K-h1": best}
