import ast
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from patchscale.backtest.bootstrap import UNDEFINED
from patchscale.backtest.flatten import flatten, restore
from patchscale.backtest.judge import Judgement, judge
from patchscale.backtest.scores import choose_threshold
from patchscale.backtest.trading import Question
from patchscale.split.labels import touch_labels
from patchscale.study.errors import InputError
from patchscale.study.params import Backtest, Target, Threshold

TARGET = Target(side="up", reference="extreme", theta=0.01)
THRESHOLD = Threshold(rule="precision", min_recall=0.1)
RULES = Backtest(threshold=THRESHOLD, cost_bps=2.0, cash_rate=0.0, sensitivity_bps=[0.0, 2.0])
HORIZON = 2
QUESTION = Question(HORIZON, TARGET, RULES)


@pytest.fixture(scope="module")
def split(bars: pd.DataFrame) -> pd.DataFrame:
    labels = touch_labels(bars, TARGET, HORIZON)
    subset = ["train"] * 200 + ["purged"] * 5 + ["val"] * 100 + ["test"] * 80
    chosen = slice(100, 100 + len(subset))
    return pd.DataFrame(
        {"date": bars["date"][chosen], "label": labels[chosen], "subset": subset}
    ).reset_index(drop=True)


@pytest.fixture(scope="module")
def forecast(split: pd.DataFrame) -> pd.DataFrame:
    judged = split[split["subset"].isin(["val", "test"])]
    p = 0.3 + 0.1 * judged["label"] + 0.4 * np.random.default_rng(0).random(len(judged))
    return pd.DataFrame({"date": judged["date"], "subset": judged["subset"], "p": p})


def judged(bars, split, forecast):
    return judge(forecast, split, bars, QUESTION, source="p.arrow")


def test_each_seed_is_scored_alone(bars, split, forecast):
    seeds = forecast.assign(p_seed0=forecast["p"], p_seed1=1 - forecast["p"])
    figures, _ = judged(bars, split, seeds)
    assert judged(bars, split, forecast)[0].test.seeds == {}
    for name in ("val", "test"):
        found = getattr(figures, name)
        alone = found.seeds
        assert list(alone) == ["seed0", "seed1"]
        assert alone["seed0"].log_loss == pytest.approx(found.log_loss.value)
        assert alone["seed0"].auc == pytest.approx(found.auc.value)
        assert alone["seed1"].auc == pytest.approx(1 - found.auc.value)


def shuffled(table: pd.DataFrame, column: str, rows: pd.Series) -> pd.DataFrame:
    out = table.copy()
    mixed = np.random.default_rng(1).permutation(table.loc[rows, column].to_numpy())
    out.loc[rows, column] = mixed
    assert not out[column].equals(table[column])
    return out


def test_the_threshold_is_a_function_of_validation_only(bars, split, forecast):
    figures, _ = judged(bars, split, forecast)
    test_labels = shuffled(split, "label", split["subset"] == "test")
    test_p = shuffled(forecast, "p", forecast["subset"] == "test")
    test_p.loc[test_p["subset"] == "test", "p"] *= 0.9
    other, _ = judged(bars, test_labels, test_p)
    assert other.threshold == figures.threshold
    assert flatten(other.val) == flatten(figures.val)
    assert flatten(other.test) != flatten(figures.test)

    val_p = forecast.copy()
    val_p.loc[val_p["subset"] == "val", "p"] /= 2
    assert judged(bars, split, val_p)[0].threshold == figures.threshold / 2


def test_each_subset_is_scored_at_the_threshold_of_validation(bars, split, forecast):
    figures, tables = judged(bars, split, forecast)
    joined = forecast.merge(split.drop(columns="subset"), on="date")
    val, test = (joined[joined["subset"] == name] for name in ("val", "test"))
    threshold = choose_threshold(val["label"].to_numpy(), val["p"].to_numpy(), THRESHOLD)
    assert figures.data_as_of == f"{bars['date'].iloc[-1]:%Y-%m-%d}"
    assert figures.threshold == threshold
    assert figures.prior == split["label"][:200].mean()
    called = test[test["p"] >= threshold]
    assert figures.test.signals == figures.strategy.signals == len(called) > 0
    assert figures.test.precision.value == pytest.approx(called["label"].mean())
    assert figures.test.n == 80
    assert figures.val.n == 100
    assert tables["equity"]["date"].iloc[0] == test["date"].iloc[0]
    assert tables["calibration"]["n"].sum() == 80
    assert len(tables["trades"]) == figures.strategy.trades
    frozen = tables["precision_recall"].set_index("threshold")
    lowest = frozen.index[frozen.index >= threshold].min()
    assert frozen["precision"][lowest] == pytest.approx(figures.test.precision.value)


def test_losses_are_daily(bars, split, forecast):
    figures, tables = judged(bars, split, forecast)
    losses = tables["losses"]
    joined = forecast.merge(split.drop(columns="subset"), on="date")
    right = np.where(joined["label"] == 1, joined["p"], 1 - joined["p"])
    assert losses["date"].tolist() == forecast["date"].tolist()
    assert losses["log_loss"].to_numpy() == pytest.approx(-np.log(right))
    assert losses.columns.tolist() == ["date", "subset", "log_loss"]
    seeds = forecast.assign(p_seed0=forecast["p"], p_seed1=1 - forecast["p"])
    alone = judged(bars, split, seeds)[1]["losses"]
    assert alone["log_loss_seed0"].equals(losses["log_loss"].rename("log_loss_seed0"))
    assert alone["log_loss_seed1"].to_numpy() == pytest.approx(-np.log(1 - right))
    for name in ("val", "test"):
        mean = losses.loc[losses["subset"] == name, "log_loss"].mean()
        assert getattr(figures, name).log_loss.value == pytest.approx(mean)


def test_a_forecast_without_a_judged_date_is_refused(bars, split, forecast):
    day = f"{forecast['date'].iloc[120]:%Y-%m-%d}"
    with pytest.raises(InputError, match=f"p.arrow: 2 of 180 dates are missing, the first {day}"):
        judged(bars, split, forecast.drop(forecast.index[[120, 150]]))


def test_a_forecast_of_foreign_or_repeated_dates_is_refused(bars, split, forecast):
    foreign = forecast.copy()
    foreign.loc[forecast.index[3], "date"] = pd.Timestamp("1990-01-01")
    with pytest.raises(InputError, match=r"p\.arrow: 1 of 180 dates are missing"):
        judged(bars, split, foreign)
    train = split.loc[[0], ["date", "subset"]].assign(p=0.5)
    with pytest.raises(InputError, match="1 of 180 dates are not validation or test dates"):
        judged(bars, split, pd.concat([train, forecast]))
    with pytest.raises(InputError, match="1 of 180 dates are duplicated"):
        judged(bars, split, pd.concat([forecast, forecast.iloc[[7]]]))


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.01, np.inf])
@pytest.mark.parametrize("column", ["p", "p_seed0"])
def test_a_value_outside_0_to_1_is_refused_with_its_day(bars, split, forecast, column, value):
    wrong = forecast.assign(p_seed0=forecast["p"])
    wrong.loc[forecast.index[5], column] = value
    day = f"{forecast['date'].iloc[5]:%Y-%m-%d}"
    with pytest.raises(InputError, match=f"p.arrow: {column} of {day} is {value}; a probability"):
        judged(bars, split, wrong)


def test_a_test_date_called_validation_is_refused(bars, split, forecast):
    wrong = forecast.copy()
    wrong.loc[forecast.index[-1], "subset"] = "val"
    with pytest.raises(InputError, match="its subsets differ from those of the split"):
        judged(bars, split, wrong)


def test_the_order_of_a_forecasts_rows_does_not_matter(bars, split, forecast):
    turned, figures = (judged(bars, split, f)[0] for f in (forecast.iloc[::-1], forecast))
    assert flatten(turned) == flatten(figures)


def test_validation_days_of_one_class_are_refused(bars, split, forecast):
    one = split.copy()
    one.loc[split["subset"] == "val", "label"] = 0.0
    with pytest.raises(
        InputError, match=r"p\.arrow: no threshold can be chosen on validation: 0 of"
    ):
        judged(bars, one, forecast)


def test_test_days_of_one_class_keep_the_scores_that_are_defined(bars, split, forecast):
    one = split.copy()
    one.loc[split["subset"] == "test", "label"] = 0.0
    seeds = forecast.assign(p_seed0=forecast["p"])
    figures, _ = judged(bars, one, seeds)
    assert figures.test.auc is UNDEFINED
    assert figures.test.seeds["seed0"].auc is None
    assert "one class only" in figures.test.undefined["auc"]
    assert figures.test.log_loss.value > 0
    assert figures.val.undefined == {}


def test_a_constant_forecast_has_a_reason_for_its_undefined_auc(bars, split, forecast):
    figures, _ = judged(bars, split, forecast.assign(p=0.4))
    for name in ("val", "test"):
        found = getattr(figures, name)
        assert found.collapsed
        assert found.auc is UNDEFINED
        assert "probabilities are equal" in found.undefined["auc"]


def test_figures_are_restored_from_their_json(bars, split, forecast):
    for p in (forecast["p"], 0.4, 0.0):
        row = flatten(judged(bars, split, forecast.assign(p=p, p_seed0=p))[0])
        assert flatten(restore(Judgement, json.loads(json.dumps(row)))) == row


def test_no_figure_is_ever_nan(bars, split, forecast):
    for p in (forecast["p"], 0.4, forecast["p"].where(forecast["subset"] == "val", 0.0)):
        figures, _ = judged(bars, split, forecast.assign(p=p))
        write = json.dumps(flatten(figures), allow_nan=False)
        assert "undefined" in write


def calls(name: str) -> Iterator[tuple[str, ast.Call, str]]:
    """Yield file, call and the name of the call around it, for each call of `name`."""
    for path in sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/**/*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and f".{ast.unparse(node.func)}".endswith(f".{name}"):
                outer = parents[node]
                while not isinstance(outer, ast.Call | ast.Module):
                    outer = parents[outer]
                around = ast.unparse(outer.func) if isinstance(outer, ast.Call) else ""
                yield path.relative_to(ROOT).as_posix(), node, around


def test_only_baselines_backtest_and_verdict_read_test_labels():
    readers = set()
    for path, call, _ in calls("read_split"):
        (labels_of,) = [word.value for word in call.keywords if word.arg == "labels_of"]
        assert isinstance(labels_of, ast.Set), f"{path}: spell the subsets out, for this scan"
        if "test" in ast.literal_eval(labels_of):
            readers.add(path)
    stages = {f"stages/{name}.py" for name in ("baselines", "backtest", "verdict")}
    # the fixed division's test year is a training year of a later one; `read_walk` hides its own
    assert readers == stages | {"src/patchscale/split/walk.py"}


def test_split_files_are_read_through_read_split_only():
    uses = {(path, around) for path, _, around in calls("paths.split")}
    assert ("src/patchscale/train/inputs.py", "read_split") in uses
    through = ("read_split", "read_walk", "years_searched", "write_arrow")
    others = {use for use in uses if use[1] not in through}
    hashed = {(f"stages/{name}.py", "") for name in ("train", "hpo", "walk")}
    # the last names its file once for all years
    compared = {("src/patchscale/cli/ask.py", "digest")}
    assert others == hashed | compared | {("stages/walk_baselines.py", "")}


def test_threshold_choice_reads_validation_in_judge_alone():
    assert [path for path, _, _ in calls("choose_threshold")] == [
        "src/patchscale/backtest/judge.py"
    ]
