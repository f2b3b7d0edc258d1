"""Forward adjustment: dividends and splits without rewriting history."""

import numpy as np
import pandas as pd

from patchscale.market import PRICES


def forward_adjust(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars whose prices are multiplied by a factor that starts at 1 and steps up.

    On an ex-date the factor grows by `split * P / (P - dividend)` with P the previous close (in
    units of before the split), so that the adjusted return holds what a holder got. The factor
    of day t is a function of bars up to t: appending data never changes a row. Volumes are
    divided by the splits so far.

    Parameters
    ----------
    bars
        Canonical bars.

    Raises
    ------
    ValueError
        A dividend is not smaller than the previous close.
    """
    split = np.where(bars["splits"] == 0, 1.0, bars["splits"])
    previous = bars["close"].shift(1).to_numpy()
    paid = (bars["dividends"] * split).to_numpy()
    too_large = paid >= previous  # False on the first day, whose previous close is NaN
    if too_large.any():
        day = bars["date"][too_large].iloc[0]
        raise ValueError(f"the dividend of {day:%Y-%m-%d} is not below the previous close")
    step = np.where(paid > 0, previous / (previous - paid), 1.0)
    step[0] = 1.0
    splits = np.cumprod(split)
    adjusted = bars.copy()
    adjusted[PRICES] = bars[PRICES].mul(splits * np.cumprod(step), axis=0)
    adjusted["volume"] = bars["volume"] / splits
    return adjusted
