"""The label: whether the market touches a target within the horizon."""

import numpy as np
import pandas as pd

from patchscale.study.params import Target


def touch_labels(bars: pd.DataFrame, target: Target, horizon: int) -> pd.Series:
    """Return y(t) = 1 where an adjusted price of sessions t+1 .. t+horizon touches the target.

    Parameters
    ----------
    bars
        Adjusted bars, ascending.
    target
        `side` up: highest reference price >= close[t] * (1 + theta); down: lowest <=
        close[t] * (1 - theta). `reference` extreme: high (up) or low (down); close: the close.
    horizon
        Number of sessions H looked ahead, >= 1.

    Returns
    -------
    Series of float, one per bar: 0, 1, or NaN for the last `horizon` rows.
    """
    up = target.side == "up"
    column = "close" if target.reference == "close" else ("high" if up else "low")
    ahead = np.full((horizon, len(bars)), np.nan)
    reference = bars[column].to_numpy()
    for step in range(1, horizon + 1):
        ahead[step - 1, : max(0, len(bars) - step)] = reference[step:]
    close = bars["close"].to_numpy()
    # max and min pass NaN on, so a row without all its sessions ahead has no label
    if up:
        extreme = ahead.max(axis=0)
        touched = extreme >= close * (1 + target.theta)
    else:
        extreme = ahead.min(axis=0)
        touched = extreme <= close * (1 - target.theta)
    return pd.Series(np.where(np.isnan(extreme), np.nan, touched), index=bars.index, name="label")
