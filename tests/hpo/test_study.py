import itertools
import json
import math
import os
import random
from statistics import mean

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import ROOT
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from patchscale.hpo.results import cheapest_of_the_equals, importances, standard_error
from patchscale.hpo.space import BudgetSampler, distributions, shapes
from patchscale.hpo.study import TrialResult, is_pruned, search
from patchscale.model.size import count_params
from patchscale.study.errors import SearchFailed
from patchscale.study.files import write_sealed
from patchscale.study.params import Hpo, Pruning, load_params, load_space

PARAMS = load_params(ROOT)
MAY_DRAW = load_space(ROOT)
SIZE = {"n_features": 22, "patch_length": 10, "n_patches": 6}
FIRST = {
    "d_model": 64,
    "n_layers": 48,
    "n_heads": 2,
    "lr": 0.0008,
    "weight_decay": 0.1,
    "dropout": 0.12,
    "epochs": 8,
}
ALLOWED = shapes(MAY_DRAW, 2_000_000, **SIZE)
SPACE = distributions(MAY_DRAW, ALLOWED)


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # of the journal, 3 ms a line


def rules(**changes) -> Hpo:
    return Hpo.model_validate(PARAMS.hpo.model_dump() | {"trials": 20, "batch": 4} | changes)


def loss(params) -> float:
    return abs(params["lr"] - 0.0003) * 1000 + params["dropout"] + 0.001 * params["n_layers"]


def result(params) -> TrialResult:
    return TrialResult("COMPLETE", [loss(params) + noise for noise in (0.02, -0.03, 0.01)])


def in_turn(batch, curves):
    for number, params in batch.items():
        yield number, result(params)


def run(folder, evaluate=in_turn, said=None, allowed=ALLOWED, space=SPACE, **changes):
    report = (lambda line: None) if said is None else said.append
    return search("cell", space, allowed, FIRST, rules(**changes), evaluate, folder, report)


def table(study: optuna.Study) -> list:
    return [
        (each.number, each.state, each.value, each.params, each.intermediate_values)
        for each in study.trials
    ]


@pytest.mark.parametrize("budget", PARAMS.budgets)
def test_only_architectures_whose_count_is_the_budget_are_allowed_and_the_table_is(budget):
    n_params = PARAMS.budgets[budget].n_params
    allowed = shapes(MAY_DRAW, n_params, **SIZE)
    assert len(allowed) >= (3 if budget == "20K" else 10)
    for (d_model, n_layers), (d_ff, count) in allowed.items():
        shape = SIZE | {"d_model": d_model, "n_layers": n_layers, "d_ff": d_ff}
        assert count == count_params(**shape) == pytest.approx(n_params, rel=0.02)
        assert d_model <= d_ff <= 8 * d_model
    for cell in PARAMS.cells.values():
        if cell.budget == budget:
            assert (cell.d_model, cell.n_layers) in allowed


def test_trial_0_is_the_table_row_and_every_draw_is_allowed(tmp_path):
    study = run(tmp_path, trials=60, batch=5)
    assert study.trials[0].params == FIRST
    drawn = [each.params for each in study.trials]
    assert len({(each["d_model"], each["n_layers"]) for each in drawn}) > 8
    for each in drawn:
        assert each.keys() == SPACE.keys()
        assert (each["d_model"], each["n_layers"]) in ALLOWED
    assert study.trials[0].user_attrs["n_params"] == 2_017_985


def test_heads_that_do_not_divide_the_width_are_not_drawn(tmp_path):
    allowed = {(96, 4): (100, 10), (64, 4): (100, 10)}
    space = distributions(MAY_DRAW.model_copy(update={"n_heads": [3, 64]}), allowed)
    first = FIRST | {"d_model": 96, "n_layers": 4, "n_heads": 3}
    study = search("cell", space, allowed, first, rules(), in_turn, tmp_path, print)
    found = {(each.params["d_model"], each.params["n_heads"]) for each in study.trials}
    assert found == {(96, 3), (64, 64)}


def test_the_sampler_sees_the_architecture(tmp_path):
    def by_depth(batch, curves):
        for number, params in batch.items():
            yield (
                number,
                TrialResult("COMPLETE", [params["n_layers"] / 64 + params["n_heads"] / 320]),
            )

    drawn = [each.params for each in run(tmp_path, by_depth, trials=60, startup=15).trials]
    shallow = [each["n_layers"] <= 4 for each in drawn]
    assert sum(shallow[40:]) / 20 > 2 * sum(shallow[:15]) / 15


def test_who_evaluates_a_batch_in_which_order_changes_nothing(tmp_path):
    whole = table(run(tmp_path / "whole"))
    for seed in range(5):

        def shuffled(batch, curves, seed=seed):
            numbers = list(batch)
            random.Random(seed).shuffle(numbers)
            for number in numbers:
                yield number, result(batch[number])

        assert table(run(tmp_path / str(seed), shuffled)) == whole


def test_a_batch_is_asked_before_any_of_it_is_told(tmp_path):
    seen = []

    def noting(batch, curves):
        seen.append((list(batch), len(curves)))
        yield from in_turn(batch, curves)

    run(tmp_path, noting, trials=10)
    assert seen == [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 4), ([8, 9], 8)]
    alone = table(run(tmp_path / "alone", trials=20, batch=1))
    assert alone[:10] == table(run(tmp_path / "ten", trials=10, batch=1))
    startup = PARAMS.hpo.startup
    assert alone[startup + 4 :] != table(run(tmp_path / "batch"))[startup + 4 :]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 4, 7, 12, 13, 19])
def test_an_interrupted_search_goes_on_to_the_same_table(tmp_path, after):
    calls = itertools.count()

    def interrupted(batch, curves):
        for number, one in in_turn(batch, curves):
            if next(calls) == after:
                raise Interrupted
            yield number, one

    with pytest.raises(Interrupted):
        run(tmp_path / "part", interrupted)
    evaluated = []

    def counting(batch, curves):
        evaluated.extend(batch)
        yield from in_turn(batch, curves)

    study = run(tmp_path / "part", counting)
    assert evaluated == list(range(after, 20))
    assert table(study) == table(run(tmp_path / "whole"))


def test_more_trials_go_on_from_fewer(tmp_path):
    few = table(run(tmp_path / "a", trials=10))
    more = table(run(tmp_path / "a", trials=18))
    assert more[:10] == few


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"params": {"d_mo', "ignored"),
        (b"\xff\xfe", "ignored"),
        (b"[]", "ignored"),
        ({"params": FIRST, "result": {"state": "COMPLETE"}}, "losses"),
        ({"params": {}, "result": {"state": "COMPLETE", "losses": [0.1]}}, "other parameters"),
    ],
)
def test_a_damaged_or_foreign_result_is_named_and_made_anew(tmp_path, content, why):
    whole = table(run(tmp_path))
    if isinstance(content, bytes):
        (tmp_path / "trial-7.json").write_bytes(content)
    else:
        write_sealed(tmp_path / "trial-7.json", content)
    said = []
    assert table(run(tmp_path, said=said)) == whole
    assert f"{tmp_path / 'trial-7.json'}: ignored" in said[0]
    assert why in said[0]


def test_a_loss_typed_into_a_result_does_not_win(tmp_path):
    whole = table(run(tmp_path))
    file = tmp_path / "trial-7.json"
    entry = json.loads(file.read_text())
    entry["result"]["losses"][0] = 0.0001
    file.write_text(json.dumps(entry))
    said = []
    assert table(run(tmp_path, said=said)) == whole
    assert said[0] == f"{file}: ignored (it has another hash); the trial is made anew"


def test_a_torn_or_foreign_journal_is_written_anew(tmp_path):
    whole = table(run(tmp_path))
    journal = tmp_path / "study.journal"
    content = journal.read_bytes()
    for wrong in (content[:-7], content + b'{"op_code": 4, "wor', b"nonsense\n"):
        journal.write_bytes(wrong)
        (tmp_path / "study.journal.lock").touch()  # of a process that was killed
        assert table(run(tmp_path)) == whole
        storage = JournalStorage(JournalFileBackend(str(journal)))  # as optuna-dashboard does
        assert table(optuna.load_study(study_name="cell", storage=storage)) == whole


def test_a_failed_trial_is_a_failure_and_not_a_number(tmp_path):
    def failing(batch, curves):
        for number, params in batch.items():
            ok = number % 3
            yield number, result(params) if ok else TrialResult("FAIL", [], reason=f"no {number}")

    said = []
    study = run(tmp_path, failing, said)
    failed = [each for each in study.trials if each.number % 3 == 0]
    assert all(each.state.name == "FAIL" and each.value is None for each in failed)
    assert [each.user_attrs["reason"] for each in failed] == [
        f"no {each.number}" for each in failed
    ]
    assert study.best_trial.number % 3
    assert "trial 3: failed: no 3; best" in "\n".join(said)


def test_a_search_without_a_completed_trial_says_so(tmp_path):
    def failing(batch, curves):
        for number in batch:
            yield number, TrialResult("FAIL", [], reason=f"loss of step {number}")

    with pytest.raises(SearchFailed, match=r"cell: none of 20 trials.*: loss of step 0") as caught:
        run(tmp_path, failing)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_lines_tell_the_best_so_far_and_how_far_the_search_is(tmp_path):
    said = []
    run(tmp_path, said=said, trials=3)
    values = [mean(result(each.params).losses) for each in run(tmp_path, trials=3).trials]
    best = min(values)
    assert (
        said[0]
        == f"trial 0: {values[0]:.4f}, mean of 3 seeds; best {values[0]:.4f} (trial 0); 1 of 3 done"
    )
    assert said[2].endswith(f"best {best:.4f} (trial {values.index(best)}); 3 of 3 done")


RULE = Pruning(percentile=50.0, startup=3)
COMPLETED = [[0.7, 0.5, 0.6], [0.9, 0.7, 0.5], [0.8, 0.8, 0.8]]


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([0.79], False),  # the median of the first seeds is 0.8
        ([0.81], True),
        ([0.6, 0.99], False),  # means of two seeds: 0.6, 0.8, 0.8
        ([0.81, 0.8], True),
    ],
)
def test_a_trial_is_pruned_where_its_mean_is_worse_than_the_median_of_as_many_seeds(losses, ends):
    assert is_pruned(RULE, COMPLETED, losses) is ends


def test_nothing_is_pruned_before_enough_trials_are_complete():
    assert not is_pruned(RULE, COMPLETED[:2], [9.0])


def test_pruned_trials_are_told_as_such(tmp_path):
    def pruning(batch, curves):
        for number, params in batch.items():
            kept = result(params)
            ended = is_pruned(RULE, curves, kept.losses[:1])
            yield number, TrialResult("PRUNED", kept.losses[:1]) if ended else kept

    study = run(tmp_path, pruning, trials=30)
    pruned = [each for each in study.trials if each.state.name == "PRUNED"]
    assert 4 < len(pruned) < 26
    assert all(len(each.intermediate_values) == 1 for each in pruned)
    assert study.best_trial.state.name == "COMPLETE"


def test_importance_goes_to_the_parameter_that_counts_also_among_pruned_trials(tmp_path):
    def by_lr(batch, curves):
        for number, params in batch.items():
            state = "COMPLETE" if number % 4 == 0 else "PRUNED"
            yield number, TrialResult(state, [params["lr"]])

    study = run(tmp_path / "a", by_lr, trials=40, startup=40)
    found = importances(study)
    assert found["parameter"][0] == "lr"
    assert found["importance"][0] > 0.8
    assert found["importance"].sum() == pytest.approx(1)
    assert found.equals(importances(study))
    assert importances(run(tmp_path / "b", by_lr, trials=3)).empty  # too few trials


def test_the_sampler_is_told_the_options_whose_defaults_changed_between_versions():
    sampler = BudgetSampler(SPACE, ALLOWED, rules())
    assert sampler._multivariate is True
    assert sampler._constant_liar is True


def trials_of(*rows: tuple[str, list[float], int, int]) -> pd.DataFrame:
    """Return a table of trials from state, losses, epochs and layers."""
    table = pd.DataFrame(rows, columns=["state", "losses", "epochs", "n_layers"])
    table["value"] = [mean(row[1]) if row[0] == "COMPLETE" else math.nan for row in rows]
    return table.assign(trial=range(len(rows)))


def test_the_standard_error_of_a_trial_pools_the_spread_of_its_seeds():
    table = trials_of(
        ("COMPLETE", [0.60, 0.62, 0.64], 8, 4),
        ("COMPLETE", [0.70, 0.70, 0.73], 8, 4),
        ("PRUNED", [0.9], 8, 4),
    )
    variances = [np.var([0.60, 0.62, 0.64], ddof=1), np.var([0.70, 0.70, 0.73], ddof=1)]
    assert standard_error(table) == pytest.approx(math.sqrt(np.mean(variances) / 3))


def test_of_the_trials_within_a_standard_error_of_the_best_the_cheapest_is_chosen():
    spread = (-0.01, 0.0, 0.01)  # a standard error of 0.01 / sqrt(3) = 0.0058

    def trial(value: float, epochs: int, layers: int, state: str = "COMPLETE"):
        return state, [value + each for each in spread], epochs, layers

    best, equal = trial(0.600, 16, 4), trial(0.605, 8, 6)
    worse, shallow = trial(0.606, 2, 1), trial(0.604, 8, 4)
    assert cheapest_of_the_equals(trials_of(best, worse)) == 0
    assert cheapest_of_the_equals(trials_of(best, equal, worse)) == 1
    assert cheapest_of_the_equals(trials_of(best, equal, shallow)) == 2  # fewer layers
    assert cheapest_of_the_equals(trials_of(trial(0.603, 8, 6), equal)) == 0  # the lower loss
    assert cheapest_of_the_equals(trials_of(best, trial(0.5, 2, 1, "PRUNED"))) == 0
