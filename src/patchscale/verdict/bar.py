"""The bar: the simple rival with which every network is compared."""

from dataclasses import dataclass

import pandas as pd

from patchscale.verdict.losses import daily_losses

RIVALS = ("prior", "persistence", "vol_logistic", "har_logistic")
"""Gradient boosting is no candidate: it chooses its number of trees on the validation days."""


@dataclass(frozen=True)
class Bar:
    """The best simple rival, chosen before the first test year."""

    name: str
    first_test_year: int
    """The rivals were compared on the validation days of this year, which precede it."""
    log_losses: dict[str, float]
    """Mean over horizons of the validation log-loss of each rival, nats."""


def choose_bar(baselines: pd.DataFrame) -> Bar:
    """Return the rival with the lowest log-loss on the validation days of the first test year.

    Labels and forecasts of the test years are not used. The loss is the mean over horizons of the
    mean over days; of equal rivals the simplest is taken.

    Parameters
    ----------
    baselines
        Forecasts of the baselines, with labels.
    """
    first = int(baselines["year"].min())
    days = baselines[(baselines["year"] == first) & (baselines["subset"] == "val")]
    by_horizon = daily_losses(days)[list(RIVALS)].groupby(days["horizon"]).mean()
    found = by_horizon.mean()
    return Bar(str(found.idxmin()), first, {name: float(found[name]) for name in RIVALS})
