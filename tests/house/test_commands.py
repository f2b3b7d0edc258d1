"""Every command of the documents is run by a test, or stands here with the reason why not."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from forecast_study import forecast_study
from repository import Repository

from patchscale.check import check
from patchscale.cli import ask
from patchscale.fanout.repository import set_parameters
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, write_arrow
from patchscale.study.params import load_params, load_space

NAMES = ["README.md", "CONTRIBUTING.md", "inputs/README.md"]
PAGES = [*NAMES, *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
RECORDS = ("docs/LOG.md", "docs/decisions.md")
"""Pages that say what was done with the parameters of their time."""
PROGRAMS = {
    *("bash", "complete", "cp", "dvc", "export", "git", "huggingface-cli", "make"),
    *("md5sum", "patchscale", "pip", "python", "python3", "ray", "sbatch", "uv"),
}
TESTED = {
    "complete *": "tests/cli/test_main.py",
    "dvc artifacts get *": "tests/house/test_commands.py",
    "dvc exp run *": "tests/house/test_commands.py",  # what it sets, never the training
    "dvc get /path/*": "tests/house/test_commands.py",
    "dvc get <this repository> *": "tests/house/test_commands.py",
    "dvc get <git url> *": "tests/remotes/test_http.py",
    "dvc import *": "tests/remotes/test_http.py",
    "dvc metrics show": "tests/pipeline/test_toy_grid.py",
    "dvc plots show": "tests/house/test_plots.py",
    "dvc remote *": "tests/house/test_commands.py",
    "patchscale ask *": "tests/house/test_commands.py",
    "patchscale export *": "tests/test_hub.py",
    "patchscale import-csv *": "tests/cli/test_import_csv.py",
    "patchscale predict *": "tests/forecast/test_outlook.py",
    "python3 dev.py -- patchscale --help": "tests/cli/test_main.py",
    "python3 dev.py fanout *": "tests/fanout/test_main.py",
    "RAY_ADDRESS=* python3 dev.py fanout *": "tests/fanout/test_ray_executor.py",
    "python3 dev.py repro": "tests/house/test_furniture.py",
    "python3 dev.py reset": "tests/workspace/test_reset.py",
    "python3 dev.py test": "tests/house/test_furniture.py",
    "python3 dev.py verify*": "tests/verify/test_main.py",
    "sbatch *": "tests/fanout/test_ray_executor.py",
}
"""Commands, as patterns, and the file of tests that runs them or what they call."""
NOT_RUN = {
    "cp data/raw/*": "copies a file",
    "dvc exp show *": "needs the experiments of the page",
    "dvc params diff dropout-*": "needs the experiments of the page",
    "dvc plots diff *": "needs the experiments of the page",
    "dvc metrics diff*": "needs the experiments of the page",
    "dvc queue *": "starts trainings",
    "dvc push -r big *": "needs a remote of the user's",
    "export RAY_AUTH_MODE=token": "needs a cluster",
    "git clone *": "needs the network",
    "git commit *": "changes the history of the reader",
    "git diff *": "shows an edit of the reader",
    "git tag *": "changes the history of the reader",
    "huggingface-cli *": "needs an account",
    "md5sum *": "reads files",
    "PATCHSCALE_*=* dvc exp run *": "trains, with the program of a tracker",
    "python3 dev.py -- optuna-dashboard *": "starts a server for a browser",
    "ray *": "needs a cluster",
    "URL=*": "sets a variable",
}
"""Commands, as patterns, that no test runs, and why."""
TREES = ("check ─>", "dvc.yaml  ", "date,open,", "SPY.csv:", "figures() {", "  5M-h1:", "  5M:")
"""Beginnings of blocks that hold no command."""
REFUSED = {
    "-S model.budget=2B -S model.horizon=h3": "2B-h3 is not trained in this study",
    "-S model.budget=5M": "'5M' is unknown",  # the page adds it first
}
"""Settings that a page shows to be refused, with what `check` says."""
LINES = [
    "dvc remote add big s3://bucket/patchscale",
    "dvc remote add big gs://bucket/patchscale",
    "dvc remote add big ssh://user@host/srv/patchscale",
]


def blocks(page: str) -> list[str]:
    """Return the fenced blocks of a page that are in no language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in fences if not language]


def commands_of(block: str) -> list[str]:
    """Return the commands of a block, each on one line and without its comment."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        words = re.sub(r"\s+#.*", "", line)
        first, *_ = [*re.sub(r"^([A-Z_]+=\S+\s*)+", "", words).split(), ""]
        if first in PROGRAMS or re.match(r"^[A-Z_]+=\S", words):
            found.append(words.strip())
    return found


COMMANDS = sorted({line for page in PAGES for block in blocks(page) for line in commands_of(block)})


def inline(program: str) -> list[str]:
    """Return the calls of a program in text, tables and blocks of all pages but the records."""
    found = set(COMMANDS)
    for page in PAGES:
        if page in RECORDS:
            continue
        text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
        found |= {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)}
    calls = [re.sub(r"^([A-Z_]+=\S+\s+)+", "", line) for line in found]
    return sorted({line for line in calls if line.startswith(program) and line != program})


def test_every_block_without_a_language_holds_commands_or_is_known_to_hold_none() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert commands_of(block) or block.startswith(TREES), (page, block[:60])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_run_by_a_test_or_says_why_not(command: str) -> None:
    assert [each for each in (*TESTED, *NOT_RUN) if fnmatchcase(command, each)]


def test_no_entry_of_the_tables_is_left_over() -> None:
    for pattern in (*TESTED, *NOT_RUN):
        assert any(fnmatchcase(command, pattern) for command in COMMANDS), pattern
    assert all((ROOT / file).is_file() for file in TESTED.values())


def test_the_experiments_of_the_pages_are_found() -> None:
    assert len(RUNS) > 25
    assert len(inline("patchscale ask ")) > 3


def settings_in(command: str) -> tuple[list[str], list[str]]:
    """Return the settings and the targets of a `dvc exp run`."""
    words = shlex.split(command)[3:]
    settings, targets = [], []
    while words:
        match words.pop(0):
            case "-S":
                settings.append(words.pop(0))
            case "-n" | "--name" | "-C":
                words.pop(0)
            case word if not word.startswith("-"):
                targets.append(word)
    return settings, targets


RUNS = [line for line in inline("dvc exp run ") if "-S" in line and "NAME" not in line]


@pytest.mark.parametrize("command", RUNS)
def test_dvc_and_check_accept_what_an_experiment_of_the_pages_sets(
    command: str, tmp_path: Path
) -> None:
    from dvc.utils.hydra import get_hydra_sweeps

    settings, targets = settings_in(command)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert all(target.partition("@")[0] in stages for target in targets)
    for sweep in get_hydra_sweeps({"params.yaml": settings}):
        for file in paths.STUDY:
            shutil.copy(ROOT / file, tmp_path)
        set_parameters(tmp_path, sweep["params.yaml"])
        if problem := REFUSED.get(f"-S {' -S '.join(settings)}"):
            with pytest.raises(InputError, match=problem):
                check(load_params(tmp_path), load_space(tmp_path))
        else:
            check(load_params(tmp_path), load_space(tmp_path))


@pytest.mark.parametrize("command", inline("patchscale ask "))
def test_the_questions_of_the_pages_can_be_asked(command: str) -> None:
    ask.refuse_settings(ROOT, ask._options(tuple(shlex.split(command)[2:])))


@pytest.mark.slow
@pytest.mark.parametrize("first", LINES)
def test_the_remotes_of_the_page_can_be_added(first: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.do("git", "init", "-q")
    repository.do("dvc", "init", "-q")
    text = "".join(blocks("docs/remotes.md"))
    block = text[text.index(first) :].partition("\n\n")[0]
    lines = [line for line in block.splitlines() if line.startswith("dvc remote ")]
    kind = lines[: 1 + next((n for n, line in enumerate(lines[1:]) if " add " in line), len(lines))]
    for line in kind:
        repository.do(*shlex.split(line))
    assert (tmp_path / ".dvc/config").read_text().count("'remote \"big\"'") == 1


@pytest.mark.slow
def test_results_are_read_as_the_page_says(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/questions.md").read_text(), re.S)
    code += "\nprint(len(forecasts), theta, figures['cell'])"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    days, theta, cell = done.stdout.split()
    assert int(days) > 900
    assert (theta, cell) == ("0.01", "2M-h1")
    for command in inline("dvc get /path/to/patchscale "):
        words = [word.replace("/path/to/patchscale", str(ROOT)) for word in shlex.split(command)]
        Repository(tmp_path).do(*words)
    assert json.loads((tmp_path / "headline.json").read_text())["cell"] == cell
    assert len(read_arrow(tmp_path / "forecasts.arrow")) == int(days)


@pytest.mark.slow
def test_weights_are_fetched_by_path_and_by_the_tag_of_their_artifact(tmp_path: Path) -> None:
    Repository(tmp_path).do("git", "clone", "-q", str(ROOT), "clone")
    clone = Repository(tmp_path / "clone")
    clone.do("git", "tag", "-a", "20K-h1@v9.0.0", "-m", "weights")
    for command in ("dvc get . data/weights/20K-h1 -o path", "dvc artifacts get . 20K-h1 -o tag"):
        clone.do(*command.split())
    path, tag = (sorted((clone.path / name).iterdir()) for name in ("path", "tag"))
    assert [file.read_bytes() for file in path] == [file.read_bytes() for file in tag]
    assert len(path) == 3


@pytest.mark.slow
def test_the_notebook_runs_and_holds_no_output(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "examples/study.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    forecast_study(tmp_path)
    for cell in ("1K-h1", "1K-h3"):
        path = tmp_path / paths.split(cell.partition("-")[2])
        split = read_split(path, labels_of={"train"})
        judged = split[split["subset"].isin(["val", "test"])][["date", "subset"]]
        table = judged.assign(p=0.3, p_seed0=0.2, p_seed1=0.4)
        write_arrow(tmp_path / paths.predictions(cell), table)
    (tmp_path / "examples").mkdir()
    code = "\n\n".join("".join(cell["source"]) for cell in cells) + "\nprint(axes.get_title())"
    done = subprocess.run(
        [sys.executable, "-c", f"import matplotlib\nmatplotlib.use('Agg')\n{code}"],
        cwd=tmp_path / "examples",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1K-h1: probabilities of the test dates"
