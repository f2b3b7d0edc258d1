"""Where adjusted and unadjusted bars, or two adjustments, have been joined in one history."""

import numpy as np
import pandas as pd

from patchscale.bars import PRICES

TICKS = (0.01, 1 / 64)
"""Exchange prices are multiples of a cent, until 2001 of a fraction down to 1/64."""

SWITCH = 8
"""Sessions off the grid (or back on it) that make a seam rather than a few odd prices."""


def on_tick_grid(bars: pd.DataFrame) -> np.ndarray:
    """Return (n,) whether all four prices of a bar are multiples of an exchange's tick.

    Prices may carry the noise of single precision and of six decimals.
    """
    prices = bars[PRICES].to_numpy()
    noise = 1e-7 * prices + 1e-6
    near = [np.abs(prices - np.round(prices / tick) * tick) <= noise for tick in TICKS]
    whole: np.ndarray = np.logical_or.reduce(near).all(axis=1)
    return whole


def tick_seams(bars: pd.DataFrame) -> pd.DatetimeIndex:
    """Return the days on which the prices change between lying on the tick grid and not.

    Exchange prices lie on the grid, adjusted ones do not: a history of adjusted bars with fresh
    ones appended changes on the first fresh day. The states of the days are the two-state path
    with the fewest days in the wrong state, where a change costs as much as `SWITCH` such days.
    """
    on = on_tick_grid(bars)
    cost = [0, 0]  # of the best path that is off, on the grid today
    came_from = []
    for day_on in on:
        back = [state if cost[state] <= cost[1 - state] + SWITCH else 1 - state for state in (0, 1)]
        cost = [
            cost[back[state]] + SWITCH * (back[state] != state) + (state != day_on)
            for state in (0, 1)
        ]
        came_from.append(back)
    state = int(cost[1] <= cost[0])
    changes = []
    for day in range(len(on) - 1, 0, -1):
        if came_from[day][state] != state:
            state = 1 - state
            changes.append(day)
    return pd.DatetimeIndex(bars["date"].iloc[changes[::-1]])


def ratio_seams(
    dates: "pd.Series[pd.Timestamp]", old: np.ndarray, new: np.ndarray
) -> pd.DatetimeIndex:
    """Return the days on which the ratio of two versions of a series steps.

    A version that has been adjusted since the other has a ratio that is constant for months.
    Where more than a tenth of the changed days are steps, the change is none of that kind, and
    no day is returned.
    """
    ratio = new / old
    noise = 1e-6 + 2e-6 / np.minimum(old, new)
    stepped = np.abs(ratio[1:] / ratio[:-1] - 1) > noise[1:]
    changed = np.abs(ratio - 1) > noise
    if stepped.sum() > max(1, changed.sum() / 10):
        stepped[:] = False
    return pd.DatetimeIndex(dates.iloc[1:][stepped])
