"""Judge a forecast: choose a threshold on validation, then score and trade the test year."""

from dataclasses import dataclass

import pandas as pd

from patchscale.backtest.scores import (
    Scores,
    calibration,
    choose_threshold,
    log_losses,
    precision_recall,
    scores,
)
from patchscale.backtest.trading import Question, Strategy, run_strategy
from patchscale.study.errors import InputError

JUDGED = ("val", "test")
BENCHMARK = "har_logistic"
"""The bar: the baseline against which every cell is compared, in figures and plots."""


@dataclass(frozen=True)
class Judgement:
    """Figures of a forecast."""

    data_as_of: str
    threshold: float
    prior: float
    """Share of positives in training."""
    val: Scores
    test: Scores
    strategy: Strategy


def judge(
    forecast: pd.DataFrame,
    split: pd.DataFrame,
    bars: pd.DataFrame,
    question: Question,
    *,
    source: str,
) -> tuple[Judgement, dict[str, pd.DataFrame]]:
    """Return the figures of a forecast and the tables behind its plots.

    Parameters
    ----------
    forecast
        `date, subset, p` of validation and test dates; `p_seed<k>` if p is a mean of seeds.
    split
        Split table with the labels of train, validation and test.
    bars
        Adjusted bars.
    question
        Meaning of the label, threshold rule and costs.
    source
        Name of the forecast in error messages.

    Returns
    -------
    Figures, and tables: `calibration`, `precision_recall`, `equity` and `trades` of the test year;
    `losses` of validation and test (`date, subset, log_loss` and `log_loss_seed<k>`).

    Raises
    ------
    InputError
        Dates differ from the split's, a value is not a probability, or all labels of validation
        are equal.
    """
    joined = check_forecast(forecast, split, source)
    prior = float(split.loc[split["subset"] == "train", "label"].mean())
    parts = {name: joined[joined["subset"] == name] for name in JUDGED}
    labels = {name: part["label"].to_numpy() for name, part in parts.items()}
    p = {name: part["p"].to_numpy() for name, part in parts.items()}
    try:
        threshold = choose_threshold(labels["val"], p["val"], question.rules.threshold)
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
    seeds = {
        name: {column.removeprefix("p_"): part[column].to_numpy() for column in part.columns[4:]}
        for name, part in parts.items()
    }
    val, test = (
        scores(labels[name], p[name], prior, threshold, question.horizon, seeds[name])
        for name in JUDGED
    )
    strategy, tables = run_strategy(bars, parts["test"], question, threshold)
    data_as_of = f"{bars['date'].iloc[-1]:%Y-%m-%d}"
    return Judgement(data_as_of, threshold, prior, val, test, strategy), tables | {
        "calibration": calibration(labels["test"], p["test"], question.horizon),
        "precision_recall": precision_recall(labels["test"], p["test"]),
        "losses": losses,
    }


def check_forecast(forecast: pd.DataFrame, split: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the forecast with its labels.

    Raises
    ------
    InputError
        As `judge` does, for dates and probabilities.
    """
    expected = split.loc[split["subset"].isin(JUDGED), ["date", "label", "subset"]]
    wanted, found = expected["date"], forecast["date"]
    for days, what in (
        (wanted[~wanted.isin(found)], "missing"),
        (found[~found.isin(wanted)], "not validation or test dates of the split"),
        (found[found.duplicated()], "duplicated"),
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
        raise InputError(f"{source}: its subsets differ from those of the split")
    return joined[["date", "subset", "label", *forecast.columns[2:]]]
