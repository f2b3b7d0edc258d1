import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from reference import random_vix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from patchscale.baselines import (
    BOOSTING,
    boosting_inputs,
    forecasts,
    har_inputs,
    persistence_inputs,
    volatility_inputs,
)
from patchscale.split.labels import touch_labels
from patchscale.study.params import Target

TARGET = Target(side="up", reference="extreme", theta=0.01)
HORIZON = 1
KINDS = {"noise": "stationary", "close": "level", "range": "stationary"}
INPUTS = ("persistence", "vol_logistic", "har_logistic", "boosting")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Fit with one thread: on busy cores several OpenMP threads take up to 40 times as long."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def split(bars: pd.DataFrame) -> pd.DataFrame:
    labels = touch_labels(bars, TARGET, HORIZON)
    chosen = slice(60, 880)
    subset = np.array(["train"] * 500 + ["purged"] * 20 + ["val"] * 150 + ["test"] * 150)
    return pd.DataFrame(
        {"date": bars["date"][chosen], "label": labels[chosen], "subset": subset}
    ).reset_index(drop=True)


@pytest.fixture(scope="module")
def inputs(bars: pd.DataFrame) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(0)
    tier = pd.DataFrame({"date": bars["date"], "noise": random.standard_normal(len(bars))})
    tier["close"], tier["range"] = bars["close"], (bars["high"] / bars["low"]).rolling(5).mean()
    return {
        "persistence": persistence_inputs(bars, TARGET, HORIZON),
        "vol_logistic": volatility_inputs(bars, random_vix(bars)),
        "har_logistic": har_inputs(bars),
        "boosting": boosting_inputs(tier, KINDS, 20),
    }


@pytest.fixture(scope="module")
def table(split: pd.DataFrame, inputs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return forecasts(split, inputs)


def regressors(bars: pd.DataFrame) -> np.ndarray:
    """Return log ATR (Wilder, 14 days, by hand) and log volatility of 20 days."""
    before = bars["close"].shift()
    true_range = np.maximum.reduce(
        [bars["high"] - bars["low"], abs(bars["high"] - before), abs(bars["low"] - before)]
    )
    atr = np.full(len(bars), np.nan)
    atr[14] = true_range[1:15].mean()
    for day in range(15, len(bars)):
        atr[day] = (13 * atr[day - 1] + true_range[day]) / 14
    returns = np.diff(np.log(bars["close"]), prepend=np.nan)
    realised = [
        returns[day - 19 : day + 1].std(ddof=1) if day >= 20 else np.nan for day in range(len(bars))
    ]
    return np.column_stack([np.log(atr / bars["close"]), np.log(realised)])


def test_the_regressors_are_wilders_range_and_20_day_volatility(bars):
    table = volatility_inputs(bars, None)
    assert table.columns.tolist() == ["date", "log_atr", "log_rv"]
    found, expected = table[["log_atr", "log_rv"]].to_numpy(), regressors(bars)
    assert np.allclose(found[20:], expected[20:], rtol=0, atol=1e-9)
    assert np.isnan(found[:14, 0]).all()
    assert np.isnan(found[:20, 1]).all()


def test_a_volatility_index_joins_on_its_dates(bars):
    vix = random_vix(bars)
    table = volatility_inputs(bars, vix.iloc[::-1])
    assert table["log_vix"].to_numpy() == pytest.approx(np.log(vix["close"]))
    assert table["date"].equals(bars["date"])


def test_the_har_regressors_are_range_volatility_of_a_day_a_week_and_a_month(bars):
    table = har_inputs(bars)
    variance = []
    for day in range(1, len(bars)):
        top = max(bars["high"][day], bars["close"][day - 1])
        bottom = min(bars["low"][day], bars["close"][day - 1])
        variance.append(math.log(top / bottom) ** 2 / (4 * math.log(2)))
    for name, window in (("log_rv_1", 1), ("log_rv_5", 5), ("log_rv_22", 22)):
        means = [np.mean(variance[day - window : day]) for day in range(30, len(bars))]
        assert table[name][30:].to_numpy() == pytest.approx(np.log(np.sqrt(means)), abs=1e-9)


def test_days_that_do_not_move_have_a_logarithm(bars):
    still = bars.copy()
    still.loc[100:160, ["open", "high", "low", "close"]] = 50.0
    for table in (volatility_inputs(still, None), har_inputs(still)):
        assert np.isfinite(table.drop(columns="date")[60:].to_numpy()).all()


@pytest.mark.parametrize("horizon", [1, 3])
def test_persistence_is_the_label_whose_last_day_is_today(bars, horizon):
    table = persistence_inputs(bars, TARGET, horizon)
    for day in (50, 51, 400, 899):
        goal = bars["close"][day - horizon] * 1.01
        assert table["touched"][day] == (bars["high"][day - horizon + 1 : day + 1].max() >= goal)


def test_levels_are_standardised_within_the_context_and_other_features_unchanged(bars):
    tier = pd.DataFrame({"date": bars["date"], "close": bars["close"], "range": bars["high"]})
    table = boosting_inputs(tier, {"close": "level", "range": "stationary"}, 60)
    recent = bars["close"][341:401]
    expected = (recent.iloc[-1] - recent.mean()) / recent.std()
    assert table["close"][400] == pytest.approx(expected)
    assert table["range"].equals(bars["high"].rename("range"))


def test_no_input_of_a_day_changes_with_later_bars(bars):
    short = bars[:400]
    for cut, whole in (
        (persistence_inputs(short, TARGET, 3), persistence_inputs(bars, TARGET, 3)),
        (volatility_inputs(short, random_vix(bars)), volatility_inputs(bars, random_vix(bars))),
        (har_inputs(short), har_inputs(bars)),
        (
            boosting_inputs(short, {"close": "level", "high": "stationary"}, 20),
            boosting_inputs(bars, {"close": "level", "high": "stationary"}, 20),
        ),
    ):
        pd.testing.assert_frame_equal(whole[:400], cut, check_exact=True)


def test_the_volatility_logistic_is_a_plain_unpenalised_fit(bars, split, table):
    x = np.column_stack([regressors(bars), np.log(random_vix(bars)["close"])])[60:880]
    is_train = (split["subset"] == "train").to_numpy()
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=np.inf, tol=1e-10))
    plain.fit(x[is_train], split.loc[is_train, "label"])
    judged = split["subset"].isin(["val", "test"]).to_numpy()
    expected = plain.predict_proba(x[judged])[:, 1]
    assert table["vol_logistic"].to_numpy() == pytest.approx(expected, abs=5e-4)
    assert expected.max() - expected.min() > 0.1


def test_the_prior_is_the_share_of_positives_in_training(split, table):
    share = split.loc[split["subset"] == "train", "label"].mean()
    assert 0 < share < 1
    assert table["prior"].to_numpy() == pytest.approx(share)


def test_persistence_is_how_often_training_labels_followed_such_a_label(split, inputs, table):
    known = split.merge(inputs["persistence"], on="date")
    train = known[known["subset"] == "train"]
    shares = train.groupby("touched")["label"].mean()
    judged = known[known["subset"].isin(["val", "test"])]
    expected = judged["touched"].map(shares).to_numpy()
    assert table["persistence"].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert table["persistence"].nunique() == 2


def test_boosting_keeps_the_trees_that_are_best_on_validation(split, inputs, table):
    x = split[["date"]].merge(inputs["boosting"], on="date").drop(columns="date").to_numpy()
    train, val = ((split["subset"] == name).to_numpy() for name in ("train", "val"))
    labels = split["label"].to_numpy()
    losses = {}
    for trees in (1, 5, 20, 60, 200):
        model = HistGradientBoostingClassifier(**(BOOSTING | {"max_iter": trees}))
        model.fit(x[train], labels[train])
        losses[trees] = log_loss(labels[val], model.predict_proba(x[val]))
    p = table.loc[table["subset"] == "val", "boosting"]
    assert log_loss(labels[val], p) <= min(losses.values())
    assert log_loss(labels[val], p) < losses[200] - 0.01


def test_forecasts_cover_validation_and_test_dates_in_order(split, table):
    judged = split[split["subset"].isin(["val", "test"])]
    assert table.columns.tolist() == ["date", "subset", "prior", *INPUTS]
    assert table["date"].tolist() == judged["date"].tolist()
    assert table["subset"].tolist() == judged["subset"].tolist()
    assert table.index.tolist() == list(range(300))
    assert table[["prior", *INPUTS]].stack().between(0, 1).all()


@pytest.mark.parametrize("change", [lambda label: 1 - label, lambda label: np.nan])
def test_test_labels_do_not_matter_and_validation_labels_to_boosting_alone(
    split, inputs, table, change
):
    changed = split.copy()
    test = split["subset"] == "test"
    changed.loc[test, "label"] = change(split.loc[test, "label"])
    assert not changed["label"].equals(split["label"])
    pd.testing.assert_frame_equal(table, forecasts(changed, inputs), check_exact=True)

    val = split["subset"] == "val"
    changed.loc[val, "label"] = 1 - split.loc[val, "label"]
    again = forecasts(changed, inputs)
    same = [name for name in table if table[name].equals(again[name])]
    assert same == [name for name in table if name != "boosting"]


def test_training_labels_do_matter(split, inputs, table):
    changed = split.copy()
    train = split["subset"] == "train"
    changed.loc[train, "label"] = 1 - split.loc[train, "label"]
    again = forecasts(changed, inputs)
    for name in ("prior", *INPUTS):
        assert not np.allclose(table[name], again[name], atol=0.01)
