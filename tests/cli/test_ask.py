"""`patchscale ask` runs an experiment, shows its figures, and leaves the workspace as it was."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, enter
from repository import wait_for
from small_study import PIPELINE, TRAIN, SmallStudy

from patchscale.cli import ask
from patchscale.cli.__main__ import call
from patchscale.cli.figures import ORDER, table
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
RATE = "a number greater than 0 and less than 1 is needed"
SPLIT = """
Path('data/split').mkdir()
Path('data/split/h1.arrow').write_text('labels' if value < 8 else 'others')
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
    (study.path / "train.py").write_text(TRAIN + SPLIT)
    (study.path / "params.yaml").write_text("value: 1\nmodel: {horizon: h1}\n")
    study.do("dvc", "repro", "-q")
    study.commit("headline")
    monkeypatch.setattr(ask, "refuse_settings", lambda *_: None)
    return study


def options(*words: str) -> tuple[list[str], str]:
    return ask.settings_of(ask._options(words))


def refuse(*words: str, root: Path = ROOT) -> None:
    ask.refuse_settings(root, ask._options(words))


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
    if option != "csv":
        refuse(f"--{option}", value)
        return
    with pytest.raises(InputError, match=r"^inputs/a\.csv: missing; a CSV with the columns date,"):
        refuse(f"--{option}", value)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--budget 5M", "--budget: '5M' is unknown; allowed: 20K, 200K, 2M"),
        ("--horizon 3", "--horizon: '3' is unknown; allowed: h1, h2, h3, h5 (sessions ahead"),
        ("--theta high", f"--theta: 'high' is not allowed; {RATE} (move that makes"),
        ("--theta 1", f"--theta: 1 is not allowed; {RATE} (move that makes a label 1, such as"),
        ("--cash-rate 2", "--cash-rate: 2 is not allowed; a number at least 0 and less than 1"),
        ("--cost-bps -1", "--cost-bps: -1 is not allowed; a number at least 0 and less than 10,"),
        ("--side left", "--side: 'left' is not allowed; 'up' or 'down' is needed"),
        ("--horizon h1 -S target.theta=1", f"params.yaml: target.theta: 1 is not allowed; {RATE}"),
        (
            "-S model.size=2M",
            "-S model.size=2M: Could not override 'model.size'; KEY=VALUE with a key of params",
        ),
        (
            "-S train.patiance=10",
            "-S train.patiance=10: Could not override 'train.patiance', perhaps train.patience; ",
        ),
        ("-S target.theta=0.02 -S modl.budget=2M", "-S modl.budget=2M: Could not override 'modl."),
        ("-S nix.yaml:a=1", "-S a=1: "),
        ("--budget 2B --horizon h3", "params.yaml: model: 2B-h3 is not trained in this study"),
        ("--csv inputs/a.csv --dataset spy", "--csv and --dataset exclude each other"),
        ("", "nothing is asked"),
    ],
)
def test_a_wrong_question_is_refused_before_anything_runs(words: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        refuse(*words.split())
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


@pytest.mark.parametrize("file", ["params.yaml", "grid.yaml", "space.yaml", "dvc.yaml"])
def test_a_file_that_is_no_yaml_is_blamed_with_its_line_and_the_question_is_not(
    file: str, tmp_path: Path
) -> None:
    for name in ("params.yaml", "grid.yaml", "space.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    lines = (ROOT / file).read_text().splitlines()
    (tmp_path / file).write_text("\n".join([*lines[:4], "odd: [", *lines[4:]]))
    with pytest.raises(InputError) as caught:
        refuse("--theta", "0.005", root=tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{file}: not valid YAML (")
    assert "line 5" in line
    assert "theta" not in line


def test_figures_stand_in_the_order_of_their_weight_with_interval_and_difference() -> None:
    committed = {"auc": 0.8, "cell": "2M-h1", "loss": 0.4, "loss_high": 0.5, "loss_low": 0.3}
    mine = {"auc": None, "cell": "2M-h1", "loss": 0.38, "loss_high": None, "loss_low": 0.2}
    shown = table({"committed": committed | {"n": 1234}, "mine": mine | {"n": 1200}})
    assert shown.splitlines() == [
        "      committed                mine                        difference",
        "cell  2M-h1                    2M-h1",
        "n     1,234                    1,200                       -34",
        "loss  0.4000 [0.3000, 0.5000]  0.3800 [0.2000, undefined]  -0.0200",
        "auc   0.8000                   undefined",
    ]


def test_the_figures_that_repro_ends_with_are_in_the_same_order() -> None:
    command = [sys.executable, "-m", "patchscale.cli.figures"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    blank, *rows = done.stdout.splitlines()
    assert blank == ""
    assert [row.split()[0] for row in rows] == list(ORDER)


def test_figures_of_other_labels_have_no_difference_unless_they_are_relative() -> None:
    committed = {"cell": "2M-h1", "auc": 0.8, "gap": 0.01, "loss": 0.4, "val_loss": 0.3}
    mine = {"cell": "2M-h3", "auc": 0.7, "gap": -0.01, "loss": 0.5, "val_loss": 0.4}
    assert table({"committed": committed, "mine": mine}, same_labels=False).splitlines() == [
        "          committed  mine     difference",
        "cell      2M-h1      2M-h3",
        "loss      0.4000     0.5000",
        "gap       0.0100     -0.0100  -0.0200",
        "auc       0.8000     0.7000",
        "val_loss  0.3000     0.4000",
        "",
        "Labels or days differ, so loss, auc, val_loss cannot be compared; "
        "gap and excess, each against a",
        "rival on the same days, can.",
    ]


def test_of_what_dvc_prints_only_that_its_results_were_applied_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ["Running stage 'x':", "", "Ran experiment(s): mine", ask.APPLIED]
    (tmp_path / "dvc.py").write_text(
        f"import sys; print(*{lines!r}, sep='\\n'); sys.stderr.write('42%\\r'); sys.exit(3)"
    )
    monkeypatch.chdir(tmp_path)
    assert ask.call(["dvc"]) == 3
    assert capfd.readouterr() == ("\n".join(lines[:-1]) + "\n", "42%\r")


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
    assert "loss  0.1000 [0.0000, undefined]  0.2000 [0.0000, undefined]  +0.1000" in printed
    assert "n     11                          12                          +1" in printed
    assert "Running stage 'train'" in printed
    assert "applied to your workspace" not in printed
    assert printed.splitlines()[-1].startswith("The workspace is as it was; ")
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
def test_kept_files_and_changes_of_the_user_are_not_overwritten(
    study: SmallStudy, capfd: pytest.CaptureFixture[str]
) -> None:
    call("ask", "-S", "value=9", "--search")
    assert "Labels or days differ, so loss cannot be compared" in capfd.readouterr().out
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
        "ask.refuse_settings = lambda *_: None; run(ask.main)"
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


def test_the_name_of_an_experiment_has_no_password(study: SmallStudy) -> None:
    name = ask.free_name(study.path, ["a.path='https://u:pw1234@h/x?token=9'", "value=2"])
    assert name == "ask-path-https-h-x-value-2"


def test_parameters_left_by_another_experiment_are_named_before_the_question_is_judged(
    study: SmallStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*_: object) -> None:
        raise InputError("the question")

    monkeypatch.setattr(ask, "refuse_settings", judged)
    with pytest.raises(InputError, match="the question"):
        call("ask", "-S", "value=2")
    (study.path / "params.yaml").write_text("value: 3\nmodel: {horizon: h1}\n")
    with pytest.raises(InputError, match=r"^params\.yaml: not as committed; .*`patchscale reset`"):
        call("ask", "-S", "value=2")
