"""The newest window of other bars, with the statistics of training, and the bar's forecast."""

import numpy as np
import pandas as pd

from patchscale.bars import forward_adjust
from patchscale.baselines import har_inputs, logistic
from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import WARM_UP
from patchscale.forecast.market import Market
from patchscale.model.windows import Windows
from patchscale.study.errors import InputError
from patchscale.study.params import Window


def newest_rows(market: Market, tier: str, context_length: int) -> pd.DataFrame:
    """Return `date` and the features of the last `context_length` sessions.

    Raises
    ------
    InputError
        There are too few bars, a feature has no value, or a volatility index is missing.
    """
    needed = WARM_UP + context_length
    if len(market.bars) < needed:
        raise InputError(
            f"{market.name}: {len(market.bars)} bars up to {market.as_of:%Y-%m-%d}; {needed} are "
            f"needed, {WARM_UP} for the features and {context_length} for the window"
        )
    table = compute_tier(forward_adjust(market.bars), tier, market.calendar, market.vix)
    return drop_warm_up(table).tail(context_length)


def newest_window(
    table: pd.DataFrame,
    train_dates: pd.Series,
    rows: pd.DataFrame,
    kinds: dict[str, str],
    window: Window,
) -> tuple[Windows, int]:
    """Return windows that hold the newest one, and its row.

    Stationary features are z-scored with the study's training rows, never with the new ones.

    Parameters
    ----------
    table
        Feature table of the study: `date` and the columns of `kinds`.
    train_dates
        Training dates of the study.
    rows
        New rows, as `newest_rows` returns them.
    kinds, window
        Kind of each feature; context and normalisation.
    """
    columns = list(kinds)
    train = table.loc[table["date"].isin(train_dates), columns].to_numpy(dtype=float)
    values = np.vstack([train, rows[columns].to_numpy(dtype=float)])
    windows = Windows(
        values,
        list(kinds.values()),
        np.arange(len(train)),
        window.context_length,
        window.normalisation,
    )
    return windows, len(values) - 1


def har_forecast(study: pd.DataFrame, split: pd.DataFrame, market: Market) -> float:
    """Return the probability of the HAR logistic, fitted on the study's training days.

    Parameters
    ----------
    study
        Canonical bars of the study.
    split
        `date, label, subset` as `read_split` returns it; only training labels are used.
    market
        Bars that end after the last training day.
    """
    from threadpoolctl import threadpool_limits

    train = split[split["subset"] == "train"]
    inputs = har_inputs(forward_adjust(study))
    inputs = inputs[inputs["date"].isin(train["date"])]
    newest = har_inputs(forward_adjust(market.bars)).tail(1)
    day = pd.DataFrame({"date": newest["date"], "label": np.nan, "subset": "new"})
    with threadpool_limits(1):
        p = logistic(pd.concat([inputs, newest]), pd.concat([train, day]))
    return float(p[-1])
