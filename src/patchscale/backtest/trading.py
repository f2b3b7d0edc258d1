"""Trade the signals of the test year at prices that could have been obtained.

A signal after the close of t buys at the open of t+1. The position is closed at the first touch
of close[t] * (1 + theta): at that price, or at the open if it is beyond. A position without a
touch is closed at the close of t+H. There is one position at a time, with costs on each side. Cash
earns a rate while there is none.
With `target.side: down` everything is mirrored (short positions).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from patchscale.backtest.bootstrap import Estimate, mean_with_interval
from patchscale.backtest.returns import (
    SESSIONS_PER_YEAR,
    SHARPES,
    Performance,
    performance,
)
from patchscale.study.params import Backtest, Target

BP = 1e-4
TRADES = ["signal", "entry", "exit", "p", "entry_price", "exit_price", "touched", "gain"]
FEW_TRADES = 30
"""With fewer trades the returns of a strategy are no evidence of skill or of its absence."""
OF_TRADES = ("label_hit_rate", "touch_rate", "win_rate", "mean_trade_bps")


@dataclass(frozen=True)
class Question:
    """Event that is forecast, and the rules by which its forecasts are traded."""

    horizon: int
    """Sessions looked ahead."""
    target: Target
    rules: Backtest


@dataclass(frozen=True)
class Strategy(Performance):
    """Performance of the signals of a forecast, and what describes their trades."""

    trades: int
    signals: int
    label_hit_rate: float | None
    """Share of the signals whose label is 1; None, as the next three, without trades."""
    touch_rate: float | None
    win_rate: float | None
    mean_trade_bps: float | None
    exposure: float
    """Share of the sessions with a position."""
    turnover: float
    """Purchases and sales a year, in units of the capital."""
    cost_bps: float
    """Cost of each side in basis points."""
    cash_rate: float
    """What cash earns a year on sessions without a position."""
    total_return_at_bps: dict[str, float]
    buy_and_hold: Performance
    minus_buy_and_hold: Estimate
    """Mean difference of the daily returns, a year."""


@dataclass(frozen=True)
class Trade:
    """One round trip; `signal`, `entry` and `exit` are row numbers of the bars."""

    signal: int
    entry: int
    exit: int
    entry_price: float
    exit_price: float
    touched: bool


def trades(
    bars: pd.DataFrame, signals: pd.DatetimeIndex, target: Target, horizon: int
) -> list[Trade]:
    """Return the trades that follow from the signals.

    Parameters
    ----------
    bars
        Adjusted bars.
    signals
        Dates, among those of `bars`, after whose close a position is to be opened.
    target, horizon
        Side and size of the expected move, and the sessions in which it is expected.

    Raises
    ------
    ValueError
        A signal has fewer than `horizon` bars after it.
    """
    side = target.sign
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
    bars: pd.DataFrame,
    done: Sequence[Trade],
    first: int,
    cost_bps: float,
    side: int = 1,
    cash: float = 0.0,
) -> np.ndarray:
    """Return the strategy's return on each session from row `first` on; `(len(bars) - first,)`.

    Positions are marked to the close; `cost_bps` is charged at the entry and at the exit. A session
    without a position earns `cash`.
    """
    closes = bars["close"].to_numpy()
    growth = np.full(len(bars), 1 + cash)
    for trade in done:
        between = closes[trade.entry : trade.exit]
        marks = np.concatenate([[trade.entry_price], between, [trade.exit_price]])
        # a short position has the size of the capital at entry and is not rebalanced
        value = marks / marks[0] if side > 0 else 2 - marks / marks[0]
        value[1:] *= 1 - cost_bps * BP
        value[-1] *= 1 - cost_bps * BP
        growth[trade.entry : trade.exit + 1] = value[1:] / value[:-1]
    return growth[first:] - 1


def buy_and_hold(bars: pd.DataFrame, first: int, cost_bps: float) -> np.ndarray:
    """Return the daily returns of buying at the open after row `first` and selling at the end."""
    bought, sold = bars["open"].iloc[first + 1], bars["close"].iloc[-1]
    whole = Trade(first, first + 1, len(bars) - 1, bought, sold, touched=False)
    return daily_returns(bars, [whole], first, cost_bps)


def trades_table(
    bars: pd.DataFrame, done: Sequence[Trade], test: pd.DataFrame, cost_bps: float, side: int
) -> pd.DataFrame:
    """Return a row per trade: dates, probability, adjusted prices, and `gain` after costs."""
    dates, p = bars["date"].to_numpy(), test.set_index("date")["p"]
    rows = [
        {
            "signal": dates[each.signal],
            "entry": dates[each.entry],
            "exit": dates[each.exit],
            "p": p[dates[each.signal]],
            "entry_price": each.entry_price,
            "exit_price": each.exit_price,
            "touched": int(each.touched),
            "gain": (1 + side * (each.exit_price / each.entry_price - 1)) * (1 - cost_bps * BP) ** 2
            - 1,
        }
        for each in done
    ]
    return pd.DataFrame(rows, columns=TRADES)


def run_strategy(
    bars: pd.DataFrame,
    test: pd.DataFrame,
    question: Question,
    threshold: float,
) -> tuple[Strategy, dict[str, pd.DataFrame]]:
    """Backtest `p >= threshold` over the test dates.

    Parameters
    ----------
    bars
        Adjusted bars, past the last test date by at least the horizon.
    test
        `date, label, p` of the test dates.
    question
        Meaning of the label, and costs.
    threshold
        Chosen on validation.

    Returns
    -------
    Figures, and tables: `equity` of `date, strategy, buy_and_hold` (wealth at each close, 1 at the
    start) and `trades`.
    """
    target, horizon, rules = question.target, question.horizon, question.rules
    side = target.sign
    called = test[test["p"] >= threshold]
    done = trades(bars, pd.DatetimeIndex(called["date"]), target, horizon)
    first = int(np.searchsorted(bars["date"].to_numpy(), test["date"].to_numpy()[0]))
    cash = (1 + rules.cash_rate) ** (1 / SESSIONS_PER_YEAR) - 1
    returns = daily_returns(bars, done, first, rules.cost_bps, side, cash)
    held = buy_and_hold(bars, first, rules.cost_bps)
    table = trades_table(bars, done, test, rules.cost_bps, side)
    in_market = np.zeros(len(bars), dtype=bool)
    for trade in done:
        in_market[trade.entry : trade.exit + 1] = True
    n = len(done)
    own = performance(returns, horizon, cash)
    if not n:
        reasons = dict.fromkeys((*OF_TRADES, *SHARPES), "no trade was made")
        own = replace(own, undefined=reasons)
    strategy = Strategy(
        **vars(own),
        trades=n,
        signals=len(called),
        label_hit_rate=float(called["label"].mean()) if n else None,
        touch_rate=float(table["touched"].mean()) if n else None,
        win_rate=float((table["gain"] > 0).mean()) if n else None,
        mean_trade_bps=float(table["gain"].mean() / BP) if n else None,
        exposure=float(in_market[first:].mean()),
        turnover=2 * n * SESSIONS_PER_YEAR / len(returns),
        cost_bps=rules.cost_bps,
        cash_rate=rules.cash_rate,
        total_return_at_bps={
            f"{bps:g}": float(np.prod(1 + daily_returns(bars, done, first, bps, side, cash)) - 1)
            for bps in rules.sensitivity_bps
        },
        buy_and_hold=performance(held, horizon, cash),
        minus_buy_and_hold=mean_with_interval(SESSIONS_PER_YEAR * (returns - held), horizon),
    )
    equity = pd.DataFrame(
        {
            "date": bars["date"].iloc[first:],
            "strategy": np.cumprod(1 + returns),
            "buy_and_hold": np.cumprod(1 + held),
        }
    ).reset_index(drop=True)
    return strategy, {"equity": equity, "trades": table}
