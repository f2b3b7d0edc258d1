"""Losses of the forecasts in each test year."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from patchscale.backtest.scores import log_losses
from patchscale.verdict.forecasts import ENSEMBLE, GROUP, KEYS

SINGLE = "single_seeds"
"""Mean of the losses of single seeds, as opposed to the loss of the ensemble."""


@dataclass(frozen=True)
class Yearly:
    """Means over the days of each test year; tables with an index of horizon and year."""

    losses: pd.DataFrame
    """Mean log-loss in nats, a column per forecast."""
    chances: pd.DataFrame
    """Mean probability, a column per forecast."""
    days: pd.DataFrame
    """`n` days, of which `positives` have label 1."""


@dataclass(frozen=True)
class Size:
    """A budget that is walked."""

    n_params: float
    """Counted parameters."""
    yearly: Yearly
    """With a column per seed and one for the ensemble."""

    @property
    def seeds(self) -> pd.DataFrame:
        """Mean log-loss of each single seed; index of horizon and year."""
        return self.yearly.losses.drop(columns=ENSEMBLE)

    def loss(self, kind: str) -> pd.Series:
        """Return the mean of the losses of single seeds, or the loss of the ensemble."""
        return self.seeds.mean(axis=1) if kind == SINGLE else self.yearly.losses[ENSEMBLE]


Losses = TypeVar("Losses", pd.DataFrame, "pd.Series[float]")
Sizes = Mapping[str, Size]
"""The walked budgets, by name."""


def yearly(table: pd.DataFrame) -> Yearly:
    """Return the means over the test days of each horizon and year.

    Parameters
    ----------
    table
        Forecasts with labels.
    """
    test = table[table["subset"] == "test"]
    index = [test[name] for name in GROUP]
    labels = test["label"].astype(int).groupby(index)
    return Yearly(
        losses=daily_losses(test).groupby(index).mean(),
        chances=test.drop(columns=[*KEYS, "label"]).groupby(index).mean(),
        days=pd.DataFrame({"n": labels.size(), "positives": labels.sum()}),
    )


def daily_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Return the log-loss of each forecast on each day, nats; `table` as in `yearly`."""
    labels = table["label"].to_numpy()
    forecasts = table.drop(columns=[*KEYS, "label"])
    return pd.DataFrame(
        {name: log_losses(labels, p.to_numpy()) for name, p in forecasts.items()},
        index=table.index,
    )


def over_horizons(table: Losses, horizons: int) -> Losses:
    """Return the mean over horizons of each year that has all of them.

    Parameters
    ----------
    table
        Index of horizon and year.
    horizons
        Number of horizons.

    Returns
    -------
    Means with an index of years.
    """
    groups = table.groupby("year")
    means: Losses = groups.mean()[groups.size() == horizons]
    return means
