"""What stands around the code is true: citation, workflow, hooks, containers, links, artifacts."""

import ast
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from patchscale.verify.records import locked_stages

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("inputs/*.md")])
CALLERS = [
    ".ci/run",
    ".devcontainer/devcontainer.json",
    ".github/workflows/test.yml",
    ".pre-commit-config.yaml",
    "Dockerfile",
    *(str(page.relative_to(ROOT)) for page in PAGES),
]
WORKFLOW = yaml.load((ROOT / ".github/workflows/test.yml").read_text(), Loader=yaml.BaseLoader)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def local_links(page: Path) -> list[str]:
    """Return the targets of a page's links and images that are no addresses."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[0] for target in targets if "://" not in target]


def snippets(page: str) -> list[str]:
    """Return the Python of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_citation_is_of_the_packaged_version() -> None:
    citation = yaml.load((ROOT / "CITATION.cff").read_text(), Loader=yaml.BaseLoader)
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The patchscale authors"}]
    assert "The patchscale authors" in (ROOT / "LICENSE").read_text()
    for key, ours in {"title": "name", "version": "version", "license": "license"}.items():
        assert citation[key] == PROJECT[ours]
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert (citation["version"], citation["date-released"]) == newest.groups()


@pytest.mark.parametrize("caller", CALLERS)
def test_called_make_targets_and_commands_of_dev_exist(caller: str) -> None:
    text = (ROOT / caller).read_text()
    tree = ast.walk(ast.parse((ROOT / "dev.py").read_text()))
    commands = {node.value.value for node in tree if isinstance(node, ast.MatchValue)}
    assert set(re.findall(r"python3\W+dev\.py\W+?(--|[a-z]+)", text)) <= commands
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    called = re.findall(r"(?:run: |[`(])make ([a-z]+)", text)
    assert set(called) <= set(targets[1].split())


def test_the_workflow_may_only_read_and_pins_its_actions() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert set(WORKFLOW["on"]) == {"push", "pull_request"}
    for job in WORKFLOW["jobs"].values():
        assert "permissions" not in job
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert uses
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in uses)


def test_the_workflow_tests_the_oldest_and_the_newest_python() -> None:
    job = WORKFLOW["jobs"]["test"]
    assert {"run": "make test"} in job["steps"]
    ends = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"])
    assert ends is not None
    wanted = [f"3.{ends[1]}", f"3.{int(ends[2]) - 1}"]
    assert job["strategy"]["matrix"]["python"] == wanted


def test_hooks_run_the_linters_of_the_test_command() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    prefix = "python3 dev.py -- "
    assert all(hook["entry"].startswith(prefix) for hook in hooks)
    called = [hook["entry"].removeprefix(prefix).split() for hook in hooks]
    for tool, *_ in called:
        assert shutil.which(tool, path=str(Path(sys.executable).parent))
    linted = {tuple(word for word in words if not word.startswith("-")) for words in called}
    dev = (ROOT / "dev.py").read_text()
    tested = re.findall(r'must\("(ruff|mypy)"(?:, "(\w+)")?', dev)
    assert linted == {tuple(word for word in words if word) for words in tested}


def test_the_image_leaves_out_what_git_ignores_and_keeps_what_dvc_reads() -> None:
    ignored = {line.strip("/*") for line in (ROOT / ".gitignore").read_text().splitlines()}
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored <= {line.removeprefix("**/").strip("/*") for line in left_out}
    assert not {".git", ".dvc", "published", "metrics", "plots"} & set(left_out)


def test_the_devcontainer_is_of_a_python_that_is_tested() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    image = re.fullmatch(r"\S+/python:(3\.\d+)-\w+", container["image"])
    base = re.search(r"^FROM python:(3\.\d+)-slim$", (ROOT / "Dockerfile").read_text(), re.M)
    assert image is not None
    assert base is not None
    assert {image[1], base[1]} <= set(WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_to_something(page: Path) -> None:
    broken = [target for target in local_links(page) if not (page.parent / target).exists()]
    assert broken == []


def test_links_are_found() -> None:
    assert "docs/results.md" in local_links(ROOT / "README.md")
    assert "../params.yaml" in local_links(ROOT / "docs/data-card.md")


@pytest.mark.parametrize("page", ["docs/data-card.md", "docs/model-card.md"])
def test_python_of_the_cards_imports_what_exists(page: str) -> None:
    statements = [line for text in snippets(page) for line in ast.parse(text).body]
    imports = [line for line in statements if isinstance(line, ast.Import | ast.ImportFrom)]
    assert imports
    exec(compile(ast.Module(imports, type_ignores=[]), page, "exec"), {})


@pytest.mark.parametrize("horizon", ["h1", "h2", "h3", "h5"])
def test_the_data_card_has_the_days_and_base_rates_of_the_study(horizon: str) -> None:
    card = (ROOT / "docs/data-card.md").read_text()
    row = re.search(rf"^\| {horizon} \|.*\| (\S+, \S+ %) \| (\S+, \S+ %) \|$", card, re.MULTILINE)
    assert row is not None
    judged = json.loads((ROOT / f"metrics/backtest/2M-{horizon}.json").read_text())
    found = [
        f"{judged[subset]['n']}, {100 * judged[subset]['positives'] / judged[subset]['n']:.1f} %"
        for subset in ("val", "test")
    ]
    assert list(row.groups()) == found


def test_artifacts_are_the_published_weights() -> None:
    from dvc.repo import Repo
    from dvc.repo.artifacts import name_is_compatible

    with Repo(str(ROOT)) as repo:
        artifacts = repo.artifacts.read()["dvc.yaml"]
    published = {
        name.partition("@")[2]: stage["outs"][0]["path"]
        for name, stage in locked_stages(ROOT / "dvc.lock").items()
        if name.startswith("weights@")
    }
    assert {name: artifact.path for name, artifact in artifacts.items()} == published
    for name, artifact in artifacts.items():
        assert name_is_compatible(name)
        assert artifact.type == "model"
        assert (ROOT / artifact.meta["card"]).is_file()
        assert {*name.split("-"), "patchtst"} < set(artifact.labels)
