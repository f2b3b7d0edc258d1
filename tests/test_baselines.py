import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from patchscale.baselines import fit_forecasts, volatility_inputs
from patchscale.config import Target
from patchscale.labels import touch_labels


@pytest.fixture(scope="module")
def split(bars: pd.DataFrame) -> pd.DataFrame:
    labels = touch_labels(bars, Target(side="up", reference="extreme", theta=0.01), 1)
    chosen = slice(60, 880)
    subset = np.array(["train"] * 500 + ["purged"] * 20 + ["val"] * 150 + ["test"] * 150)
    return pd.DataFrame(
        {"date": bars["date"][chosen], "label": labels[chosen], "subset": subset}
    ).reset_index(drop=True)


@pytest.fixture(scope="module")
def forecasts(bars: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    return fit_forecasts(volatility_inputs(bars), split)


def regressors(bars: pd.DataFrame) -> np.ndarray:
    """Return log ATR% (Wilder, 14 days, by hand) and log volatility of 20 days."""
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
    return np.column_stack([np.log(100 * atr / bars["close"]), np.log(realised)])


def test_the_regressors_are_wilders_range_and_20_day_volatility(bars):
    table = volatility_inputs(bars)
    assert table.columns.tolist() == ["date", "log_atr", "log_rv"]
    found, expected = table[["log_atr", "log_rv"]].to_numpy(), regressors(bars)
    assert np.allclose(found[20:], expected[20:], rtol=0, atol=1e-9)
    assert np.isnan(found[:14, 0]).all()
    assert np.isnan(found[:20, 1]).all()


def test_the_regressors_of_a_day_do_not_change_with_later_bars(bars):
    pd.testing.assert_frame_equal(
        volatility_inputs(bars)[:400], volatility_inputs(bars[:400]), check_exact=True
    )


def test_the_volatility_logistic_is_a_plain_unpenalised_fit(bars, split, forecasts):
    x = regressors(bars)[60:880]
    is_train = (split["subset"] == "train").to_numpy()
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=np.inf, tol=1e-10))
    plain.fit(x[is_train], split.loc[is_train, "label"])
    judged = split["subset"].isin(["val", "test"]).to_numpy()
    expected = plain.predict_proba(x[judged])[:, 1]
    assert forecasts["vol_logistic"].to_numpy() == pytest.approx(expected, abs=5e-4)
    assert expected.max() - expected.min() > 0.1


def test_the_prior_is_the_share_of_positives_in_training(split, forecasts):
    share = split.loc[split["subset"] == "train", "label"].mean()
    assert 0 < share < 1
    assert forecasts["prior"].to_numpy() == pytest.approx(share)


def test_forecasts_cover_validation_and_test_dates_in_order(split, forecasts):
    judged = split[split["subset"].isin(["val", "test"])]
    assert forecasts["date"].tolist() == judged["date"].tolist()
    assert forecasts["subset"].tolist() == judged["subset"].tolist()
    assert forecasts.index.tolist() == list(range(300))


@pytest.mark.parametrize("change", [lambda label: 1 - label, lambda label: np.nan])
def test_only_training_labels_matter(bars, split, forecasts, change):
    changed = split.copy()
    judged = split["subset"] != "train"
    changed.loc[judged, "label"] = change(split.loc[judged, "label"])
    assert not changed["label"].equals(split["label"])
    again = fit_forecasts(volatility_inputs(bars), changed)
    pd.testing.assert_frame_equal(forecasts, again, check_exact=True)


def test_training_labels_do_matter(bars, split, forecasts):
    changed = split.copy()
    train = split["subset"] == "train"
    changed.loc[train, "label"] = 1 - split.loc[train, "label"]
    again = fit_forecasts(volatility_inputs(bars), changed)
    assert not np.allclose(forecasts["vol_logistic"], again["vol_logistic"], atol=0.01)
