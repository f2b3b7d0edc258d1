"""Judge a forecast: freeze a threshold on validation, then score and trade the test year."""

from typing import Any

import numpy as np
import pandas as pd

from patchscale.backtest.scores import (
    Ranked,
    calibration,
    choose_threshold,
    log_losses,
    precision_recall,
    ranking,
    scores,
)
from patchscale.backtest.trading import run_strategy
from patchscale.study.errors import InputError
from patchscale.study.params import Backtest, Target

JUDGED = ("val", "test")


def judge(
    forecast: pd.DataFrame,
    split: pd.DataFrame,
    bars: pd.DataFrame,
    rules: Backtest,
    target: Target,
    horizon: int,
    *,
    search_trials: int,
    source: str,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return the figures of a forecast and the tables behind its plots.

    Parameters
    ----------
    forecast
        `date, subset, p` of validation and test dates; of replicates also `p_seed<k>`.
    split
        Split table with the labels of train, validation and test.
    bars
        Adjusted bars.
    rules, target, horizon
        Threshold rule and costs; what the label means.
    search_trials
        Trials among which a search chose the forecast's settings.
    source
        Where the forecast comes from, for errors.

    Returns
    -------
    Figures `threshold, prior, data_as_of, val, test, strategy`, and tables: of the test year
    `calibration, precision_recall, equity, trades`, of both `losses` (`date, subset, log_loss` and
    `log_loss_seed<k>`).

    Raises
    ------
    InputError
        A judged date is missing or foreign, a probability is none, or validation has one class.
    """
    joined = check_forecast(forecast, split, source)
    prior = float(split.loc[split["subset"] == "train", "label"].mean())
    parts = {name: joined[joined["subset"] == name] for name in JUDGED}
    labels = {name: part["label"].to_numpy() for name, part in parts.items()}
    p = {name: part["p"].to_numpy() for name, part in parts.items()}
    try:
        threshold, thresholds = choose_threshold(labels["val"], p["val"], rules.threshold)
    except ValueError as error:
        raise InputError(f"{source}: no threshold can be chosen on validation: {error}") from None
    losses = joined[["date", "subset"]].assign(
        **{
            column.replace("p", "log_loss", 1): log_losses(
                joined["label"].to_numpy(), joined[column].to_numpy()
            )
            for column in joined.columns[3:]
        }
    )
    figures: dict[str, Any] = {
        "data_as_of": f"{bars['date'].iloc[-1]:%Y-%m-%d}",
        "threshold": threshold,
        "prior": prior,
    }
    for name, part in parts.items():
        figures[name] = scores(labels[name], p[name], prior, threshold, horizon) | {
            "seeds": {
                column.removeprefix("p_"): score_alone(labels[name], part[column].to_numpy())
                for column in part.columns[4:]
            }
        }
    figures["strategy"], tables = run_strategy(
        bars, parts["test"], threshold, target, horizon, rules, search_trials, thresholds
    )
    return figures, tables | {
        "calibration": calibration(labels["test"], p["test"], horizon),
        "precision_recall": precision_recall(labels["test"], p["test"]),
        "losses": losses,
    }


def check_forecast(forecast: pd.DataFrame, split: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the forecast with its labels; raise InputError where it does not fit the split."""
    expected = split.loc[split["subset"].isin(JUDGED), ["date", "label", "subset"]]
    wanted, found = expected["date"], forecast["date"]
    for days, what in (
        (wanted[~wanted.isin(found)], "missing"),
        (found[~found.isin(wanted)], "not validation or test dates of the split"),
        (found[found.duplicated()], "there twice"),
    ):
        if len(days):
            raise InputError(
                f"{source}: {len(days)} of {len(wanted)} dates are {what}, the first "
                f"{days.iloc[0]:%Y-%m-%d}"
            )
    for column in forecast.columns[2:]:
        wrong = ~forecast[column].between(0, 1)  # also NaN
        if wrong.any():
            first = forecast[wrong].iloc[0]
            raise InputError(
                f"{source}: {column} of {first['date']:%Y-%m-%d} is {first[column]}; "
                f"a probability from 0 to 1 is needed (wrong: {wrong.sum()} of {len(wrong)})"
            )
    joined = expected.merge(forecast, on=["date", "subset"], validate="one_to_one")
    if len(joined) < len(expected):
        raise InputError(f"{source}: its subsets are not those of the split")
    return joined[["date", "subset", "label", *forecast.columns[2:]]]


def score_alone(labels: np.ndarray, p: np.ndarray) -> dict[str, float | None]:
    """Return log-loss and AUC of one seed; an AUC that is undefined is None."""
    (auc,) = ranking(Ranked.of(labels, p), np.ones((1, len(p))))["auc"]
    return {
        "log_loss": float(log_losses(labels, p).mean()),
        "auc": float(auc) if np.isfinite(auc) else None,
    }
