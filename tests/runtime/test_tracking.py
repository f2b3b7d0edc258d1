"""Trackers: what they log, across interruptions too, and that they never affect a training."""

import csv
import json
import math
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from repository import wait_for

from patchscale.runtime.tracking import Run, tracking
from patchscale.study.errors import Stopped

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # SQLAlchemy, of MLflow

FACTS = {
    "n_params": 2_000_000,
    "torch": torch.__version__,  # a subclass of str
    "settings": {"lr": 8e-4, "micro_batch": np.int64(32), "shape": (1, 2)},
    "none": None,
}


def row(epoch, **more):
    return {"train_log_loss": 0.7 - epoch / 8, "val_log_loss": 0.8 - epoch / 8, **more}


def run_of(cell="2M-h1", seed=0, **settings):
    return Run(cell, seed, "0123456789abcdef", FACTS, **settings)


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Let libraries write below `tmp_path` only; W&B is offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    yield
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()


@pytest.fixture
def lines():
    return []


def curve(name, directory=Path("live")):
    """Return `(step, value)` of a DVCLive curve."""
    with (directory / "plots" / "metrics" / f"{name}.tsv").open() as handle:
        return [
            (int(each["step"]), float(each[name]))
            for each in csv.DictReader(handle, None, None, delimiter="\t")
        ]


def query(uri, text, *words):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as store:
        return store.execute(text, words).fetchall()


def points(uri, run, name):
    """Return `(step, value)` that an MLflow store holds of a run."""
    return query(
        uri,
        "select step, metrics.value from metrics join tags using (run_uuid) "
        "where tags.value = ? and metrics.key = ? order by step",
        run.key,
        name,
    )


def status(uri, run):
    """Return the status of each run of an MLflow store that has the key of this run."""
    return [
        each
        for (each,) in query(
            uri, "select status from runs join tags using (run_uuid) where value = ?", run.key
        )
    ]


def wandb_steps(directory):
    """Return the steps in an offline directory's log."""
    (log,) = directory.glob("run-*.wandb")
    return [
        int(step)
        for step in dict.fromkeys(re.findall(rb"_step\x82\x01.(\d+)", log.read_bytes(), re.S))
    ]


REPLICATE = """
import json, os, signal, sys, time
from pathlib import Path
import patchscale.runtime.tracking as module

seed, first, uri = int(sys.argv[1]), sys.argv[2], sys.argv[3]
mine, lock = Path(f"seed{seed}"), module._store_lock

def both_at_once(uri):
    Path(f"ready{seed}").touch()
    while not (Path("ready0").exists() and Path("ready1").exists()):
        time.sleep(0.01)
    return lock(uri)

def checkpoint():
    Path(f"past{seed}.json").write_text(json.dumps(past))

module._store_lock = both_at_once
past, reported = [], []
run = module.Run("2M-h1", seed, "0123456789abcdef", {"device": "first"}, mlflow=uri)
with module.tracking(mine, run, past, reported.append) as log:
    for epoch in (1, 2):
        past.append({"val_log_loss": 0.8 - epoch / 8, "seconds": float(epoch)})
        if epoch == 2:
            from mlflow.telemetry.utils import is_telemetry_disabled
            facts = {"reported": reported, "telemetry": not is_telemetry_disabled()}
            Path(f"facts{seed}.json").write_text(json.dumps(facts))
            {"checkpoint": checkpoint, "log": lambda: log(past[-1])}[first]()
            os.kill(os.getpid(), signal.SIGKILL)
        checkpoint()
        log(past[-1])
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return the folder where two replicates, killed in epoch 2, created a store at the same time.

    Seed 0 is killed between checkpoint and log, seed 1 between log and checkpoint.
    """
    place = tmp_path_factory.mktemp("killed")
    shown = {"PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "DO_NOT_TRACK"}  # end telemetry too
    environment = {name: value for name, value in os.environ.items() if name not in shown}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REPLICATE, str(seed), first, f"sqlite:///{place}/m.db"],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed, first in enumerate(("checkpoint", "log"))
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2, printed
    return place, printed


@pytest.fixture(scope="module")
def store(killed):
    return f"sqlite:///{killed[0]}/m.db"


def test_two_replicates_may_create_a_store_at_the_same_time(killed, store):
    place, _ = killed
    for seed in (0, 1):
        assert json.loads((place / f"facts{seed}.json").read_text())["reported"] == []
        assert status(store, run_of(seed=seed)) == ["RUNNING"]
    assert query(store, "select count(*) from experiments where name = 'patchscale'") == [(1,)]
    kind = query(store, "select value from experiment_tags where key = 'mlflow.experimentKind'")
    assert kind == [("custom_model_development",)]


def test_mlflow_sends_no_telemetry_and_prints_nothing(killed):
    place, printed = killed
    assert printed == ["", ""]
    for seed in (0, 1):
        assert json.loads((place / f"facts{seed}.json").read_text())["telemetry"] is False


@pytest.mark.parametrize(("seed", "kept", "logged"), [(0, 2, 1), (1, 1, 2)])
def test_a_killed_run_resumes_without_gap_or_double_step(killed, store, lines, seed, kept, logged):
    place, _ = killed
    past = json.loads((place / f"past{seed}.json").read_text())
    run, directory = run_of(seed=seed, mlflow=store), place / f"seed{seed}"
    assert len(past) == kept
    assert (
        len(curve("val_log_loss", directory)) == len(points(store, run, "val_log_loss")) == logged
    )
    with tracking(directory, run, past, lines.append) as log:
        for epoch in range(kept + 1, 4):
            log({"val_log_loss": 0.8 - epoch / 8, "seconds": 10.0 * epoch})
    expected = [(epoch, 0.8 - epoch / 8) for epoch in (1, 2, 3)]
    assert curve("val_log_loss", directory) == points(store, run, "val_log_loss") == expected
    assert [step for step, _ in points(store, run, "seconds")] == [1, 2, 3]
    assert status(store, run) == ["FINISHED"]
    assert lines == []


def test_dvclive_has_every_epoch_from_1_and_the_facts(lines):
    with tracking(Path("live"), run_of(), [row(1)], lines.append) as log:
        log(row(2, temperature=61.0))
        log(row(3))
        during = json.loads(Path("live/metrics.json").read_text())
    assert curve("val_log_loss") == [(epoch, row(epoch)["val_log_loss"]) for epoch in (1, 2, 3)]
    assert curve("temperature") == [(2, 61.0)]
    assert during == {**row(3), "temperature": 61.0, "step": 3}
    text = Path("live/params.yaml").read_text()
    for line in ("cell: 2M-h1", "seed: 0", "n_params: 2000000", "settings.lr: 0.0008"):
        assert line in text.splitlines()
    assert lines == []


def test_dvclive_starts_anew_where_there_are_no_past_epochs(lines):
    for _ in range(2):
        with tracking(Path("live"), run_of(), [], lines.append) as log:
            log(row(1))
            Path("live/plots/metrics/stale.tsv").touch()
    with tracking(Path("live"), run_of(), [], lines.append) as log:
        log(row(1))
    assert curve("val_log_loss") == [(1, row(1)["val_log_loss"])]
    assert not Path("live/plots/metrics/stale.tsv").exists()
    assert lines == []


def test_values_that_are_not_finite_do_no_harm(store, lines):
    run = run_of("infinite", mlflow=store, wandb="p")
    with tracking(Path("live"), run, [], lines.append) as log:
        log({"a": math.nan, "b": math.inf})
        log({"a": 1.0, "b": -math.inf})
        log({"b": 1.0})
        log({})
    assert lines == []
    assert (
        [step for step, _ in curve("a")] == [step for step, _ in points(store, run, "a")] == [1, 2]
    )
    assert [value for _, value in curve("b")] == [math.inf, -math.inf, 1.0]


def test_a_resumed_mlflow_run_keeps_its_first_facts(store, lines):
    for device in ("first", "second"):
        run = Run("facts", 0, "f", {"device": device}, mlflow=store)
        with tracking(Path("live"), run, [], lines.append) as log:
            log(row(1))
    found = query(
        store,
        "select params.key, params.value from params join tags using (run_uuid) "
        "where tags.value = ?",
        run.key,
    )
    assert dict(found) == {"cell": "facts", "seed": "0", "fingerprint": "f", "device": "first"}
    assert lines == []


def test_an_experiment_created_meanwhile_is_used(store, lines, monkeypatch):
    from mlflow import MlflowClient

    true, answers = MlflowClient.get_experiment_by_name, [None]
    monkeypatch.setattr(
        MlflowClient,
        "get_experiment_by_name",
        lambda *words: answers.pop() if answers else true(*words),
    )
    with tracking(Path("live"), run_of("meanwhile", mlflow=store), [], lines.append) as log:
        log(row(1))
    assert answers == lines == []
    assert status(store, run_of("meanwhile")) == ["FINISHED"]


def test_offline_every_process_of_a_wandb_run_writes_the_whole_curve(lines, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("WANDB_BASE_URL", "HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, here)
        run = run_of(wandb="some-project")
        with tracking(Path("live"), run, [], lines.append) as log:
            log(row(1))
        first = set(tmp_path.glob("wandb/offline-run-*"))
        for each in first:  # names hold seconds
            each.rename(each.with_name(f"earlier-{run.key}"))
        with tracking(Path("live"), run, [row(1), row(2)], lines.append) as log:
            log(row(3))
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    earlier, (later,) = tmp_path / f"wandb/earlier-{run.key}", tmp_path.glob("wandb/offline-run-*")
    assert later.name.endswith(f"-{run.key}")
    # a process of wandb writes; on a busy machine it has not finished when `finish` returns
    wait_for(lambda: len(wandb_steps(later)) >= 3, seconds=120)
    assert wandb_steps(earlier) == [1]
    assert wandb_steps(later) == [1, 2, 3]
    assert lines == []


def test_wandb_is_sent_only_what_its_server_lacks(lines, monkeypatch):
    import wandb

    class Known:
        step, sent, code = 3, [], None

        def log(self, values, step, commit):
            self.sent.append((step, values))

        def finish(self, exit_code):
            type(self).code = exit_code

    asked = {}
    monkeypatch.setattr(wandb, "init", lambda **words: asked.update(words) or Known())
    run = run_of(wandb="p")
    with tracking(Path("live"), run, [row(1), row(2), row(3)], lines.append) as log:
        log(row(4))
    assert Known.sent == [(3, row(3)), (4, row(4))]
    assert Known.code == 0
    assert (asked["project"], asked["id"], asked["resume"]) == ("p", run.key, "allow")
    assert lines == []


def test_wandb_without_an_api_key_does_not_prompt(lines, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with tracking(Path("live"), run_of(wandb="p"), [], lines.append) as log:
        log(row(1))
    assert len(lines) == 1
    assert "W&B is off for this run: PermissionError: no API key" in lines[0]


@pytest.mark.parametrize(
    ("package", "name"), [("dvclive", "DVCLive"), ("mlflow", "MLflow"), ("wandb", "W&B")]
)
def test_a_missing_package_is_one_line(package, name, lines, monkeypatch):
    for module in list(sys.modules):
        if module == package or module.startswith(f"{package}."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    setting = {package: "sqlite:///m.db"} if package != "dvclive" else {}
    with tracking(Path("live"), run_of(**setting), [row(1)], lines.append) as log:
        log(row(2))
    assert len(lines) == 1
    assert lines[0].startswith(f"{name} is off for this run: ModuleNotFoundError: ")
    assert Path("live").exists() == (package != "dvclive")


@pytest.mark.parametrize(
    "uri", ["nonsense://x", "./mlruns", "http://127.0.0.1:9", "sqlite:///file/m.db"]
)
def test_a_bad_uri_is_one_line(uri, lines, tmp_path):
    (tmp_path / "file").touch()
    with tracking(Path("live"), run_of(mlflow=uri), [row(1)], lines.append) as log:
        log(row(2))
    assert len(lines) == 1
    assert lines[0].startswith("MLflow is off for this run: ")
    assert "\n" not in lines[0]
    assert [step for step, _ in curve("val_log_loss")] == [1, 2]


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:hunter2@127.0.0.1:9/?token=hunter2",
        "sqlite:///m.db?token=hunter2",
        "nonsense://me:hunter2@host",
    ],
)
def test_no_line_and_no_file_contains_a_password(uri, lines, tmp_path, capfd):
    with tracking(Path("live"), run_of(mlflow=uri), [row(1)], lines.append) as log:
        log(row(2))
    told = [*lines, *capfd.readouterr()]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.parts[-2] == "metrics" for file in files)
    assert not [line for line in told if "hunter2" in line]
    assert not [file for file in files if "hunter2" in file.name or b"hunter2" in file.read_bytes()]


def test_a_store_that_another_process_locks_is_one_line(store, lines, capfd):
    with tracking(Path("live"), run_of("first", mlflow=store), [], lines.append):
        pass
    assert lines == []
    with sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("begin exclusive")
        with tracking(Path("live"), run_of("locked", mlflow=store), [], lines.append) as log:
            log(row(1))
    (line,) = lines
    assert line.startswith("MLflow is off for this run: ")
    assert "database is locked" in line
    assert capfd.readouterr() == ("", "")


def test_a_directory_that_cannot_be_written_is_one_line(store, lines, tmp_path):
    (tmp_path / "file").touch()
    run = run_of("unwritable", mlflow=store)
    with tracking(tmp_path / "file" / "live", run, [row(1)], lines.append) as log:
        log(row(2))
    assert len(lines) == 1
    assert lines[0].startswith("DVCLive is off for this run: ")
    assert [step for step, _ in points(store, run, "val_log_loss")] == [1, 2]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dvclive.live.Live.log_metric", "DVCLive"),
        ("mlflow.MlflowClient.log_batch", "MLflow"),
        ("wandb.sdk.wandb_run.Run.log", "W&B"),
        ("mlflow.MlflowClient.set_terminated", "MLflow"),
        ("wandb.sdk.wandb_run.Run.finish", "W&B"),
    ],
)
def test_a_tracker_that_fails_midway_is_switched_off_alone(path, name, store, lines, monkeypatch):
    calls = []

    def fail(*_, **__):
        calls.append(name)
        raise RuntimeError("first line\nsecond line")

    run = run_of(path, mlflow=store, wandb="p")
    done = []
    with tracking(Path("live"), run, [], lines.append) as log:
        log(row(1))
        monkeypatch.setattr(path, fail)
        for epoch in (2, 3):
            log(row(epoch))
            done.append(epoch)
    assert done == [2, 3]
    assert calls == [name]
    assert lines == [f"{name} is off for this run: RuntimeError: first line second line"]
    if path != "dvclive.live.Live.log_metric":
        assert [step for step, _ in curve("val_log_loss")] == [1, 2, 3]
    if path != "mlflow.MlflowClient.log_batch":
        assert [step for step, _ in points(store, run, "val_log_loss")] == [1, 2, 3]
    monkeypatch.undo()


def test_an_exception_of_the_training_is_not_caught(store, lines):
    run = run_of("stopped", mlflow=store)

    def train():
        with tracking(Path("live"), run, [], lines.append) as log:
            log(row(1))
            raise Stopped("1 epoch is kept")

    with pytest.raises(Stopped, match="1 epoch is kept"):
        train()
    assert curve("val_log_loss") == [(1, row(1)["val_log_loss"])]
    assert status(store, run) == ["KILLED"]
    assert lines == []


def test_tracking_changes_no_state_of_the_training(store, lines, capfd):
    def state():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
        )

    before, values = state(), row(1)
    with tracking(
        Path("live"), run_of("state", mlflow=store, wandb="p"), [values], lines.append
    ) as log:
        log(values)
        assert state() == before
    assert state() == before
    assert values == row(1)
    assert capfd.readouterr() == ("", "")
    assert lines == []


def test_mlflow_and_wandb_are_imported_only_if_configured():
    script = """
import sys
from pathlib import Path
import patchscale.runtime.tracking as module
slow = {"dvclive", "mlflow", "wandb", "torch"}
print(sorted(slow & set(sys.modules)))
with module.tracking(Path("live"), module.Run("c", 0, "f", {}), [], print) as log:
    log({"val_log_loss": 0.5})
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n['dvclive']\n", "")
    assert curve("val_log_loss") == [(1, 0.5)]


@pytest.mark.parametrize("with_dvc", [True, False])
@pytest.mark.parametrize("stage", ["none", "repro", "exp run"])
def test_dvclive_changes_nothing_in_the_repository(with_dvc, stage, lines, tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    Path("dvc.yaml").write_text("stages: {}\n")
    Path(".gitignore").write_text("/data\n")
    if with_dvc:
        Path(".dvc").mkdir()
        Path(".dvc/config").touch()
    git("add", ".")
    git("commit", "-q", "-m", "x")
    if stage != "none":
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        monkeypatch.setenv("DVC_STAGE", "train@2M-h1")
    if stage == "exp run":
        monkeypatch.setenv("DVC_EXP_BASELINE_REV", git("rev-parse", "HEAD"))
        monkeypatch.setenv("DVC_EXP_NAME", "trial")
    monkeypatch.setenv("DVC_STUDIO_TOKEN", "isat_x")
    monkeypatch.setenv("DVC_STUDIO_URL", "http://127.0.0.1:9")

    def other_files():
        return {
            path: path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and "live" not in path.relative_to(tmp_path).parts
        }

    before = other_files()
    with tracking(Path("plots/live/2M-h1/seed0"), run_of(), [row(1)], lines.append) as log:
        log(row(2))
    assert other_files() == before
    assert Path("plots/live/2M-h1/seed0/metrics.json").exists()
    assert lines == []
