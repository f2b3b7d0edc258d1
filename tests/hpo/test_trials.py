from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pydantic import ValidationError
from tiny import ROW, problem, tiny_params
from tiny_search import ALLOWED, PARAMS, PRUNING, best_of, run

from patchscale.hpo import trials
from patchscale.hpo.results import costs_table, history, summary, trials_table, without_clock
from patchscale.hpo.trials import refuse_long_search, replica_of, trial_concurrency
from patchscale.runtime import replica
from patchscale.runtime.replica import Replica
from patchscale.study.errors import Diverged, InputError, SearchFailed, Stopped
from patchscale.study.files import read_arrow, write_arrow
from patchscale.study.params import Best, Space
from patchscale.train.engine import Engine
from patchscale.train.schedule import learning_rate


def engine_of(**changes) -> tuple[Engine, Replica]:
    each = replica_of(PARAMS, best_of(**changes), problem(), 0, Path("nowhere"))
    return Engine(each.inputs, each.settings, 0), each


WIDER = {"d_model": 16, "n_layers": 1}
RATES = ("lr", "weight_decay")  # seen by what they lead to
REACHED = {
    "d_model": (16, lambda engine, replica: engine.model.embed.out_features),
    "n_layers": (1, lambda engine, replica: len(engine.model.layers)),
    "n_heads": (4, lambda engine, replica: engine.model.layers[0].n_heads),
    "dropout": (0.4, lambda engine, replica: engine.model.layers[0].dropout),
    "weight_decay": (
        0.003,
        lambda engine, _: max(group["weight_decay"] for group in engine.optimizer.param_groups),
    ),
    "lr": (0.02, lambda engine, replica: learning_rate(50, 100, replica.settings)),
    "epochs": (2, lambda engine, replica: replica.settings.epochs),
}


@pytest.mark.parametrize("name", Space.model_fields)
def test_every_sampled_parameter_reaches_the_object_it_changes(name):
    value, look = REACHED[name]
    other = WIDER if name in WIDER else {}  # a budget has one depth for this width
    assert look(*engine_of(**other | {name: value})) == pytest.approx(value) or name in RATES
    assert look(*engine_of(**other | {name: value})) != look(*engine_of())


def test_the_learning_rate_reaches_the_optimiser():
    engine, each = engine_of()
    engine.model.train()
    engine.step(torch.arange(10), learning_rate(7, 100, each.settings))
    for group in engine.optimizer.param_groups:
        rate = learning_rate(7, 100, each.settings)
        assert group["lr"] / group["share"] == pytest.approx(rate)


def test_a_drawn_parameter_that_nothing_consumes_is_an_error():
    with pytest.raises(ValidationError, match="label_smoothing"):
        best_of(label_smoothing=0.1)


def test_every_field_of_a_best_trial_reaches_its_training():
    each = replica_of(PARAMS, best_of(), problem(), 0, Path("nowhere"))
    consumed = vars(each.inputs.shape).keys() | vars(each.settings).keys()
    about = {"cell", "trial", "n_params", "score", "best_score", "standard_error"}
    about |= {"seed", "versions"}
    assert Best.model_fields.keys() - about <= consumed


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> dict[int, Path]:
    """Return the folder of a search for each number of workers, with its table."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for workers in (1, 2, 4):
            patch.setattr(trials, "concurrency", lambda *_, workers=workers: workers)
            folders[workers] = tmp_path_factory.mktemp(f"workers{workers}")
            study = run(folders[workers], tiny_params(pruning=PRUNING))
            write_arrow(folders[workers] / "trials.arrow", trials_table(study))
            write_arrow(folders[workers] / "costs.arrow", costs_table(study))
    return folders


def test_the_table_of_trials_is_the_same_bytes_for_1_2_and_4_workers(studies):
    alone, two, four = ((studies[n] / "trials.arrow").read_bytes() for n in (1, 2, 4))
    assert alone == two == four


def test_a_journal_without_its_clock_is_the_same_bytes_for_1_2_and_4_workers(studies):
    journals = [(studies[n] / "study.journal").read_text() for n in (1, 2, 4)]
    assert len(set(journals)) == 3
    alone, two, four = map(without_clock, journals)
    assert alone == two == four
    assert "seconds" not in alone


def test_a_journal_without_its_clock_is_the_same_study(studies, tmp_path):
    whole = (studies[2] / "study.journal").read_text()
    (tmp_path / "study.journal").write_text(without_clock(whole))
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    pd.testing.assert_frame_equal(trials_table(study), read_arrow(studies[2] / "trials.arrow"))


def test_the_tables_hold_all_that_is_known_of_a_trial(studies):
    table, costs = (read_arrow(studies[2] / f"{name}.arrow") for name in ("trials", "costs"))
    assert table["trial"].tolist() == costs["trial"].tolist() == list(range(6))
    assert {"COMPLETE", "PRUNED"} == set(table["state"])
    for row in table.itertuples():
        assert ALLOWED[row.d_model, row.n_layers] == (row.d_ff, row.n_params)
        assert len(row.losses) == (2 if row.state == "COMPLETE" else 1)
        complete = row.state == "COMPLETE"
        assert row.value == np.mean(row.losses) if complete else np.isnan(row.value)
    assert table.loc[0, list(ROW)].to_dict() == ROW
    assert (costs["seconds"] >= 0).all()  # tenths
    assert (costs["peak_memory_gib"] > 0).all()
    figures = summary(table, problem())
    assert figures["complete"] + figures["pruned"] == figures["trials"] == 6
    assert figures["trainings"] == table["losses"].map(len).sum()
    assert figures["lowest_val_log_loss"] == table["value"].min()
    assert figures["standard_error"] > 0
    assert figures["trial_0_val_log_loss"] == table["value"][0]
    assert table["value"][figures["best_trial"]] == figures["val_log_loss"]
    assert history(table)["best"].tolist() == table["value"].dropna().cummin().tolist()


def test_nothing_but_results_and_journal_is_left_of_trials(studies):
    left = {path.name for path in studies[2].iterdir()}
    kept = {"trials.arrow", "costs.arrow", "study.journal", "worker-0.json", "worker-1.json"}
    assert left == kept | {f"trial-{number}.json" for number in range(6)}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Diverged("the loss of step 3 (epoch 1) is not finite"), "the loss of step 3 (epoch 1)"),
        (InputError("2,400 parameters do not fit"), "2,400 parameters do not fit"),
        (MemoryError("a buffer"), "MemoryError: a buffer"),
    ],
)
def test_a_trial_that_diverges_runs_out_of_memory_or_raises_fails_with_its_reason(
    tmp_path, monkeypatch, error, reason
):
    real = replica.train

    def failing(*words, **named):
        if words[3].path.name in ("trial-1-seed0", "trial-4-seed0"):
            raise error
        return real(*words, **named)

    monkeypatch.setattr(replica, "train", failing)
    table = trials_table(run(tmp_path))
    assert table.loc[table["state"] == "FAIL", "trial"].tolist() == [1, 4]
    assert table["reason"][1].startswith(reason)
    assert table["value"].isna().tolist() == (table["state"] != "COMPLETE").tolist()

    monkeypatch.setattr(replica, "train", lambda *words, **named: failing(*words[:3], _Named, {}))
    with pytest.raises(SearchFailed, match="none of 6 trials was completed"):
        run(tmp_path / "all")


class _Named:
    path = Path("trial-1-seed0")


def test_a_stop_keeps_what_is_done_and_the_same_search_goes_on(tmp_path, monkeypatch):
    whole = trials_table(run(tmp_path / "whole"))
    real = replica.train

    def stopping(*words, **named):
        if words[3].path.name == "trial-4-seed0":
            raise Stopped.between_steps("SIGTERM")
        return real(*words, **named)

    monkeypatch.setattr(replica, "train", stopping)
    with pytest.raises(Stopped, match="SIGTERM: stopped"):
        run(tmp_path / "part")
    monkeypatch.setattr(replica, "train", real)
    assert trials_table(run(tmp_path / "part")).equals(whole)


def test_a_search_that_would_take_too_long_is_refused_before_its_first_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("PATCHSCALE_WORKERS", "1")  # else as many as there are cores
    before = torch.get_num_threads()
    with pytest.raises(InputError, match=r"6 trials of 2 seeds and 4 epochs, 1 at a time, would"):
        refuse_long_search(PARAMS, best_of(), problem(), tmp_path, 1e-7)
    assert torch.get_num_threads() == before
    refuse_long_search(PARAMS, best_of(), problem(), tmp_path, 100.0)


def test_workers_are_as_many_as_asked_for_and_never_more_than_a_batch(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(trials, "concurrency", lambda replica, jobs, free: seen.append(jobs) or 1)
    for workers in (0, 2, 9):
        monkeypatch.setenv("PATCHSCALE_WORKERS", str(workers))
        each = replica_of(PARAMS, best_of(), problem(), 0, tmp_path)
        trial_concurrency(PARAMS.hpo, each, 10**9)
    assert seen == [3, 2, 3]


def test_the_labels_of_the_problem_decide_the_search(tmp_path):
    other = problem(learnable=False)
    ours, theirs = (
        trials_table(run(tmp_path / n, inputs=i))
        for n, i in {"a": problem(), "b": replace(other)}.items()
    )
    assert ours["value"].min() < theirs["value"].min()
