"""Labels: whether the price touches a target within the horizon."""

import numpy as np
import pandas as pd

from patchscale.study.params import Target


def touch_labels(bars: pd.DataFrame, target: Target, horizon: int) -> pd.Series:
    """Return y(t) = 1 if an adjusted price of sessions t+1 .. t+horizon touches the target, else 0.

    Parameters
    ----------
    bars
        Adjusted bars, ascending.
    target
        Side up: the highest reference price is >= close[t] * (1 + theta). Side down: the lowest
        is <= close[t] * (1 - theta). The reference price is the close, or the extreme: the high
        for up, the low for down.
    horizon
        Number of sessions after t, at least 1.

    Returns
    -------
    Series of float, one per bar: 0 or 1, and NaN in the last `horizon` rows.
    """
    ahead = np.full((horizon, len(bars)), np.nan)
    reference = bars[target.price].to_numpy()
    for step in range(1, horizon + 1):
        ahead[step - 1, : max(0, len(bars) - step)] = reference[step:]
    close = bars["close"].to_numpy()
    # max and min return NaN if any session is missing, so the last rows have no label
    if target.side == "up":
        extreme = ahead.max(axis=0)
        touched = extreme >= close * (1 + target.theta)
    else:
        extreme = ahead.min(axis=0)
        touched = extreme <= close * (1 - target.theta)
    return pd.Series(np.where(np.isnan(extreme), np.nan, touched), index=bars.index, name="label")
