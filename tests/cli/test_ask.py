"""`patchscale ask` runs an experiment, shows its figures, and leaves the workspace as it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, enter
from repository import wait_for
from small_study import PIPELINE, SmallStudy

from patchscale.cli import ask
from patchscale.cli.__main__ import call
from patchscale.cli.figures import table
from patchscale.study.errors import InputError

HEADLINE = """\
  headline:
    cmd: python headline.py
    deps: [data, headline.py]
    metrics:
    - metrics/headline.json:
        cache: false
    - metrics/of-${value}.json:
        cache: false
"""
COPY = """\
from pathlib import Path
value = Path('data/out').read_text().split()[1]
Path('metrics/headline.json').write_text(
    f'{{"cell": "x", "loss": 0.{value}, "loss_low": 0.0, "loss_high": null, "n": 1{value}}}'
)
Path(f'metrics/of-{value}.json').write_text('{}')
"""


@pytest.fixture
def study(
    small_template: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SmallStudy:
    """Return the small study with a stage `headline`; it is the current folder."""
    study = small_template.copy(tmp_path / "study")
    enter(study, monkeypatch)
    (study.path / "dvc.yaml").write_text(PIPELINE + HEADLINE)
    (study.path / "headline.py").write_text(COPY)
    study.do("dvc", "repro", "-q")
    study.commit("headline")
    monkeypatch.setattr(ask, "refuse_settings", lambda root, settings: None)
    return study


def options(*words: str) -> tuple[list[str], str]:
    return ask.settings_of(ask._options(words))


@pytest.mark.parametrize(
    ("words", "settings", "cost"),
    [
        ("--horizon h3 --budget 20M", "model.budget=20M model.horizon=h3", "judged"),
        ("--cost-bps 5", "backtest.cost_bps=5", "judged"),
        ("--theta 0.005", "target.theta=0.005 hpo.trials=0", "trained"),
        ("--theta 0.005 --search", "target.theta=0.005", "searched"),
        ("--theta 0.01 -S hpo.trials=3", "target.theta=0.01 hpo.trials=3", "searched"),
        (
            "--csv inputs/a.csv",
            "dataset=csv datasets.csv.path=inputs/a.csv hpo.trials=0",
            "trained",
        ),
        ("-S budgets={2M:{run:{seeds:5}}}", "budgets={2M:{run:{seeds:5}}}", "trained"),
        ("-S train.clip=2 --no-search", "train.clip=2 hpo.trials=0", "trained"),
    ],
)
def test_a_change_of_what_a_search_sees_leaves_the_search_out(
    words: str, settings: str, cost: str
) -> None:
    assert options(*words.split()) == (settings.split(), cost)


@pytest.mark.parametrize("option", ask.KEYS)
def test_every_option_sets_a_parameter_that_exists(option: str) -> None:
    value = {"csv": "inputs/a.csv", "tier": "a50", "side": "down"}.get(option)
    value = value or {"budget": "20K", "horizon": "h2", "dataset": "ixic"}.get(option, "0.5")
    settings, _ = options(f"--{option}", value)
    ask.refuse_settings(ROOT, settings)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--budget 5M", "params.yaml: model.budget: '5M' is unknown; allowed: 20K, 200K, 2M"),
        ("--theta high", "params.yaml: target.theta: 'high' is not allowed"),
        (
            "-S model.size=2M",
            "-S model.size=2M: Could not override 'model.size'; KEY=VALUE with a key of params",
        ),
        ("-S nix.yaml:a=1", "-S a=1: "),
        ("--budget 2B --horizon h3", "params.yaml: model: 2B-h3 is not trained in this study"),
        ("--csv inputs/a.csv --dataset spy", "--csv and --dataset exclude each other"),
        ("", "nothing is asked"),
    ],
)
def test_a_wrong_question_is_refused_before_anything_runs(words: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        ask.refuse_settings(ROOT, options(*words.split())[0])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_intervals_stand_beside_their_figure_in_nested_and_in_flat_metrics() -> None:
    nested = {"cell": "2M-h1", "test": {"auc": 0.8, "auc_low": 0.7, "auc_high": 0.9, "why": "x"}}
    flat = {"cell": "2M-h3", "gap": None, "gap_low": None, "gap_high": None, "trades": 1234}
    assert table({"committed": nested, "mine": flat}).splitlines() == [
        "          committed                mine",
        "cell      2M-h1                    2M-h3",
        "test.auc  0.8000 [0.7000, 0.9000]",
        "gap                                undefined [undefined, undefined]",
        "trades                             1,234",
    ]


@pytest.mark.slow
def test_figures_are_shown_and_the_workspace_is_as_it_was(
    study: SmallStudy, capfd: pytest.CaptureFixture[str]
) -> None:
    before = study.tracked()
    (study.path / "notes.txt").write_text("my notes\n")
    (study.path / "metrics/mine.json").write_text("{}\n")
    call("ask", "-S", "value=2", "--search")
    printed = capfd.readouterr().out
    assert printed.startswith("dvc exp run --name ask-value-2 -S value=2 headline\nexpected: ")
    assert "loss  0.1000 [0.0000, undefined]  0.2000 [0.0000, undefined]" in printed
    assert "n     11                          12" in printed
    assert study.tracked() == before | {"notes.txt": b"my notes\n"}
    assert study.text("data/out") == "out 1"
    assert [path.name for path in sorted((study.path / "metrics").iterdir())] == [
        "headline.json",
        "mine.json",
        "of-1.json",
        "train.json",
    ]
    assert "ask-value-2" in study.do("dvc", "exp", "list", "--name-only")
    assert ask.free_name(study.path, ["value=2"]) == "ask-value-2-2"
    with pytest.raises(SystemExit) as ended:
        call("ask", "-S", "value=7", "--search")  # stage `check` refuses it
    assert ended.value.code == 255
    assert "check.py: 7 is refused" in capfd.readouterr().err
    assert study.tracked() == before | {"notes.txt": b"my notes\n"}


@pytest.mark.slow
def test_kept_files_and_changes_of_the_user_are_not_overwritten(study: SmallStudy) -> None:
    call("ask", "-S", "value=3", "--search", "--keep", "--name", "mine")
    assert study.text("data/out") == "out 3"
    before = study.tracked()
    with pytest.raises(InputError, match=r"params.yaml, dvc.lock, .*: not as committed; .*reset"):
        call("ask", "-S", "value=4", "--search")
    assert study.tracked() == before
    call("reset")
    (study.path / "data/out").write_text("mine")
    with pytest.raises(InputError, match=r"data \(modified\): not as in dvc.lock"):
        call("ask", "-S", "value=4", "--search")
    assert study.text("data/out") == "mine"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_restores_the_workspace_and_ends_with_75(study: SmallStudy, name: str) -> None:
    before, runs = study.tracked(), len(study.runs())
    (study.path / "wait").touch()
    code = (
        "from patchscale.cli import ask; from patchscale.study.stage import run;"
        "ask.refuse_settings = lambda root, settings: None; run(ask.main)"
    )
    words = [sys.executable, "-c", code, "-S", "value=5", "--search"]
    process = subprocess.Popen(
        words, env=study.environment(), start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(study.runs()) > runs)
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.terminate()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 75
    assert said.splitlines()[-1].endswith(f"{name}: stopped; the same command goes on")
    assert study.tracked() == before
    assert study.text("data/out") == "out 1"
