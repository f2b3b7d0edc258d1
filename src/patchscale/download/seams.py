"""Detection of adjusted bars: throughout a series, or joined to unadjusted bars at a seam."""

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
    with np.errstate(over="ignore", invalid="ignore"):  # of prices that no exchange has
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


def dividends_count_twice(bars: pd.DataFrame) -> bool:
    """Tell whether prices are adjusted for the dividends that are listed beside them.

    An unadjusted price opens lower by the dividend on an ex-date, and an adjusted price does not.
    The gaps of the ex-dates are regressed on the dividends, each divided by the usual gap around
    its day: the coefficient is 1 for unadjusted prices and 0 for adjusted ones. Prices are adjusted
    where the coefficient says so, or where they are not multiples of a tick and it does not
    clearly say the opposite.

    Parameters
    ----------
    bars
        Canonical bars; splits are left out.
    """
    gap = (bars["open"] / bars["close"].shift(1) - 1)[bars["splits"] == 0]
    paid = (bars["dividends"] / bars["close"].shift(1))[gap.index]
    usual = gap.abs().where(paid == 0).rolling(121, center=True, min_periods=20).median()
    unit = (1.5 * usual).clip(lower=1e-4)
    gaps = (gap / unit).clip(-8, 8)[paid > 0].dropna()
    sizes = (paid / unit)[gaps.index]
    off_grid = bool(bars["dividends"].any() and on_tick_grid(bars).mean() < 0.5)
    if len(gaps) < 8:
        return off_grid
    coefficient = -(gaps * sizes).sum() / (sizes**2).sum()
    error = gaps.std() / np.sqrt((sizes**2).sum())
    says_adjusted = coefficient < 0.5 and 1 - coefficient > 5 * error
    says_unadjusted = coefficient > 0.5 and coefficient > 3 * error
    return bool(says_adjusted or (off_grid and not says_unadjusted))


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
