"""A toy grid (2 budgets x 2 horizons) through real git and real dvc in a temporary repository.

One module-wide repository: the tests run in file order, each leaves it committed and clean.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from repository import Repository

from patchscale.study.files import digest

BUDGETS = {"1K": 6000, "2K": 12000}
HORIZONS = {"h1": 1, "h3": 3}


def toy_params(budgets: dict[str, int] = BUDGETS, horizons: dict[str, int] = HORIZONS) -> dict:
    """Return the study's params with tiny budgets: the smallest is searched, at the first two."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings = {
        "lr": 0.003,
        "dropout": 0.1,
        "weight_decay": 0.001,
        "warmup_steps": 5,
        "epochs": 2,
    }
    smallest, *larger = budgets
    searched = list(horizons)[:2]
    params["features"]["tiers"] = ["a20"]
    params["horizons"] = horizons
    params["model"] |= {"budget": smallest, "context_length": 20}
    params["study"] = {
        "search": {smallest: True} | dict.fromkeys(larger, False),
        "train": dict.fromkeys(budgets, True),
        "publish_weights": [smallest],
        "searched": searched,
    }
    params["budgets"] = {name: {"n_params": size, **settings} for name, size in budgets.items()}
    params["train"] |= {
        "seeds": {smallest: 2} | dict.fromkeys(larger, 1),
        "processes": dict.fromkeys(budgets, 1),
        "threads": dict.fromkeys(budgets, 1),
        "precision": {smallest: "32-true"} | dict.fromkeys(larger, "bf16-mixed"),
    }
    params["hpo"] |= {"trials": 3, "batch": 2, "workers": 1, "startup": 2}
    params["hpo"]["space"] = {
        "d_model": [16, 24],
        "n_layers": [1, 2],
        "n_heads": [2, 4],
        "lr": [0.001, 0.01],
        "weight_decay": [0.0005, 0.005],
        "dropout": [0.05, 0.3],
        "warmup_steps": [5, 10],
    }
    params["cells"] = {
        f"{budget}-{horizon}": {
            "budget": budget,
            "horizon": horizon,
            "search": f"{budget}-{horizon if horizon in searched else searched[0]}",
            "d_model": 16,
            "n_layers": layers,
            "n_heads": 2,
        }
        for layers, budget in enumerate(budgets, 1)
        for horizon in horizons
    }
    return params


class Study(Repository):
    """A repository with stages of the study."""

    def changed_stages(self) -> set[str]:
        """Return the stages whose own dependencies or outputs changed."""
        return set(json.loads(self.do("dvc", "status", "--json")))

    def figure(self, path: str) -> dict:
        return json.loads((self.path / path).read_text())


def toy_repository(path: Path, params: dict) -> Study:
    """Return a repository with the code and these params, in which nothing has run."""
    for name in ("src", "stages", "inputs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, path / name, ignore=ignored)
    for name in ("dvc.yaml", ".gitignore", ".gitattributes", ".dvcignore"):
        shutil.copy(ROOT / name, path)
    (path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    repo = Study(path)
    repo.do("git", "init", "-q", "-b", "main")
    repo.do("dvc", "init", "-q")
    for key, value in {"core.analytics": "false", "core.check_update": "false"}.items():
        repo.do("dvc", "config", key, value)
    repo.do("dvc", "remote", "add", "-q", "-d", "published", "published")
    return repo


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Study:
    repo = toy_repository(tmp_path_factory.mktemp("toy"), toy_params())
    repo.do("dvc", "repro", "-q")
    repo.do("dvc", "push", "-q")
    repo.commit("toy study")
    return repo


def test_the_grid_leaves_every_cell_and_the_report(repository: Study) -> None:
    for cell in (f"{budget}-{horizon}" for budget in BUDGETS for horizon in HORIZONS):
        card = repository.figure(f"metrics/cards/{cell}.json")
        assert card["trained"]
        assert card["n_params"] == pytest.approx(BUDGETS[cell.split("-")[0]], rel=0.02)
        assert repository.figure(f"metrics/backtest/{cell}.json")["test"]["n"] > 200
    assert repository.figure("metrics/headline.json")["cell"] == "1K-h1"
    alone = repository.figure("metrics/backtest/1K-h1.json")["test"]["seeds"]
    assert list(alone) == ["seed0", "seed1"]
    assert alone["seed0"] != alone["seed1"]
    curve = (repository.path / "plots/headline/curves.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["epoch", "1", "2"]  # not once a seed
    strategies = {
        cell: repository.figure(f"metrics/backtest/{cell}.json")["strategy"]
        for cell in ("1K-h1", "2K-h1")
    }
    assert {cell: row["search_trials"] for cell, row in strategies.items()} == {
        "1K-h1": 3,
        "2K-h1": 0,
    }
    verdict = repository.figure("metrics/scaling.json")
    assert verdict["horizons"]["h1"]["sizes"] == 2
    assert verdict["horizons"]["h1"]["test"]["seeds"] == [2, 1]
    assert verdict["tried"] > 2 * 3 + sum(row["thresholds"] for row in strategies.values())
    assert "1K-h3" in (repository.path / "docs/results.md").read_text()


def test_a_second_repro_is_up_to_date(repository: Study) -> None:
    assert "Data and pipelines are up to date" in repository.do("dvc", "repro")


def test_each_horizon_has_its_own_labels_and_predictions(repository: Study) -> None:
    lock = yaml.safe_load((repository.path / "dvc.lock").read_text())["stages"]
    for stage in ("split", "train"):
        names = [name for name in lock if name.startswith(f"{stage}@")]
        hashes = {lock[name]["outs"][0]["md5"] for name in names}
        assert len(hashes) == len(names)
    read = {dep["path"] for dep in lock["train@1K-h3"]["deps"]}
    assert "data/splits/h3.arrow" in read
    assert "data/splits/h1.arrow" not in read


def test_every_output_is_a_function_of_code_params_and_inputs(repository: Study) -> None:
    lock = (repository.path / "dvc.lock").read_bytes()
    repository.do("dvc", "repro", "-q", "-f")
    assert (repository.path / "dvc.lock").read_bytes() == lock
    assert repository.do("git", "status", "--porcelain") == ""


def test_a_search_made_again_has_the_same_table_and_trains_nothing_anew(
    repository: Study,
) -> None:
    folder = repository.path / "data/hpo/1K-h1"
    kept = {name: (folder / name).read_bytes() for name in ("best.yaml", "trials.arrow")}
    assert repository.figure("metrics/hpo/1K-h1.json")["trials"] == 3
    assert repository.figure("metrics/hpo/2K-h1.json") == {"trials": 0}
    other = (repository.path / "data/hpo/1K-h3/trials.arrow").read_bytes()
    assert other != kept["trials.arrow"]
    repository.do("dvc", "repro", "-q", "-f", "-s", "hpo@1K-h1")
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert repository.changed_stages() == set()
    assert "1K-h1 | 3: 3, 0, 0" in (repository.path / "docs/results.md").read_text()


def test_a_parameter_invalidates_what_depends_on_it_and_nothing_else(
    repository: Study,
) -> None:
    original = (repository.path / "params.yaml").read_text()
    cases = {
        ("budgets", "2K", "dropout"): (0.2, {"hpo@2K-h1", "hpo@2K-h3"}),
        ("cells", "1K-h3", "n_heads"): (4, {"hpo@1K-h3"}),
        ("horizons", "h3"): (4, {"split@h3", "baselines@h3", "backtest@1K-h3", "backtest@2K-h3"}),
        ("train", "clip"): (
            0.5,
            {f"{kind}@{b}-{h}" for kind in ("hpo", "train") for b in BUDGETS for h in HORIZONS},
        ),
        ("hpo", "workers"): (2, set()),
        ("backtest", "threshold", "min_recall"): (
            0.2,
            {f"backtest@{b}-{h}" for b in BUDGETS for h in HORIZONS}
            | {f"baselines@{h}" for h in HORIZONS}
            | {"report"},
        ),
        ("train", "seeds", "2K"): (2, {"train@2K-h1", "train@2K-h3"}),
        ("train", "precision", "1K"): (
            "bf16-mixed",
            {"hpo@1K-h1", "hpo@1K-h3", "train@1K-h1", "train@1K-h3"},
        ),
        ("tracking", "mlflow"): ("sqlite:///mlflow.db", set()),
    }
    for path, (value, expected) in cases.items():
        params = yaml.safe_load(original)
        section = params
        for part in path[:-1]:
            section = section[part]
        section[path[-1]] = value
        (repository.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        assert repository.changed_stages() == expected | {"check"}
    (repository.path / "params.yaml").write_text(original)


def test_an_experiment_shows_another_horizon_against_what_was_committed(
    repository: Study,
) -> None:
    repository.do("dvc", "exp", "run", "-q", "-S", "model.horizon=h3", "headline")
    assert repository.figure("metrics/headline.json")["cell"] == "1K-h3"
    rows = json.loads(repository.do("dvc", "metrics", "diff", "--json"))
    moved = rows["metrics/headline.json"]
    assert moved["test.log_loss"]["old"] != moved["test.log_loss"]["new"]
    plots = repository.do("dvc", "plots", "diff", "--json")
    for name in ("equity", "calibration", "precision and recall", "learning curve"):
        assert name in json.loads(plots)["data"]
    shown = repository.do("dvc", "exp", "show", "--only-changed", "--csv")
    assert "h3" in shown
    repository.do("git", "checkout", "-q", "--", ".")
    repository.do("dvc", "checkout", "-q")


def test_bad_params_stop_before_any_output_is_touched(repository: Study) -> None:
    before = {
        path: path.read_bytes()
        for folder in ("data", "metrics", "plots")
        for path in (repository.path / folder).rglob("*")
        if path.is_file() and path.name != "params.checked"
    }
    original = (repository.path / "params.yaml").read_text()
    for change, named in (
        (lambda p: p["train"].update(clipp=1.0), "train.clipp: unknown key"),
        (lambda p: p["budgets"]["1K"].update(lr="fast"), "budgets.1K.lr: 'fast'"),
        (lambda p: p["model"].update(budget="9K"), "model.budget: '9K' is unknown"),
        (lambda p: p["budgets"]["1K"].update(n_params=10), "cells.1K-h1"),
        (lambda p: p["study"]["train"].update({"1K": False}), "study.publish_weights"),
    ):
        params = yaml.safe_load(original)
        change(params)
        (repository.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        done = repository.call("dvc", "repro")
        assert done.returncode != 0
        assert named in done.stderr
        assert "Traceback" not in done.stderr
    (repository.path / "params.yaml").write_text(original)
    for path, content in before.items():
        assert path.read_bytes() == content
    repository.do("dvc", "repro", "-q")


def test_an_edited_file_of_the_users_own_is_seen_and_a_bad_one_leaves_the_last_good_bars(
    repository: Study,
) -> None:
    params = yaml.safe_load((repository.path / "params.yaml").read_text())
    own, raw = repository.path / "inputs/my.csv", repository.path / "data/raw/csv/bars.csv"
    shutil.copy(repository.path / "data/raw/gspc/sp500.csv", own)
    params["dataset"] = "csv"
    params["datasets"]["csv"]["path"] = "inputs/my.csv"
    (repository.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    repository.do("dvc", "repro", "-q", "download")
    good = own.read_text()
    assert raw.read_text() == good

    own.write_text(good.replace("1228.099976", "1228.109976"))
    repository.do("dvc", "repro", "-q", "download")
    assert raw.read_text() == own.read_text() != good

    own.write_text("".join(good.splitlines(keepends=True)[:1000]))
    done = repository.call("dvc", "repro", "download")
    assert "bars from 1999-01-04 to " in done.stderr
    assert raw.read_text() == good.replace("1228.099976", "1228.109976")
    own.unlink()
    repository.do("git", "checkout", "-q", "--", ".")
    repository.do("git", "clean", "-fdq")
    repository.do("dvc", "checkout", "-q")


def test_a_budget_that_is_not_trained_is_absent_and_says_so(repository: Study) -> None:
    original = (repository.path / "params.yaml").read_text()
    params = yaml.safe_load(original)
    params["study"]["train"]["2K"] = False
    (repository.path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    repository.do("dvc", "repro", "-q")
    assert repository.figure("metrics/backtest/2K-h1.json") == {
        "trained": False,
        "n_params": repository.figure("metrics/cards/2K-h1.json")["n_params"],
    }
    assert "not run" in (repository.path / "docs/results.md").read_text()
    done = repository.call("dvc", "exp", "run", "-S", "model.budget=2K")
    assert done.returncode != 0
    assert "-S 'study.train={2K: true}'" in done.stderr
    repository.do("git", "checkout", "-q", "--", ".")
    assert (repository.path / "params.yaml").read_text() == original
    repository.do("dvc", "checkout", "-q")
    assert "Running stage" not in repository.do("dvc", "repro")


def test_a_stage_starts_the_processes_that_share_a_cell(repository: Study) -> None:
    alone = repository.figure("metrics/cards/1K-h3.json")
    repository.do("dvc", "exp", "run", "-q", "-S", "train.processes={1K: 2}", "train@1K-h3")
    card = repository.figure("metrics/cards/1K-h3.json")
    assert (card["processes"], card["shape"]) == (2, alone["shape"])
    assert "processes" not in alone
    for mine, theirs in zip(card["replicates"], alone["replicates"], strict=True):
        assert mine["sha256"] != theirs["sha256"]  # dropout is another
        assert mine["val_log_loss"] == pytest.approx(theirs["val_log_loss"], abs=0.1)
        weights = repository.path / f"models/1K-h3/seed{mine['seed']}.safetensors"
        assert digest(weights) == mine["sha256"]
    assert not repository.changed_stages() & {"train@1K-h3"}
    repository.do("git", "checkout", "-q", "--", ".")
    repository.do("dvc", "checkout", "-q")


def test_a_bare_clone_pulls_everything_and_verifies(repository: Study, tmp_path: Path) -> None:
    repository.do("git", "clone", "-q", str(repository.path), str(tmp_path / "clone"))
    clone = Study(tmp_path / "clone")
    clone.do("dvc", "pull", "-q")
    assert "Data and pipelines are up to date" in clone.do("dvc", "repro")
    verified = clone.do(sys.executable, "-m", "patchscale.verify")
    assert "0 differs, 2 not available" in verified
    assert "probabilities of 2K-h3  its weights are not published" in verified

    card = clone.figure("metrics/backtest/1K-h1.json")
    card["test"]["auc"] = 0.99
    (clone.path / "metrics/backtest/1K-h1.json").write_text(json.dumps(card))
    weights = clone.path / "data/weights/1K-h3/seed0.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    lock = clone.path / "dvc.lock"
    lock.write_text(lock.read_text().replace("budgets.1K", "budgets.1k", 1))
    md5 = yaml.safe_load(lock.read_text())["stages"]["split@h1"]["outs"][0]["md5"]
    cached = clone.path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_bytes(b"damaged")
    tampered = clone.call(sys.executable, "-m", "patchscale.verify")
    assert tampered.returncode == 1
    differing = [line for line in tampered.stdout.splitlines() if line.startswith("differs")]
    assert any("metrics/backtest/1K-h1.json" in line for line in differing)
    assert any("probabilities of 1K-h3" in line for line in differing)
    assert any("params.yaml: budgets.1k" in line for line in differing)
    assert any("cache object of data/splits/h1.arrow" in line for line in differing)
