"""Forecasts that a transformer has to beat, on the same dates."""

import numpy as np
import pandas as pd

from patchscale.indicators import atr
from patchscale.rolling import std

VOLATILITY_WINDOW = 20
ATR_WINDOW = 14


def volatility_inputs(bars: pd.DataFrame) -> pd.DataFrame:
    """Return `date`, log ATR(14) in percent of the close and log volatility of 20 days.

    Both are functions of bars up to their date.
    """
    high, low, close = (bars[name].to_numpy(dtype=float) for name in ("high", "low", "close"))
    spread = 100 * atr(high, low, close, ATR_WINDOW) / close
    realised = std(np.diff(np.log(close), prepend=np.nan), VOLATILITY_WINDOW)
    inputs = {"log_atr": np.log(spread), "log_rv": np.log(realised)}
    return pd.DataFrame({"date": bars["date"], **inputs})


def fit_forecasts(inputs: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Fit the baselines on training dates; return `date, subset, prior, vol_logistic`.

    Parameters
    ----------
    inputs
        `date` and the regressors of the volatility logistic.
    split
        Split table as `read_split` returns it; only labels of train are used.

    Returns
    -------
    Probabilities for validation and test dates.
    """
    from sklearn.linear_model import LogisticRegression  # seconds to import

    table = split.merge(inputs, on="date", validate="one_to_one")
    subset = table["subset"]
    regressors = table.drop(columns=split.columns).to_numpy()
    train = (subset == "train").to_numpy()
    labels = table.loc[train, "label"].to_numpy()
    scaled = (regressors - regressors[train].mean(axis=0)) / regressors[train].std(axis=0)
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(scaled[train], labels)
    judged = subset.isin(["val", "test"]).to_numpy()
    return pd.DataFrame(
        {
            "date": table.loc[judged, "date"],
            "subset": subset[judged],
            "prior": np.full(judged.sum(), labels.mean()),
            "vol_logistic": model.predict_proba(scaled[judged])[:, 1],
        }
    ).reset_index(drop=True)
