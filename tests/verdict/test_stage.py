"""Stage verdict and its independent recomputation, on synthetic studies."""

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from verdict_study import EIGHT, walked_study

from patchscale.backtest.flatten import restore
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, write_arrow
from patchscale.verdict.result import Verdict, no_verdict

SEEDS = {"20K": 3, "200K": 2, "2M": 3, "20M": 1}
NOISE = {"20K": 0.3, "200K": 0.5, "2M": 0.6, "20M": 1.0}
SCRIPT = str(ROOT / "stages/verdict.py")


def judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(folder)
    runpy.run_path(SCRIPT)["main"]()
    return json.loads((folder / paths.VERDICT).read_text())


def recomputed(folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "dvc.yaml").touch()
    script = str(ROOT / "benchmarks/recompute_verdict.py")
    return subprocess.run(
        [sys.executable, script], cwd=folder, env={}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walked_study(tmp_path_factory.mktemp("study"), SEEDS, EIGHT, NOISE)


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "study"))


def change(path: Path, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    write_arrow(path, how(read_arrow(path)))


def test_the_stage_answers_over_all_years(study, monkeypatch):
    verdict = judged(study, monkeypatch)
    assert verdict["years"] == list(EIGHT)
    assert verdict["not_walked"] == ["200M", "2B"]
    assert verdict["missing"] == {}
    assert verdict["bar"]["name"] == "har_logistic"
    assert verdict["bar"]["first_test_year"] == 2007
    primary = verdict["primary"]
    assert primary["sizes"] == list(SEEDS)
    assert 0 < primary["mean_low"] < primary["mean"] < primary["mean_high"]
    assert primary["visible"] > 0
    assert verdict["sizes"]["20K"]["n_params"] == pytest.approx(20_550)  # mean over horizons
    assert len(pd.read_csv(paths.VERDICT_CSV)) == 4 * 4 * 8


def test_the_stage_writes_what_dvc_compares_and_plots(study, monkeypatch):
    verdict = judged(study, monkeypatch)
    primary = verdict["primary"]
    assert json.loads(paths.VERDICT_METRICS.read_text()) == {
        "slope": round(primary["mean"], 4),
        "from": round(primary["mean_low"], 4),
        "to": round(primary["mean_high"], 4),
        "p": float(f"{primary['p']:.3g}"),
        "years": 8,
    }
    rows = pd.read_csv(paths.DIFFERENCE_CSV)
    assert list(rows["budget"].unique()) == list(SEEDS)  # ascending, as in params.yaml
    assert (rows["low"] < rows["difference"]).all()
    assert (rows["difference"] < rows["high"]).all()
    found = rows.set_index(["budget", "horizon"])["difference"]
    cells = verdict["cells"]["single_seeds"]
    assert found["2M", "h3"] == pytest.approx(cells["2M-h3"]["mean"], abs=1e-6)


def test_another_program_finds_the_same_verdict(study, monkeypatch):
    judged(study, monkeypatch)
    done = recomputed(study)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 years, bar har_logistic" in done.stdout


@pytest.mark.parametrize("key", ["mean", "p", "mean_low", "mean_high"])
def test_the_other_program_sees_a_changed_figure(study, monkeypatch, key):
    verdict = judged(study, monkeypatch)
    verdict["primary"][key] += 1e-8
    (study / paths.VERDICT).write_text(json.dumps(verdict))
    assert recomputed(study).returncode == 1


@pytest.mark.parametrize(
    ("keys", "figure"),
    [
        (["rivals", "boosting", "overall"], "mean_high"),
        (["rivals", "boosting", "sizes", "2M"], "p"),
        (["ensembles"], "mean_low"),
    ],
)
def test_the_other_program_sees_a_changed_test(study, monkeypatch, keys, figure):
    verdict = judged(study, monkeypatch)
    reduce(dict.__getitem__, keys, verdict)[figure] += 1e-8
    (study / paths.VERDICT).write_text(json.dumps(verdict))
    assert recomputed(study).returncode == 1


def test_the_other_program_sees_a_changed_forecast(study, monkeypatch):
    judged(study, monkeypatch)
    change(study / paths.walk("2M"), lambda t: t.assign(p_seed0=t["p_seed0"] * 0.999))
    assert recomputed(study).returncode == 1


@pytest.mark.parametrize(
    ("seeds", "years"),
    [
        ({}, EIGHT),
        ({"2M": 3}, EIGHT),
        ({"20K": 1, "2M": 1}, range(2016, 2019)),
        ({"20K": 2, "20M": 1}, [2018]),
        (dict.fromkeys(("20K", "200K", "2M", "20M", "200M", "2B"), 1), range(2007, 2013)),
    ],
)
def test_any_number_of_budgets_and_years_has_a_verdict(tmp_path, monkeypatch, seeds, years):
    verdict = judged(walked_study(tmp_path, seeds, years), monkeypatch)
    assert list(verdict["sizes"]) == sorted(seeds)
    if len(seeds) < 2:
        assert verdict["primary"] is None
    else:
        least = 2 / 2 ** len(years)
        assert verdict["primary"]["least_p"] == least
        assert (verdict["primary"]["mean_low"] is None) == (least > 0.05)
        assert (verdict["primary"]["visible"] is None) == (least > 0.05)
    done = recomputed(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_budget_that_lacks_years_is_named_with_them(study, monkeypatch):
    change(study / paths.walk("20M"), lambda table: table[table["year"] < 2012])
    verdict = judged(study, monkeypatch)
    assert verdict["missing"] == {
        "20M": {key: [2012, 2013, 2014] for key in ("h1", "h2", "h3", "h5")}
    }
    assert verdict["primary"]["sizes"] == ["20K", "200K", "2M"]
    assert verdict["sizes"]["20M"]["single_seeds"]["years"] == 5
    table = pd.read_csv(paths.VERDICT_CSV)
    assert sorted(table[table["budget"] == "20M"]["year"].unique()) == [*range(2007, 2012)]
    assert recomputed(study).returncode == 0


def test_the_other_program_compares_a_size_of_one_horizon_with_the_next_smaller(study, monkeypatch):
    change(study / paths.walk("20M"), lambda table: table[table["horizon"] == "h5"])
    verdict = judged(study, monkeypatch)
    assert list(verdict["partial_steps"]) == ["20M-h5 less 2M-h5"]
    assert "20M" not in verdict["sizes"]
    assert recomputed(study).returncode == 0
    verdict["partial_steps"]["20M-h5 less 2M-h5"]["mean_low"] += 1e-8
    (study / paths.VERDICT).write_text(json.dumps(verdict))
    assert recomputed(study).returncode == 1


def test_a_study_without_test_years_has_an_empty_verdict(study, monkeypatch):
    for name in ("baselines", *SEEDS):
        change(study / paths.walk(name), lambda table: table[:0])
    verdict = judged(study, monkeypatch)
    assert (verdict["years"], verdict["bar"], verdict["primary"]) == ([], None, None)
    assert verdict["not_walked"] == ["20K", "200K", "2M", "20M", "200M", "2B"]
    assert restore(Verdict, verdict) == no_verdict(verdict["not_walked"])
    assert pd.read_csv(paths.VERDICT_CSV).empty
    assert pd.read_csv(paths.DIFFERENCE_CSV).empty
    assert json.loads(paths.VERDICT_METRICS.read_text()) == {"years": 0}
    assert recomputed(study).returncode == 0


def test_test_days_that_the_fixed_division_purges_are_judged(study, monkeypatch):
    split, walk = read_arrow(study / paths.split("h1")), read_arrow(study / paths.walk("2M"))
    purged = split[split["contiguous"] == "purged"]["date"]
    assert purged.isin(walk[walk["subset"] == "test"]["date"]).all()
    judged(study, monkeypatch)
    assert (pd.read_csv(paths.VERDICT_CSV)["n"] == 40).all()


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("2M", lambda t: t.drop(t.index[3]), "data/walk/2M.arrow: other days than those"),
        ("2M", lambda t: t.assign(p_seed0=2.0), "data/walk/2M.arrow: p_seed0: a probability"),
        (
            "baselines",
            lambda t: t[(t["year"] != 2009) | (t["horizon"] != "h2")],
            "data/walk/baselines.arrow: 31 pairs of horizon and year; each of h1, h2, h3, h5",
        ),
        ("baselines", lambda t: t.drop(columns="prior"), "columns prior are needed"),
    ],
)
def test_bad_forecasts_are_refused_in_one_line(study, monkeypatch, name, how, said):
    change(study / paths.walk(name), how)
    with pytest.raises(InputError) as error:
        judged(study, monkeypatch)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (study / paths.VERDICT).exists()
