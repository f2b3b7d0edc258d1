import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from verdict_study import RIVALS, forecasts_of, labels_of

from patchscale.verdict.bar import choose_bar

YEARS = (2007, 2008)
NOISE = {name: 1.5 - 0.3 * place for place, name in enumerate(RIVALS)}


@pytest.fixture
def baselines() -> pd.DataFrame:
    labels = labels_of(["h1", "h3"], YEARS)
    return forecasts_of(labels, YEARS, NOISE).merge(labels, on=["horizon", "date"])


def test_the_bar_has_the_lowest_loss_before_the_first_test_year(baselines):
    bar = choose_bar(baselines)
    days = baselines[(baselines["year"] == 2007) & (baselines["subset"] == "val")]
    assert (days["date"].dt.year == 2006).all()
    expected = {
        name: np.mean([log_loss(rows["label"], rows[name]) for _, rows in days.groupby("horizon")])
        for name in RIVALS[:-1]
    }
    assert bar.log_losses == pytest.approx(expected)
    assert bar.name == min(expected, key=lambda name: expected[name]) == "har_logistic"
    assert bar.first_test_year == 2007


def test_boosting_is_never_the_bar(baselines):
    bar = choose_bar(baselines.assign(boosting=baselines["label"]))
    assert bar.name == "har_logistic"


def test_no_label_or_forecast_of_a_test_year_changes_the_bar(baselines):
    future = baselines["date"].dt.year >= 2007
    changed = baselines.copy()
    changed.loc[future, "label"] = 1 - changed.loc[future, "label"]
    changed.loc[future, "prior"] = changed.loc[future, "label"].clip(0.01, 0.99)
    assert choose_bar(changed) == choose_bar(baselines)


def test_a_label_of_the_days_before_does_change_what_is_compared(baselines):
    before = baselines["date"].dt.year < 2007
    changed = baselines.assign(label=np.where(before, 1 - baselines["label"], baselines["label"]))
    assert choose_bar(changed).log_losses != choose_bar(baselines).log_losses
