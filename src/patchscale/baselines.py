"""Baseline forecasts on the dates of the transformers.

All regressors of a day are functions of bars up to that day. All models are fitted on training
labels; boosting also uses validation labels to choose its number of trees.
"""

from typing import Any

import numpy as np
import pandas as pd

from patchscale.backtest.scores import log_losses
from patchscale.features.indicators import atr
from patchscale.features.rolling import sma, std, zscore
from patchscale.split.labels import touch_labels
from patchscale.study.params import Target

VOLATILITY_WINDOW = 20
ATR_WINDOW = 14
HAR_WINDOWS = (1, 5, 22)
LEAST = 1e-4
"""Lower bound of a range or volatility, one basis point, so that its logarithm is finite."""
BOOSTING: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_iter": 200,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 50,
    "early_stopping": False,  # scikit-learn's early stopping would draw its days at random
    "random_state": 0,
}


def persistence_inputs(bars: pd.DataFrame, target: Target, horizon: int) -> pd.DataFrame:
    """Return `date, touched`: the label of `horizon` sessions ago, the latest known label."""
    return pd.DataFrame(
        {"date": bars["date"], "touched": touch_labels(bars, target, horizon).shift(horizon)}
    )


def volatility_inputs(bars: pd.DataFrame, vix: pd.DataFrame | None) -> pd.DataFrame:
    """Return `date`, log ATR(14) as a share of the close, log volatility of 20 days, log VIX.

    The last column is left out if there is no volatility index.
    """
    high, low, close = (bars[name].to_numpy(dtype=float) for name in ("high", "low", "close"))
    spread = atr(high, low, close, ATR_WINDOW) / close
    realised = std(np.diff(np.log(close), prepend=np.nan), VOLATILITY_WINDOW)
    inputs = pd.DataFrame(
        {
            "date": bars["date"],
            "log_atr": np.log(np.maximum(spread, LEAST)),
            "log_rv": np.log(np.maximum(realised, LEAST)),
        }
    )
    if vix is None:
        return inputs
    implied = pd.DataFrame({"date": vix["date"], "log_vix": np.log(vix["close"])})
    return inputs.merge(implied, on="date", how="left", validate="one_to_one")


def har_inputs(bars: pd.DataFrame) -> pd.DataFrame:
    """Return `date` and log volatility of 1, 5 and 22 days from daily ranges.

    The variance of a day is Parkinson's estimate, with a range that includes the previous close.

    References
    ----------
    Parkinson (1980), "The Extreme Value Method for Estimating the Variance of the Rate of Return",
    J. Business 53. Corsi (2009), "A Simple Approximate Long-Memory Model of Realized Volatility",
    J. Financial Econometrics 7.
    """
    opens, high, low, close = (
        bars[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close")
    )
    before = np.append(opens[:1], close[:-1])
    widest = np.log(np.maximum(high, before) / np.minimum(low, before))
    variance = np.maximum(widest, LEAST) ** 2 / (4 * np.log(2))
    inputs = {f"log_rv_{window}": np.log(sma(variance, window)) / 2 for window in HAR_WINDOWS}
    return pd.DataFrame({"date": bars["date"], **inputs})


def boosting_inputs(
    features: pd.DataFrame, kinds: dict[str, str], context_length: int
) -> pd.DataFrame:
    """Return a tier's features as a transformer gets them for the newest day.

    Levels are standardised within the context: a tree would otherwise split by year.
    """
    inputs = {
        name: zscore(features[name].to_numpy(), context_length)
        if kind == "level"
        else features[name]
        for name, kind in kinds.items()
    }
    return pd.DataFrame({"date": features["date"], **inputs})


def regressors(
    bars: pd.DataFrame,
    vix: pd.DataFrame | None,
    features: pd.DataFrame,
    kinds: dict[str, str],
    context_length: int,
    target: Target,
    horizon: int,
) -> dict[str, pd.DataFrame]:
    """Return `date` and the regressors of every baseline that has some, by its name.

    Parameters
    ----------
    bars, vix
        Adjusted bars; bars of the volatility index, if there is one.
    features, kinds, context_length
        As `boosting_inputs` takes them.
    target, horizon
        Definition of the label, and sessions until its end.
    """
    return {
        "persistence": persistence_inputs(bars, target, horizon),
        "vol_logistic": volatility_inputs(bars, vix),
        "har_logistic": har_inputs(bars),
        "boosting": boosting_inputs(features, kinds, context_length),
    }


def logistic(inputs: pd.DataFrame, split: pd.DataFrame) -> np.ndarray:
    """Return the probabilities of an unpenalised logistic regression, one for each row of `split`.

    Parameters
    ----------
    inputs
        `date` and regressors.
    split
        Split table as `read_split` returns it; only training labels are used.
    """
    from sklearn.linear_model import LogisticRegression  # the import takes seconds

    x, labels, train = _design(inputs, split)
    scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(scaled[train], labels[train])
    p: np.ndarray = model.predict_proba(scaled)[:, 1]
    return p


def boosting(inputs: pd.DataFrame, split: pd.DataFrame) -> np.ndarray:
    """Return the probabilities of gradient-boosted trees, one for each row of `split`.

    The number of trees is that of the lowest validation log-loss, as a transformer's number of
    epochs is. Parameters are those of `logistic`; labels of training and validation are used.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, labels, train = _design(inputs, split)
    val = (split["subset"] == "val").to_numpy()
    model = HistGradientBoostingClassifier(**BOOSTING).fit(x[train], labels[train])
    staged = np.array([p[:, 1] for p in model.staged_predict_proba(x)])  # (trees, n)
    losses = [log_losses(labels[val], p[val]).mean() for p in staged]
    best: np.ndarray = staged[int(np.argmin(losses))]
    return best


def _design(inputs: pd.DataFrame, split: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return regressors, labels and a mask of the training rows, in the order of `split`."""
    x = split[["date"]].merge(inputs, on="date", how="left", validate="one_to_one")
    train = (split["subset"] == "train").to_numpy()
    return x.drop(columns="date").to_numpy(dtype=float), split["label"].to_numpy(), train


def forecasts(split: pd.DataFrame, inputs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Fit all baselines; return `date, subset` and a column of probabilities for each.

    Parameters
    ----------
    split
        Split table with the labels of training and validation.
    inputs
        Regressors of `persistence`, `vol_logistic`, `har_logistic` and `boosting`.

    Returns
    -------
    Table of the validation and test dates.
    """
    from threadpoolctl import threadpool_limits

    train = split["subset"] == "train"
    table = split[["date", "subset"]].assign(prior=split.loc[train, "label"].mean())
    with threadpool_limits(1):  # on busy cores several threads take up to 40 times as long
        for name, columns in inputs.items():
            fit = boosting if name == "boosting" else logistic
            table[name] = fit(columns, split)
    return table[split["subset"].isin(["val", "test"])].reset_index(drop=True)
