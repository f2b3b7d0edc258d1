"""A toy grid through real git and real DVC: three budgets, of which one is not trained, and two
horizons, of which one is searched.

The grid runs once. A test that changes something works in a copy of the finished repository.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy import BUDGETS, DATES, HORIZONS, Study, toy_params, toy_repository

from patchscale.study import paths
from patchscale.study.files import digest, read_arrow

pytestmark = pytest.mark.timeout(1800)  # the grid takes two minutes of an idle core
GRID = {**BUDGETS, "3K": 18000}


def stages(kind: str, budgets: tuple[str, ...] = tuple(GRID), horizons: str = "h1 h3") -> set[str]:
    """Return the names of a kind of stage for some budgets at some horizons."""
    return {f"{kind}@{budget}-{horizon}" for budget in budgets for horizon in horizons.split()}


VERIFY = [sys.executable, "-m", "patchscale.verify"]
SEARCH = {f"hpo@{budget}-h1" for budget in GRID}
TRAIN, BACKTEST = stages("train"), stages("backtest")
WALKS = {f"walk@{budget}" for budget in GRID}
RIVALS = {"walk_baselines"}
SPLIT, BASELINES = {"split@h1", "split@h3"}, {"baselines@h1", "baselines@h3"}
# File, key, new value, and the stages that this change makes stale directly. `check` reads all
# three files and is stale after every change. A stage further down runs only if the bytes that it
# reads change. No search depends on `trained`, `seeds` or `processes`: they do not change it.
STALE: list[tuple[str, str, Any, set[str]]] = [
    (
        "params.yaml",
        "dataset",
        "ixic",
        {"download", "features@a20", "report"} | SPLIT | BASELINES | BACKTEST | WALKS | RIVALS,
    ),
    ("params.yaml", "datasets.gspc.end", "2012-12-28", {"download"} | SPLIT),
    ("params.yaml", "datasets.gspc.calendar", "XNAS", {"download", "features@a20"} | SPLIT),
    (
        "params.yaml",
        "datasets.gspc.walk",
        {"first": 2012, "last": 2012},
        {"download"} | SPLIT | WALKS | RIVALS,
    ),
    ("params.yaml", "datasets.ixic.end", "2018-12-28", set()),
    (
        "params.yaml",
        "features.tier",
        "a25",
        SEARCH | TRAIN | BASELINES | WALKS | RIVALS | {"settings"},
    ),
    ("params.yaml", "features.tiers", ["a20", "a25"], {"features@a25"}),
    (
        "params.yaml",
        "horizons.h3",
        4,
        {"split@h3", "baselines@h3", "verdict"}
        | stages("backtest", horizons="h3")
        | WALKS
        | RIVALS,
    ),
    ("params.yaml", "target.theta", 0.005, SPLIT | BASELINES | BACKTEST | RIVALS),
    ("params.yaml", "split.embargo", 70, SPLIT),
    (
        "params.yaml",
        "window.context_length",
        30,
        SEARCH | TRAIN | BASELINES | WALKS | RIVALS | {"settings"},
    ),
    ("params.yaml", "window.stride", 5, SEARCH | TRAIN | WALKS | {"settings"}),
    (
        "params.yaml",
        "budgets.2K.n_params",
        12400,
        {"settings", "hpo@2K-h1"} | stages("train", ("2K",)),
    ),
    (
        "params.yaml",
        "budgets.2K.settings",
        "search",
        {"settings", "hpo@2K-h1"} | stages("train", ("2K",)),
    ),
    ("params.yaml", "budgets.2K.trained.h1", False, {"settings", "train@2K-h1"}),
    ("params.yaml", "budgets.3K.trained.h3", True, {"settings", "train@3K-h3"}),
    ("params.yaml", "budgets.2K.start.dropout", 0.2, {"settings", "hpo@2K-h1"}),
    ("params.yaml", "budgets.2K.run.seeds", 2, {"settings"} | stages("train", ("2K",))),
    ("params.yaml", "budgets.2K.run.processes", 2, {"settings"} | stages("train", ("2K",))),
    (
        "params.yaml",
        "budgets.2K.run.threads",
        2,
        {"settings", "hpo@2K-h1", "walk@2K"} | stages("train", ("2K",)),
    ),
    (
        "params.yaml",
        "budgets.1K.run.precision",
        "bf16-mixed",
        {"settings", "hpo@1K-h1", "walk@1K"} | stages("train", ("1K",)),
    ),
    ("params.yaml", "budgets.2K.walk.horizons", ["h3"], {"settings", "walk@2K"}),
    ("params.yaml", "publish", {"1K": 1, "2K": 1}, stages("weights", ("2K",))),
    ("params.yaml", "train.clip", 0.5, SEARCH | TRAIN | WALKS),
    ("params.yaml", "walk.years", [2011], WALKS | RIVALS),
    ("params.yaml", "hpo.seed", 1, SEARCH),
    ("params.yaml", "hpo.trials", 4, SEARCH),
    ("params.yaml", "backtest.cost_bps", 5.0, BASELINES | BACKTEST),
    ("params.yaml", "backtest.cash_rate", 0.02, BASELINES | BACKTEST),
    ("params.yaml", "backtest.threshold.min_recall", 0.2, BASELINES | BACKTEST | {"report"}),
    ("params.yaml", "model.horizon", "h3", {"headline"}),
    ("grid.yaml", "cells.1K-h1.n_heads", 4, {"settings", "hpo@1K-h1"}),
    ("grid.yaml", "cells.1K-h3.n_heads", 4, {"settings"}),  # it trains with the result of 1K-h1
    ("grid.yaml", "cells.1K-h3.search", "h3", {"settings", "train@1K-h3"}),
    ("grid.yaml", "searches", ["h1", "h3"], stages("hpo", horizons="h3")),
    ("space.yaml", "d_model", [16], SEARCH),
]
BAD: list[tuple[str, str, Any]] = [
    ("params.yaml", "train.clipp", 1.0),
    ("params.yaml", "budgets.1K.start.lr", "fast"),
    ("params.yaml", "model.budget", "9K"),
    ("params.yaml", "publish", {"1K": 1, "3K": 1}),
    ("grid.yaml", "cells.1K-h1.n_heads", 3),
    ("space.yaml", "dropout", [0.3, 0.1]),
]


def set_key(repo: Study, name: str, key: str, value: Any) -> None:
    """Change one key of a YAML file, written with dots."""
    content = section = repo.read(name)
    *above, last = key.split(".")
    for part in above:
        section = section[part]
    section[last] = value
    repo.write(name, content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the repository in which the grid has run; no test changes it."""
    params = toy_params(GRID)
    params["budgets"]["3K"]["trained"] = dict.fromkeys(HORIZONS, False)
    repo = toy_repository(tmp_path_factory.mktemp("toy") / "repo", params)
    repo.do("dvc", "repro", "-q")
    repo.do("dvc", "push", "-q")
    repo.commit("toy study")
    return repo


@pytest.fixture
def repo(finished: Study, tmp_path: Path) -> Study:
    """Return a copy that a test may change."""
    return finished.copy(tmp_path / "repo")


@pytest.fixture(scope="module")
def changing(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the copy in which one key after the other is changed and put back."""
    return finished.copy(tmp_path_factory.mktemp("changing") / "repo")


def test_the_grid_leaves_every_cell_and_the_report(finished: Study) -> None:
    for cell in (f"{budget}-{horizon}" for budget in BUDGETS for horizon in HORIZONS):
        card = finished.figures(f"metrics/cards/{cell}.json")
        assert card["trained"]
        assert card["n_params"] == pytest.approx(BUDGETS[cell.split("-")[0]], rel=0.02)
        assert finished.figures(f"metrics/backtest/{cell}.json")["test"]["n"] > 200
    assert finished.figures("metrics/headline.json")["cell"] == "1K-h1"
    alone = finished.figures("metrics/backtest/1K-h1.json")["test"]["seeds"]
    assert list(alone) == ["seed0", "seed1"]
    assert alone["seed0"] != alone["seed1"]
    curve = (finished.path / "plots/headline/curves.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["epoch", "1", "2"]  # not once a seed
    assert finished.figures("metrics/hpo/1K-h1.json")["trials"] == 3
    assert finished.figures("metrics/hpo/2K-h1.json") == {"trials": 0}
    verdict = finished.figures("metrics/scaling.json")
    assert verdict["horizons"]["h1"]["sizes"] == 2
    assert verdict["horizons"]["h1"]["test"]["seeds"] == [2, 1]
    assert verdict["strategies"] == 2 * len(BUDGETS) + 2 * 5  # cells and baselines, two horizons
    results = (finished.path / "docs/results.md").read_text()
    assert "1K-h3" in results
    assert "1K-h1 | 3: 3, 0, 0" in results


def test_the_grid_walks_one_budget_and_the_baselines(finished: Study) -> None:
    rows = {name: read_arrow(finished.path / paths.walk(name)) for name in (*GRID, "baselines")}
    assert {name: len(table) > 0 for name, table in rows.items()} == {
        "1K": True,
        "2K": False,
        "3K": False,
        "baselines": True,
    }
    for name in ("1K", "baselines"):
        assert set(rows[name]["horizon"]) == set(HORIZONS)
        assert set(rows[name]["year"]) == {2012}
    days = ["horizon", "year", "date", "subset"]
    assert rows["1K"][days].equals(rows["baselines"][days])
    figures = finished.figures("metrics/walk/1K.json")
    assert figures == {"walked": True, "seeds": 1, "settings_saw_year": {"2012": False}}


def test_a_budget_that_is_not_trained_is_absent_and_cannot_be_shown(
    finished: Study, repo: Study
) -> None:
    for horizon in HORIZONS:
        card = finished.figures(f"metrics/cards/3K-{horizon}.json")
        absent = {"trained": False, "n_params": card["n_params"]}
        assert finished.figures(f"metrics/backtest/3K-{horizon}.json") == absent
    assert "not run" in (finished.path / "docs/results.md").read_text()
    refused = repo.call("dvc", "exp", "run", "-S", "model.budget=3K")
    assert refused.returncode != 0
    assert "-S 'budgets={3K: {trained: {h1: true}}}'" in refused.stderr
    assert (repo.path / "dvc.lock").read_bytes() == (finished.path / "dvc.lock").read_bytes()


def test_each_cell_reads_its_own_labels_and_the_search_of_its_row(finished: Study) -> None:
    lock = finished.read("dvc.lock")["stages"]
    trained = [f"train@{budget}-{horizon}" for budget in BUDGETS for horizon in HORIZONS]
    for names in (SPLIT, trained):
        assert len({lock[name]["outs"][0]["md5"] for name in names}) == len(names)
    read = {dep["path"] for dep in lock["train@1K-h3"]["deps"]}
    assert {"data/split/h3.arrow", "data/hpo/1K-h1/best.yaml"} <= read
    assert "data/split/h1.arrow" not in read
    assert {name for name in lock if name.startswith("hpo@")} == SEARCH


@pytest.mark.parametrize(
    ("name", "key", "value", "stale"), STALE, ids=[f"{name}:{key}" for name, key, *_ in STALE]
)
def test_a_parameter_invalidates_what_depends_on_it_and_nothing_else(
    changing: Study, name: str, key: str, value: Any, stale: set[str]
) -> None:
    original = (changing.path / name).read_text()
    set_key(changing, name, key, value)
    try:
        assert changing.changed_stages() == stale | {"check"}
    finally:
        (changing.path / name).write_text(original)


def test_the_table_of_what_invalidates_what_leaves_no_key_out(finished: Study) -> None:
    """A section of params.yaml, or a key of a budget, that is added needs a row in the table."""
    rows = {name: [key for each, key, *_ in STALE if each == name] for name, *_ in STALE}
    for name in ("params.yaml", "grid.yaml"):
        assert {key.split(".")[0] for key in rows[name]} == set(finished.read(name))
    keys = {tuple(key.split(".")[2:]) for key in rows["params.yaml"] if key.startswith("budgets.")}
    budget = finished.read("params.yaml")["budgets"]["1K"]
    assert {key[0] for key in keys} == set(budget)
    assert {key[1] for key in keys if key[0] == "run"} == set(budget["run"])


def test_an_experiment_shows_another_horizon_against_what_was_committed(repo: Study) -> None:
    ran = repo.do("dvc", "exp", "run", "-S", "model.horizon=h3", "headline")
    assert [line for line in ran.splitlines() if line.startswith("Running stage")] == [
        "Running stage 'check':",
        "Running stage 'headline':",
    ]
    assert repo.figures("metrics/headline.json")["cell"] == "1K-h3"
    rows = json.loads(repo.do("dvc", "metrics", "diff", "--json"))
    assert set(rows) == {"metrics/headline.json"}
    moved = rows["metrics/headline.json"]
    assert moved["loss"]["old"] != moved["loss"]["new"]
    plots = json.loads(repo.do("dvc", "plots", "diff", "--json"))["data"]
    assert {"equity", "calibration", "precision and recall", "learning curve"} <= set(plots)
    committed = ("params.yaml", "dvc.lock", "metrics", "plots", "docs")
    repo.do("git", "checkout", "-q", "--", *committed)
    repo.do("dvc", "checkout", "-q")
    assert repo.changed_stages() == set()


def test_two_experiments_fit_a_screen(repo: Study) -> None:
    repo.do("dvc", "exp", "run", "-S", "model.horizon=h3", "headline")
    repo.do("dvc", "exp", "run", "-S", "model.budget=2K", "headline")
    words = ("--only-changed", "--drop", ".*/|.*yaml$")
    table = repo.do("dvc", "exp", "show", "--no-pager", *words, COLUMNS="160").splitlines()
    (head,) = (line for line in table if "Experiment" in line)
    assert {"gap", "loss", "model.budget", "model.horizon"} <= set(head.split())
    assert "…" not in "".join(table)  # DVC cuts what is wider than the screen
    for words in (("show",), ("diff", "HEAD")):
        assert max(map(len, repo.do("dvc", "metrics", *words).splitlines())) <= 160


def test_a_cell_that_returns_to_an_earlier_state_comes_from_the_run_cache(repo: Study) -> None:
    """An uncached output that is no metric would switch the run-cache of its stage off."""
    set_key(repo, "params.yaml", "budgets.1K.run.threads", 2)
    set_key(repo, "params.yaml", "backtest.cost_bps", 5.0)
    repo.do("dvc", "repro", "-q", "hpo@1K-h1", "train@1K-h1", "backtest@1K-h1")
    repo.do("git", "checkout", "-q", "--", "params.yaml")
    ran = repo.do("dvc", "repro", "hpo@1K-h1", "train@1K-h1", "backtest@1K-h1")
    for name in ("hpo@1K-h1", "train@1K-h1", "backtest@1K-h1"):
        assert f"Stage '{name}' is cached - skipping run" in ran
    assert repo.changed_stages() == set()


def test_bad_params_stop_before_any_output_is_touched(finished: Study, repo: Study) -> None:
    for name, key, value in BAD:
        original = (repo.path / name).read_text()
        set_key(repo, name, key, value)
        done = repo.call("dvc", "repro")
        assert done.returncode != 0
        assert f"{name}: {key}" in done.stderr
        assert "Traceback" not in done.stderr
        (repo.path / name).write_text(original)
    for folder in ("data", "metrics", "plots", "docs"):
        for path in filter(Path.is_file, (finished.path / folder).rglob("*")):
            if path.name != "params.checked":
                assert (repo.path / path.relative_to(finished.path)).read_bytes() == (
                    path.read_bytes()
                )


def test_an_edited_file_of_the_users_own_is_seen_and_a_bad_one_leaves_the_last_good_bars(
    repo: Study,
) -> None:
    own, raw = repo.path / "inputs/my.csv", repo.path / "data/raw/csv/bars.csv"
    shutil.copy(repo.path / "data/raw/gspc/sp500.csv", own)
    set_key(repo, "params.yaml", "datasets.csv.path", "inputs/my.csv")
    set_key(repo, "params.yaml", "dataset", "csv")
    repo.do("dvc", "repro", "-q", "download")
    good = own.read_text()
    assert raw.read_text() == good

    rows = good.splitlines(keepends=True)
    last = yaml.safe_load(rows[-1].split(",")[5])
    edited = good.removesuffix(rows[-1]) + rows[-1].replace(str(last), str(last + 1))
    own.write_text(edited)
    repo.do("dvc", "repro", "-q", "download")
    assert raw.read_text() == edited != good

    own.write_text("".join(rows[:1000]))
    done = repo.call("dvc", "repro", "download")
    assert done.returncode != 0
    assert f"bars from {DATES['start']} to " in done.stderr
    assert raw.read_text() == edited


def test_a_bare_clone_pulls_everything_and_verifies(finished: Study, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "clone")
    clone.do("dvc", "pull", "-q")
    assert "Data and pipelines are up to date" in clone.do("dvc", "repro")
    assert "0 differs, 0 not available" in clone.do(*VERIFY, "--level", "records")

    card = clone.figures("metrics/backtest/1K-h1.json")
    card["test"]["auc"] = 0.99
    (clone.path / "metrics/backtest/1K-h1.json").write_text(json.dumps(card))
    weights = clone.path / "data/weights/1K-h3/seed0.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    lock = clone.path / "dvc.lock"
    lock.write_text(lock.read_text().replace("budgets.1K", "budgets.1k", 1))
    md5 = clone.read("dvc.lock")["stages"]["split@h1"]["outs"][0]["md5"]
    cached = clone.path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_bytes(b"damaged")
    tampered = clone.call(*VERIFY)
    assert tampered.returncode == 1
    differing = [line for line in tampered.stdout.splitlines() if line.startswith("differs")]
    named = (
        "params.yaml: budgets.1K.n_params, 'params.yaml': 'budgets.1k.n_params' is not declared",
        "metrics/backtest/1K-h1.json",
        "data/weights/1K-h3",
        "headline",  # it reads the edited metrics
        "report",  # so does this
        "data/split/h1.arrow",
        "probabilities of 1K-h3",
    )
    for line, what in zip(differing, named, strict=True):
        assert what in line
    assert "probabilities of 2K-h3  its weights are not published" in tampered.stdout


@pytest.mark.slow
def test_every_output_is_a_function_of_code_params_and_inputs(finished: Study, repo: Study) -> None:
    """Made again with two trainings at a time instead of one, all outputs are the same bytes."""
    lock = (finished.path / "dvc.lock").read_bytes()
    repo.do("dvc", "repro", "-q", "-f", OMP_NUM_THREADS="2")
    assert (repo.path / "dvc.lock").read_bytes() == lock
    assert repo.do("git", "status", "--porcelain") == ""
    assert "0 differs, 3 not available" in repo.do(*VERIFY)


@pytest.mark.slow
def test_a_horizon_gets_a_search_of_its_own(repo: Study) -> None:
    set_key(repo, "grid.yaml", "searches", list(HORIZONS))
    set_key(repo, "grid.yaml", "cells.1K-h3.search", "h3")
    repo.do("dvc", "repro", "-q", "train@1K-h3")
    tables = {horizon: repo.path / f"data/hpo/1K-{horizon}/trials.arrow" for horizon in HORIZONS}
    assert tables["h1"].read_bytes() != tables["h3"].read_bytes()
    assert repo.figures("metrics/hpo/1K-h3.json")["trials"] == 3
    read = {dep["path"] for dep in repo.read("dvc.lock")["stages"]["train@1K-h3"]["deps"]}
    assert "data/hpo/1K-h3/best.yaml" in read


@pytest.mark.slow
def test_a_cell_switched_off_is_absent_and_comes_back_without_a_training(repo: Study) -> None:
    set_key(repo, "params.yaml", "budgets.2K.trained.h1", False)
    repo.do("dvc", "repro", "-q")
    assert repo.figures("metrics/backtest/2K-h1.json")["trained"] is False
    assert repo.figures("metrics/backtest/2K-h3.json")["trained"] is True
    sizes = {h: row["sizes"] for h, row in repo.figures("metrics/scaling.json")["horizons"].items()}
    assert sizes == {"h1": 1, "h3": 2}
    repo.do("git", "checkout", "-q", "--", ".")
    repo.do("dvc", "checkout", "-q")
    assert "Running stage" not in repo.do("dvc", "repro")


@pytest.mark.slow
def test_a_stage_starts_the_processes_that_share_a_cell(finished: Study, repo: Study) -> None:
    alone = finished.figures("metrics/cards/1K-h3.json")
    change = "budgets={1K: {run: {processes: 2}}}"
    repo.do("dvc", "exp", "run", "-q", "-S", change, "train@1K-h3")
    card = repo.figures("metrics/cards/1K-h3.json")
    assert (card["processes"], card["shape"]) == (2, alone["shape"])
    assert "processes" not in alone
    for mine, theirs in zip(card["replicates"], alone["replicates"], strict=True):
        assert mine["sha256"] != theirs["sha256"]  # the dropout masks differ
        assert mine["val_log_loss"] == pytest.approx(theirs["val_log_loss"], abs=0.1)
        weights = repo.path / f"models/1K-h3/seed{mine['seed']}.safetensors"
        assert digest(weights) == mine["sha256"]
    assert "train@1K-h3" not in repo.changed_stages()
