"""Judge a forecast: freeze a threshold on validation, then score and trade the test year."""

from typing import Any

import numpy as np
import pandas as pd

from patchscale.backtest import run_strategy
from patchscale.config import Backtest, Target
from patchscale.metrics import at_threshold, auc, calibration, choose_threshold, log_losses, scores


def judge(
    forecast: pd.DataFrame,
    split: pd.DataFrame,
    bars: pd.DataFrame,
    rules: Backtest,
    target: Target,
    horizon: int,
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

    Returns
    -------
    Figures `threshold, val, test, strategy`, and tables `equity`, `calibration` (of the test
    year) and `losses` (`date, subset, log_loss`).
    """
    joined = forecast.merge(split[["date", "label"]], on="date", validate="one_to_one")
    prior = float(split.loc[split["subset"] == "train", "label"].mean())
    parts = {
        name: (part["label"].to_numpy(), part["p"].to_numpy())
        for name, part in joined.groupby("subset")
    }
    threshold = choose_threshold(*parts["val"], rules.min_recall)
    figures: dict[str, Any] = {"threshold": threshold, "prior": prior}
    for name, (labels, p) in parts.items():
        at = at_threshold(labels, p, threshold)
        figures[str(name)] = scores(labels, p, prior, horizon) | at
    for name, part in joined.groupby("subset"):
        labels = part["label"].to_numpy()
        figures[str(name)]["seeds"] = {
            column.removeprefix("p_"): {
                "log_loss": float(log_losses(labels, part[column].to_numpy()).mean()),
                "auc": auc(labels, part[column].to_numpy()),
            }
            for column in map(str, joined)
            if column.startswith("p_seed")
        }
    test = joined[joined["subset"] == "test"]
    figures["strategy"], equity = run_strategy(
        bars, test, threshold, target, horizon, rules.cost_bps, rules.sensitivity_bps
    )
    daily = log_losses(joined["label"].to_numpy(), joined["p"].to_numpy())
    tables = {
        "equity": equity,
        "calibration": calibration(*parts["test"]),
        "losses": pd.DataFrame(
            {"date": joined["date"], "subset": joined["subset"], "log_loss": np.asarray(daily)}
        ),
    }
    return figures, tables
