"""Detection of seams: days on which adjusted and unadjusted bars were joined in one series."""

import numpy as np
import pandas as pd

from patchscale.bars import PRICES

TICKS = (0.01, 1 / 64)
"""Exchange prices are multiples of a cent; until 2001 of fractions down to 1/64."""

SWITCH = 8
"""Sessions off the tick grid (or on it again) that count as a seam, not as odd prices."""


def on_tick_grid(bars: pd.DataFrame) -> np.ndarray:
    """Return for each bar, shape (n,), whether all four prices are multiples of a tick.

    The tolerance is the rounding of single precision and of six decimals.
    """
    prices = bars[PRICES].to_numpy()
    noise = 1e-7 * prices + 1e-6
    near = [np.abs(prices - np.round(prices / tick) * tick) <= noise for tick in TICKS]
    whole: np.ndarray = np.logical_or.reduce(near).all(axis=1)
    return whole


def tick_seams(bars: pd.DataFrame) -> pd.DatetimeIndex:
    """Return the days on which prices begin or cease to lie on the tick grid.

    Exchange prices lie on the grid and adjusted prices do not. Adjusted bars with new unadjusted
    ones appended therefore have a seam on the first new day. Each day has one of two states, on
    or off the grid; dynamic programming finds the states with the lowest cost, where a day in the
    wrong state costs 1 and a change of state costs `SWITCH`.
    """
    on = on_tick_grid(bars)
    cost = [0, 0]  # of the best states up to this day, if it is off or on the grid
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
    """Return the days on which the ratio of two versions of a series changes.

    If one version was adjusted after the other, the ratio is constant for months between events.
    If it changes on more than a tenth of the days that differ, the versions differ for another
    reason, and no day is returned.

    Parameters
    ----------
    dates, old, new
        Dates and both versions of the prices, shape (n,).
    """
    ratio = new / old
    noise = 1e-6 + 2e-6 / np.minimum(old, new)
    stepped = np.abs(ratio[1:] / ratio[:-1] - 1) > noise[1:]
    changed = np.abs(ratio - 1) > noise
    if stepped.sum() > max(1, changed.sum() / 10):
        stepped[:] = False
    return pd.DatetimeIndex(dates.iloc[1:][stepped])
