"""What `dvc plots` and `dvc metrics` show of the committed results, drawn and measured."""

import json
import re
import shutil
from typing import Any

import pandas as pd
import pytest
import vl_convert
import yaml
from conftest import ROOT
from repository import Repository

DEFINED = {
    name: facts
    for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    for name, facts in entry.items()
}
PLOTS = list(DEFINED)
OF_A_CELL = ["learning curve", "equity", "calibration", "precision and recall"]
MARKS = r'class="mark-(?:symbol|line) role-mark[^"]*"[^>]*>\s*<path'
TABLE = 160
"""Columns that a table may have."""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Return a repository with the results of 2M-h1, then those of an invented cell 20M-h5."""
    repo = Repository(tmp_path_factory.mktemp("plots") / "repo")
    repo.path.mkdir()
    repo.do("git", "init", "-q", "-b", "main")
    repo.do("dvc", "init", "-q")
    for name in ("dvc.yaml", "params.yaml", "grid.yaml", ".gitignore"):
        shutil.copy(ROOT / name, repo.path / name)
    for name in (".dvc/plots", "plots", "metrics"):
        shutil.copytree(ROOT / name, repo.path / name, dirs_exist_ok=True)
    repo.commit("one cell")
    for path in (repo.path / "plots/headline").glob("*.csv"):
        pd.read_csv(path).iloc[:-1].assign(cell="20M-h5").to_csv(path, index=False)
    headline = repo.path / "metrics/headline.json"
    other = json.loads(headline.read_text())
    other = {name: value if name == "cell" else value - 0.1 for name, value in other.items()}
    headline.write_text(json.dumps(other | {"cell": "20M-h5"}))
    repo.commit("another cell")
    return repo


@pytest.fixture(scope="module")
def shown(repo: Repository) -> dict[str, Any]:
    """Return the filled templates of the committed cell."""
    return specs(repo, "show")


@pytest.fixture(scope="module")
def compared(repo: Repository) -> dict[str, Any]:
    """Return the filled templates of two cells over each other."""
    return specs(repo, "diff", "HEAD~1", "HEAD")


def specs(repo: Repository, *words: str) -> dict[str, Any]:
    content = json.loads(repo.do("dvc", "plots", *words, "--json"))
    assert "errors" not in content
    return {
        name: plots[0]["content"]
        for name, plots in content["data"].items()
        if plots[0]["type"] == "vega"
    }


def drawn(spec: dict[str, Any]) -> str:
    """Return the SVG of a specification, by the oldest Vega-Lite that the library has."""
    return vl_convert.vegalite_to_svg(spec, vl_version=vl_convert.get_vegalite_versions()[0])


def test_the_difference_to_the_bar_leads(shown: dict[str, Any]) -> None:
    assert list(shown) == PLOTS
    assert PLOTS[0] == "difference to the bar by size"


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_has_marks(shown: dict[str, Any], name: str) -> None:
    assert "<DVC_METRIC" not in json.dumps(shown[name])
    assert len(re.findall(MARKS, drawn(shown[name]))) >= (4 if "size" in name else 1)


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_shows_two_revisions(compared: dict[str, Any], name: str) -> None:
    picture = drawn(compared[name])
    labels = ["2M-h1 (HEAD~1)", "20M-h5 (HEAD)"] if name in OF_A_CELL else ["HEAD~1", "HEAD"]
    for label in labels:
        assert f">{label}<" in picture
    one, two = len(re.findall("<path", drawn(one_revision(compared[name])))), picture.count("<path")
    assert two > one


def one_revision(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a specification with the points of HEAD only."""
    rows = [row for row in spec["data"]["values"] if row["rev"] == "HEAD"]
    return spec | {"data": spec["data"] | {"values": rows}}


@pytest.mark.parametrize("name", OF_A_CELL)
def test_no_title_names_a_cell(compared: dict[str, Any], name: str) -> None:
    assert not re.search(r"\d[KMB]|-h\d", compared[name]["title"]["text"])


def test_sizes_stand_in_their_order(shown: dict[str, Any]) -> None:
    budgets = pd.read_csv(ROOT / "plots/difference.csv")["budget"].unique()
    picture = drawn(shown[PLOTS[0]])
    places = [picture.index(f">{budget}<") for budget in budgets]
    assert places == sorted(places)
    assert len(places) > 2


def test_years_are_years(shown: dict[str, Any]) -> None:
    year = pd.read_csv(ROOT / "plots/headline/equity.csv")["date"].str[:4].iloc[0]
    assert re.search(rf">[A-Z][a-z]{{2}} {year}<", drawn(shown["equity"]))


@pytest.mark.parametrize(
    "words", [["metrics", "show"], ["metrics", "diff", "HEAD~1"], ["params", "diff", "HEAD~1"]]
)
def test_tables_fit_the_screen(repo: Repository, words: list[str]) -> None:
    lines = repo.do("dvc", *words).splitlines()
    assert max(map(len, lines), default=0) <= TABLE
    if words[0] == "metrics":
        assert len(lines) == (3 if words[1] == "show" else 11)


def test_a_few_figures_are_metrics() -> None:
    headline, verdict = (
        json.loads((ROOT / f"metrics/{name}.json").read_text()) for name in ("headline", "verdict")
    )
    assert set(headline) == {
        *("cell", "n", "loss", "val_loss", "gap", "gap_low", "gap_high", "auc", "sharpe", "excess")
    }
    assert set(verdict) == {"slope", "from", "to", "p", "years"}
    assert not set(headline) & set(verdict)  # DVC would put the file before a shared name


def test_the_templates_are_those_that_are_named() -> None:
    named = {facts["template"] for facts in DEFINED.values()}
    assert {path.stem for path in (ROOT / ".dvc/plots").glob("*.json")} == named
