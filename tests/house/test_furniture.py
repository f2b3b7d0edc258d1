"""Files around the code agree: citation, workflow, hooks, containers, lock, links, artifacts."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import ROOT

from patchscale.study.lock import locked_stages

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
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
HASHES = r"( \\\n    --hash=sha256:[0-9a-f]{64})+\n"


@pytest.fixture
def dev() -> ModuleType:
    """Return a new copy of dev.py as a module."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the list to which dev.py adds each command instead of running it."""
    called: list[list[str]] = []

    def called_with(*words: object) -> int:
        called.append([str(word) for word in words])
        return 0

    monkeypatch.setattr(dev, "must", called_with)
    monkeypatch.setattr(dev, "call", called_with)
    monkeypatch.setattr(dev, "work_of", called_with)
    return called


def image(file: str) -> re.Match[str]:
    """Return the image of a file: (1) name, (2) Python of its tag, (3) rest of its tag."""
    found = re.search(
        r"([a-z./]*python):(3\.\d+)-(\w+)@sha256:[0-9a-f]{64}\b", (ROOT / file).read_text()
    )
    assert found is not None, file
    return found


def local_links(page: Path) -> list[str]:
    """Return the local targets of a page's links and images."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[0] for target in targets if "://" not in target]


def snippets(page: str) -> list[str]:
    """Return the Python code blocks of a page."""
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


def test_the_workflow_may_only_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert set(WORKFLOW["on"]) == {"push", "pull_request"}
    assert not any("permissions" in job for job in WORKFLOW["jobs"].values())


def test_actions_are_pinned_by_commit_with_the_version_beside_it() -> None:
    text = (ROOT / ".github/workflows/test.yml").read_text()
    uses = re.findall(r"uses: *(.+)", text)
    pins = [re.fullmatch(r"(actions/[a-z-]+)@[0-9a-f]{40}  # v\d+\.\d+\.\d+", use) for use in uses]
    assert all(pins), uses
    assert {pin[1] for pin in pins if pin} == {"actions/checkout", "actions/setup-python"}
    assert len(set(uses)) == 2  # all jobs use the same commit


def test_the_workflow_tests_the_oldest_and_the_newest_python() -> None:
    job = WORKFLOW["jobs"]["test"]
    ends = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"])
    assert ends is not None
    wanted = [f"3.{ends[1]}", f"3.{int(ends[2]) - 1}"]
    assert job["strategy"]["matrix"]["python"] == wanted


def test_continuous_integration_runs_all_tests() -> None:
    script = (ROOT / ".ci/run").read_text().splitlines()
    assert script[-1] == "python3 dev.py test --all"
    assert {"run": ".ci/run"} in WORKFLOW["jobs"]["test"]["steps"]


@pytest.mark.parametrize(
    ("words", "pytest_words"),
    [
        ([], ["-m", "not slow"]),
        (["tests/hpo", "-x"], ["-m", "not slow", "tests/hpo", "-x"]),
        (["--all"], []),
        (["tests/hpo", "--all"], ["tests/hpo"]),
    ],
)
def test_slow_tests_run_with_all_only(
    dev: ModuleType, commands: list[list[str]], words: list[str], pytest_words: list[str]
) -> None:
    dev.test(words)
    assert commands[-1][1:] == ["-m", "pytest", *pytest_words]
    markers = PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]
    assert [marker.partition(":")[0] for marker in markers] == ["slow"]


@pytest.mark.parametrize("words", [["--", "dvc", "pull", "-q"], ["repro"]])
def test_before_each_pull_files_are_restored_and_what_leads_elsewhere_is_refused(
    dev: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    monkeypatch.setattr(dev, "setup", lambda: None)
    monkeypatch.setattr(dev, "call", lambda *words: commands.append([*map(str, words)]) or 0)
    assert dev.main(words) == 0
    restored, verified, *others = commands
    assert restored[1:] == ["-m", "patchscale.workspace.restore"]
    assert verified[1:] == ["-m", "patchscale.verify", "--level", "published"]
    assert ["dvc", "pull"] in [command[:2] for command in others]


@pytest.mark.parametrize("code", [0, 2, 75])
def test_reset_ends_with_the_code_of_its_module(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    called: list[str] = []
    monkeypatch.setattr(dev, "setup", lambda: None)
    monkeypatch.setattr(dev, "call", lambda *words: called.append(str(words[-1])) or code)
    assert dev.main(["reset"]) == code
    assert called == ["patchscale.workspace.reset"]
    with pytest.raises(SystemExit) as caught:
        dev.main(["reset", "everything"])
    assert caught.value.code == 2


def test_all_that_dvc_reads_is_checked_before_and_figures_come_last(
    dev: ModuleType, commands: list[list[str]]
) -> None:
    dev.repro()
    _, check, *rest = [command[1:] for command in commands]
    assert check == ["-m", "patchscale.verify", "--level", "published"]
    *rest, quick, table = rest
    assert rest == [["stages/check.py"], ["pull", "--quiet"], ["repro"]]
    assert quick == ["-m", "patchscale.verify", "--quick"]
    assert table == ["-m", "patchscale.cli.figures"]


def test_repro_ends_with_the_finding_a_short_table_and_the_path_of_the_page(
    dev: ModuleType, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    dev.repro()
    said = capsys.readouterr().out
    finding = (ROOT / "docs/results.md").read_text().split("\n\n")[2]
    assert finding in " ".join(said.split())
    *_, last = said.splitlines()
    assert last == f"Results: {ROOT / 'docs/results.html'}"
    assert (ROOT / "docs/results.html").is_file()
    assert max(map(len, said.splitlines()[:-1])) <= 100
    assert len(said.splitlines()) < 30


@pytest.mark.parametrize("code", [0, 3])
def test_of_a_run_of_dvc_the_work_is_shown_at_once_and_its_code_kept(
    dev: ModuleType, capfdbinary: pytest.CaptureFixture[bytes], code: int
) -> None:
    lines = [
        "Stage 'features@a20' didn't change, skipping",
        "",
        "Running stage 'report':",
        "Stage 'x' is cached - skipping run, checking out outputs",
        "the data didn't change, skipping",
    ]
    script = (
        f"import sys; print(*{lines!r}, sep='\\n'); sys.stderr.write('42%\\r'); sys.exit({code})"
    )
    assert dev.work_of(sys.executable, "-c", script) == code
    captured = capfdbinary.readouterr()
    assert captured.out.decode().splitlines() == lines[2:]
    assert captured.err == b"42%\r"


def test_a_run_of_dvc_that_fails_ends_repro_with_its_code(
    dev: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "work_of", lambda *words: 255)
    with pytest.raises(SystemExit) as caught:
        dev.repro()
    assert caught.value.code == 255
    assert not any("--quick" in command for command in commands)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_imports(path: Path) -> None:
    words = [sys.executable, "-c", f"import {path.stem}"]
    folder = ROOT / "benchmarks"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_requirement_of_the_lock_is_exact_and_has_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^\S.*\n(?: .*\n)*", text, re.MULTILINE)
    assert len(entries) > 200
    assert "".join(entries) == text
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; [^\\\n]+)?" + HASHES, entry), entry


def test_the_lock_names_no_host() -> None:
    for file in ("requirements.lock", "tools/uv.txt"):
        lines = (ROOT / file).read_text().splitlines()
        options = [line for line in lines if line.strip().startswith("-")]
        assert all(line.startswith("    --hash=sha256:") for line in options), file
        assert not any("://" in line or " @ " in line for line in lines), file


def test_the_lock_holds_every_dependency_but_torch() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))
    wanted = [*PROJECT["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=\[]", line)[0].lower().replace(".", "-") for line in wanted}
    assert names - locked == {"torch"}
    assert not {name for name in locked if name.startswith(("torch", "triton", "cuda-"))}
    assert {name for name in locked if name.startswith("nvidia-")} == {"nvidia-ml-py"}


def test_uv_is_one_version_with_hashes() -> None:
    lines = (ROOT / "tools/uv.txt").read_text().splitlines(keepends=True)
    pin = "".join(line for line in lines if not line.startswith("#"))
    assert re.fullmatch(r"uv==\d+\.\d+\.\d+" + HASHES, pin)


def test_uv_is_installed_once_with_its_hashes_checked(
    dev: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / ".uv").mkdir()
    pin = tmp_path / "tools/uv.txt"
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    for text, calls in [("uv==1", 1), ("uv==1", 1), ("uv==2", 2)]:
        pin.write_text(text)
        dev.install_uv()
        assert len(commands) == calls
        assert commands[-1][-3:] == ["--require-hashes", "-r", str(pin)]


def test_the_environment_is_installed_with_hashes_checked(
    dev: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(dev, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(dev, "install_uv", lambda: None)
    monkeypatch.setattr(dev, "install_torch", lambda: None)
    dev.setup()
    made, locked, project = commands
    assert made[1:3] == ["venv", "--quiet"]
    assert locked[-3:] == ["--require-hashes", "-r", "requirements.lock"]
    assert project[-3:] == ["--no-deps", "-e", "."]
    for command in (locked, project):
        assert "--build-constraints requirements.lock" in " ".join(command)
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", dev.TORCH)


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


def test_the_hook_of_mypy_runs_for_every_file_that_mypy_checks() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (pattern,) = (h["files"] for repo in config["repos"] for h in repo["hooks"] if "files" in h)
    assert PYPROJECT["tool"]["mypy"]["files"] == ["src", "stages", "dev.py"]
    checked = ["dev.py", "pyproject.toml"]
    for folder in ("src", "stages"):
        checked += [str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob("*.py")]
    assert len(checked) > 80
    assert [file for file in checked if not re.search(pattern, file)] == []


def test_the_image_leaves_out_what_git_ignores_and_keeps_what_dvc_reads() -> None:
    ignored = {line.strip("/*") for line in (ROOT / ".gitignore").read_text().splitlines()}
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored <= {line.removeprefix("**/").strip("/*") for line in left_out}
    assert not {".git", ".dvc", "published", "metrics", "plots"} & set(left_out)


def test_images_are_pinned_by_digest_and_of_a_python_that_is_tested() -> None:
    base, container = image("Dockerfile"), image(".devcontainer/devcontainer.json")
    assert f"FROM {base[0]}\n" in (ROOT / "Dockerfile").read_text()
    dev = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert dev["image"] == container[0]
    assert {base[2], container[2]} <= set(WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_to_a_file(page: Path) -> None:
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


def published(path: str) -> bytes:
    """Return the published object of an output, which `dvc pull` would bring."""
    outs = (out for stage in locked_stages(ROOT / "dvc.lock").values() for out in stage["outs"])
    md5 = next(out["md5"] for out in outs if out["path"] == path)
    return (ROOT / "published/files/md5" / md5[:2] / md5[2:]).read_bytes()


@pytest.mark.parametrize("horizon", ["h1", "h2", "h3", "h5"])
def test_the_data_card_has_the_days_and_base_rates_of_the_study(horizon: str) -> None:
    card = (ROOT / "docs/data-card.md").read_text()
    row = re.search(rf"^\| {horizon} \|.*\| (\S+, \S+ %) \| (\S+, \S+ %) \|$", card, re.MULTILINE)
    assert row is not None
    judged = json.loads(published(f"metrics/backtest/2M-{horizon}.json"))
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
        outputs = locked_stages(ROOT / "dvc.lock")[f"train@{name}"]["outs"]
        assert artifact.meta["card"] in [output["path"] for output in outputs]
        assert {*name.split("-"), "patchtst"} < set(artifact.labels)
