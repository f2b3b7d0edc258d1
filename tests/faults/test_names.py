"""A name in params.yaml or grid.yaml cannot become a command or lead out of the repository."""

import os
import subprocess
import sys
from contextlib import chdir
from hashlib import md5
from pathlib import Path

import pytest
from conftest import ROOT, write_study
from dvc.repo import Repo
from toy import toy_grid, toy_params, toy_repository

from patchscale.fanout.repository import collect
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.params import load_params
from patchscale.study.safe_yaml import read_yaml

NAMES = [
    "h3;touch PWNED;echo",
    "$(touch PWNED)",
    "`touch PWNED`",
    "h3\ntouch PWNED",
    "h3\n",
    "x' 'touch PWNED",
    "../../../escaped",
    "/tmp/escaped",
    "-rf",
    ".",
    "a.b",
    "\uff48\uff13",
    "",
    "h" * 33,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key",
    ["params/horizons", "params/budgets", "params/datasets", "params/publish", "grid/cells"],
)
def test_name_of_an_entry_with_another_character_is_refused_on_loading(
    tmp_path: Path, key: str, name: str
) -> None:
    with pytest.raises(InputError, match=r"is not allowed; string should match pattern"):
        load_params(write_study(tmp_path, (key, {name: 1})))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("key", "is_list"),
    [
        ("params/dataset", False),
        ("params/datasets/gspc/series", False),
        ("params/features/tier", False),
        ("params/features/tiers", True),
        ("params/model/budget", False),
        ("params/model/horizon", False),
        ("grid/searches", True),
        ("grid/cells/2M-h1/budget", False),
        ("grid/cells/2M-h1/horizon", False),
        ("grid/cells/2M-h1/search", False),
    ],
)
def test_name_that_is_a_value_is_refused_on_loading(
    tmp_path: Path, key: str, is_list: bool, name: str
) -> None:
    if key.endswith("series") and name == "a.b":  # such as 0700.HK
        return
    with pytest.raises(InputError, match=r"is not allowed; string should match pattern"):
        load_params(write_study(tmp_path, (key, [name] if is_list else name)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "h" * 33])
def test_no_path_is_made_of_such_a_name(name: str) -> None:
    for make in (paths.split, paths.features, paths.best, paths.card, paths.losses):
        with pytest.raises(InputError, match="is not allowed as a name"):
            make(name)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("split", "../../escaped"),
        ("split", "h9"),
        ("baselines", "h9"),
        ("features", "../../escaped"),
        ("hpo", "2M-h9"),
        ("train", "2M-h9"),
        ("backtest", "2M-h9"),
        ("weights", "../../escaped"),
    ],
)
def test_argument_of_a_stage_that_names_nothing_ends_it_in_one_line(
    tmp_path: Path, script: str, word: str
) -> None:
    write_study(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, str(ROOT / f"stages/{script}.py")]
    for words in ([word], [], [word, word]):
        done = subprocess.run(
            command + words, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "allowed" in line or "argument" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_no_command_contains_a_name() -> None:
    """DVC gives what it composes from parameters to a shell, without quotes."""
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        assert stage.get("do", stage)["cmd"] == f"python stages/{name}.py"


@pytest.mark.parametrize(
    ("stage", "word"),
    [
        ("split@h1", "h1"),
        ("../dvc.yaml:split@h1", "h1"),
        ("train@h1", ""),
        ("split", ""),
        ("", ""),
    ],
)
def test_a_stage_that_dvc_runs_gets_the_word_in_its_name(
    tmp_path: Path, stage: str, word: str
) -> None:
    script = tmp_path / "split.py"
    script.write_text("from patchscale.study.stage import run\nrun(lambda word: print(word))\n")
    for words in ([], ["h3"]):
        done = subprocess.run(
            [sys.executable, str(script), *words],
            env=os.environ | {"DVC_STAGE": stage},
            capture_output=True,
            text=True,
            check=False,
        )
        given = words[0] if words else word
        assert (done.returncode, done.stdout.strip()) == (0 if given else 2, given)


def test_every_stage_depends_on_check() -> None:
    """DVC composes the commands itself; `check` runs before all of them and refuses the names."""
    with chdir(ROOT), Repo(str(ROOT)) as repo:
        needs = {
            stage.addressing: {each.addressing for each in direct}
            for stage, direct in collect(repo, []).items()
        }
    after_check = {"check"}
    while more := {name for name in needs if needs[name] & after_check} - after_check:
        after_check |= more
    assert len(needs) > 50
    assert set(needs) - after_check == set()


@pytest.mark.slow
def test_dvc_runs_no_command_with_such_a_name(tmp_path: Path) -> None:
    study = toy_repository(tmp_path / "study", toy_params())
    study.commit("toy study")
    params = study.read("params.yaml")
    params["horizons"] = {
        "h1": 1,
        "h3;touch PWNED;echo": 3,
        "$(touch PWNED)": 3,
        "h3\ntouch PWNED": 3,
    }
    study.write("params.yaml", params)
    study.write("grid.yaml", toy_grid(params))
    for command in (["repro", "split"], ["repro"], ["exp", "run"], ["repro", "--keep-going"]):
        refused = study.call("dvc", *command)
        assert refused.returncode != 0
        assert "h3;touch PWNED;echo' is not allowed" in refused.stderr
        assert not list(tmp_path.rglob("PWNED"))
        assert not list(tmp_path.rglob("data/*/*"))


@pytest.mark.slow
def test_a_lock_that_says_that_such_a_name_was_checked_makes_no_command_of_it(
    tmp_path: Path,
) -> None:
    study = toy_repository(tmp_path / "study", toy_params())
    study.do("dvc", "repro", "check")
    (study.path / "data/raw/gspc").mkdir(parents=True)
    (study.path / "metrics/download").mkdir(parents=True)
    (study.path / "metrics/download/gspc.json").write_text("{}")
    study.do("dvc", "commit", "--force", "--quiet", "download")
    params, lock = study.read("params.yaml"), study.read("dvc.lock")
    params["features"]["tiers"].append("$(touch PWNED)")
    study.write("params.yaml", params)
    content = (study.path / "params.yaml").read_bytes()
    forged = {"md5": md5(content).hexdigest(), "size": len(content)}
    for dep in lock["stages"]["check"]["deps"]:
        dep |= forged if dep["path"] == "params.yaml" else {}
    study.write("dvc.lock", lock)
    study.commit("forged")
    for command in (
        ["repro", "--keep-going"],
        ["repro", "--single-item", "--glob", "features@*"],
        ["repro", "--downstream", "download"],
        ["repro", "--ignore-errors"],
        ["exp", "run"],
    ):
        refused = study.call("dvc", *command)
        assert "is not allowed; string should match pattern" in refused.stderr
        assert not list(tmp_path.rglob("PWNED"))
