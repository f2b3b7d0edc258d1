"""Trade the signals of the test year at prices one could have had.

After the close of t, a signal buys at the open of t+1; the position is closed at the first touch
of close[t] * (1 + theta), at that price or at the open where it gaps beyond, else at the close of
t+H. One position at a time; costs on each side. With `target.side: down` all is mirrored (short).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from patchscale.config import Target
from patchscale.metrics import bootstrap_interval

SESSIONS_PER_YEAR = 252
BP = 1e-4


@dataclass(frozen=True)
class Trade:
    """One round trip; `signal, entry, exit` are row numbers of the bars."""

    signal: int
    entry: int
    exit: int
    entry_price: float
    exit_price: float
    touched: bool


def trades(
    bars: pd.DataFrame, signals: pd.DatetimeIndex, target: Target, horizon: int
) -> list[Trade]:
    """Return the trades that the signals lead to.

    Parameters
    ----------
    bars
        Adjusted bars.
    signals
        Dates, among those of `bars`, after whose close a position is wanted.
    target, horizon
        Side and size of the move waited for, and for how many sessions.

    Raises
    ------
    ValueError
        A signal has fewer than `horizon` bars after it.
    """
    side = 1 if target.side == "up" else -1
    opens, closes = bars["open"].tolist(), bars["close"].tolist()
    extremes = bars["high" if side > 0 else "low"].tolist()
    done: list[Trade] = []
    flat_from = 0
    for t in np.flatnonzero(bars["date"].isin(signals)).tolist():
        if t + horizon >= len(bars):
            raise ValueError(f"the last signal has fewer than {horizon} bars after it")
        if t < flat_from:
            continue
        goal = closes[t] * (1 + side * target.theta)
        flat_from, price, touched = t + horizon, closes[t + horizon], False
        for day in range(t + 1, t + horizon + 1):
            gapped = side * (opens[day] - goal) >= 0
            if gapped or side * (extremes[day] - goal) >= 0:
                flat_from, price, touched = day, opens[day] if gapped else goal, True
                break
        done.append(Trade(t, t + 1, flat_from, opens[t + 1], price, touched))
    return done


def daily_returns(
    bars: pd.DataFrame, done: Sequence[Trade], first: int, cost_bps: float, side: int = 1
) -> np.ndarray:
    """Return the strategy's return on each session from row `first` on; `(len(bars) - first,)`.

    Positions are marked to the close; `cost_bps` is taken on the way in and on the way out.
    """
    closes = bars["close"].to_numpy()
    growth = np.ones(len(bars))
    for trade in done:
        held = closes[trade.entry : trade.exit]
        marks = np.concatenate([[trade.entry_price], held, [trade.exit_price]])
        # a short is of one unit of capital at entry and not rebalanced
        value = marks / marks[0] if side > 0 else 2 - marks / marks[0]
        value[1:] *= 1 - cost_bps * BP
        value[-1] *= 1 - cost_bps * BP
        growth[trade.entry : trade.exit + 1] *= value[1:] / value[:-1]
    return growth[first:] - 1


def buy_and_hold(bars: pd.DataFrame, first: int, cost_bps: float) -> np.ndarray:
    """Return the daily returns of buying at the open after row `first` and selling at the end."""
    bought, sold = bars["open"].iloc[first + 1], bars["close"].iloc[-1]
    whole = Trade(first, first + 1, len(bars) - 1, bought, sold, touched=False)
    return daily_returns(bars, [whole], first, cost_bps)


def performance(returns: np.ndarray, horizon: int) -> dict[str, float | None]:
    """Return what a series of daily returns is worth; Sharpe with a 95 % interval.

    Sharpe is annualised with 252 sessions against a rate of zero; None where nothing was traded.
    """
    equity = np.cumprod(1 + returns)
    peak = np.maximum.accumulate(np.concatenate([[1.0], equity]))[1:]

    def sharpe(rows: np.ndarray) -> np.ndarray:
        drawn = returns[rows]
        spread = drawn.std(ddof=1)
        ratio = drawn.mean() / spread if spread > 0 else np.nan
        return np.array([np.sqrt(SESSIONS_PER_YEAR) * ratio])

    figures: dict[str, float | None] = {
        "total_return": float(equity[-1] - 1),
        "cagr": float(equity[-1] ** (SESSIONS_PER_YEAR / len(returns)) - 1),
        "volatility": float(np.sqrt(SESSIONS_PER_YEAR) * returns.std(ddof=1)),
        "max_drawdown": float((equity / peak - 1).min()),
        "sharpe": None,
        "sharpe_low": None,
        "sharpe_high": None,
    }
    if returns.any():
        (low,), (high,) = bootstrap_interval(sharpe, len(returns), horizon)
        figures["sharpe"] = float(sharpe(np.arange(len(returns)))[0])
        figures["sharpe_low"], figures["sharpe_high"] = low, high
    return figures


def run_strategy(
    bars: pd.DataFrame,
    test: pd.DataFrame,
    threshold: float,
    target: Target,
    horizon: int,
    cost_bps: float,
    sensitivity_bps: list[float],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Backtest `p >= threshold` over the test dates.

    Parameters
    ----------
    bars
        Adjusted bars, past the last test date by at least `horizon` sessions.
    test
        `date, p` of the test dates.
    threshold
        Frozen on validation.
    target, horizon
        What the label means.
    cost_bps, sensitivity_bps
        Cost per side in basis points, and the alternatives to report.

    Returns
    -------
    Figures, and `date, strategy, buy_and_hold` (wealth at each close, 1 at the start).
    """
    side = 1 if target.side == "up" else -1
    signals = pd.DatetimeIndex(test.loc[test["p"] >= threshold, "date"])
    done = trades(bars, signals, target, horizon)
    first = int(np.searchsorted(bars["date"].to_numpy(), test["date"].to_numpy()[0]))
    returns = daily_returns(bars, done, first, cost_bps, side)
    held = buy_and_hold(bars, first, cost_bps)
    n, years = len(done), len(returns) / SESSIONS_PER_YEAR
    gains = np.array([side * (each.exit_price / each.entry_price - 1) for each in done])
    gains -= 2 * cost_bps * BP
    in_market = np.zeros(len(bars), dtype=bool)
    for trade in done:
        in_market[trade.entry : trade.exit + 1] = True
    figures = {
        "trades": n,
        "signals": len(signals),
        "touch_rate": sum(each.touched for each in done) / n if n else None,
        "win_rate": float((gains > 0).mean()) if n else None,
        "mean_trade_bps": float(gains.mean() / BP) if n else None,
        "exposure": float(in_market[first:].mean()),
        "turnover": 2 * n / years,
        "cost_bps": cost_bps,
        "sessions": len(returns),
        **performance(returns, horizon),
        "total_return_at_bps": {
            f"{bps:g}": float(np.prod(1 + daily_returns(bars, done, first, bps, side)) - 1)
            for bps in sensitivity_bps
        },
    }
    equity = pd.DataFrame(
        {
            "date": bars["date"].iloc[first:],
            "strategy": np.cumprod(1 + returns),
            "buy_and_hold": np.cumprod(1 + held),
        }
    ).reset_index(drop=True)
    return figures | {"buy_and_hold": performance(held, horizon)}, equity
