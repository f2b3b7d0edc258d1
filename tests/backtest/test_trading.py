from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.backtest.bootstrap import UNDEFINED
from patchscale.backtest.trading import (
    Question,
    Trade,
    buy_and_hold,
    daily_returns,
    run_strategy,
    trades,
)
from patchscale.bars import forward_adjust
from patchscale.split.labels import touch_labels
from patchscale.study.params import Backtest, Target, Threshold

UP = Target(side="up", reference="extreme", theta=0.01)
DOWN = Target(side="down", reference="extreme", theta=0.01)


def market(*days: tuple[float, float, float, float]) -> pd.DataFrame:
    """Return bars of (open, high, low, close)."""
    bars = pd.DataFrame(days, columns=["open", "high", "low", "close"], dtype=float)
    bars.insert(0, "date", pd.bdate_range("2018-01-01", periods=len(days)))
    return bars


QUIET = (100.0, 100.2, 99.8, 100.0)


def on(bars: pd.DataFrame, *rows: int) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(bars["date"].iloc[list(rows)])


def strategy(bars, p, horizon, target=UP, cost=0.0, first=0, cash=0.0):
    rules = Backtest(
        threshold=Threshold(rule="precision", min_recall=0.1),
        cost_bps=cost,
        cash_rate=cash,
        sensitivity_bps=[0.0, 10.0],
    )
    days = slice(first, first + len(p))
    label = touch_labels(bars, target, horizon)[days]
    test = pd.DataFrame({"date": bars["date"][days], "label": label, "p": p})
    figures, tables = run_strategy(bars, test, Question(horizon, target, rules), 0.5)
    return figures, tables["equity"], tables["trades"]


def test_a_gap_over_the_target_at_entry_is_sold_at_that_open():
    bars = market(QUIET, (102, 103, 101.5, 102.5), QUIET)
    assert trades(bars, on(bars, 0), UP, 1) == [Trade(0, 1, 1, 102.0, 102.0, True)]


def test_a_gap_on_the_second_day_is_sold_at_that_open():
    bars = market(QUIET, (100.1, 100.9, 99, 100.5), (101.5, 102, 101, 101.8), QUIET)
    assert trades(bars, on(bars, 0), UP, 2) == [Trade(0, 1, 2, 100.1, 101.5, True)]


def test_a_touch_within_the_day_is_sold_at_the_target():
    bars = market(QUIET, (100.1, 101.3, 99, 100.5), QUIET)
    assert trades(bars, on(bars, 0), UP, 2) == [Trade(0, 1, 1, 100.1, 101.0, True)]


def test_the_target_is_a_share_of_the_signal_days_close_not_of_the_entry():
    bars = market(QUIET, (98.0, 99.5, 97, 99), (99, 101.2, 98, 100), QUIET)
    assert trades(bars, on(bars, 0), UP, 2) == [Trade(0, 1, 2, 98.0, 101.0, True)]


def test_an_untouched_target_is_sold_at_the_last_close():
    bars = market(QUIET, (100.1, 100.5, 99, 100.3), (100.2, 100.9, 98, 98.5), QUIET)
    assert trades(bars, on(bars, 0), UP, 2) == [Trade(0, 1, 2, 100.1, 98.5, False)]


def test_a_high_that_equals_the_target_is_a_touch():
    bars = market(QUIET, (100.0, 100 * 1.01, 99, 100), QUIET)
    assert trades(bars, on(bars, 0), UP, 1)[0].touched


def test_signals_during_a_position_are_ignored_until_its_exit_day():
    bars = market(*[QUIET] * 8)
    done = trades(bars, on(bars, 0, 1, 2, 3, 4), UP, 2)
    assert [(each.signal, each.entry, each.exit) for each in done] == [
        (0, 1, 2),
        (2, 3, 4),
        (4, 5, 6),
    ]


def test_an_early_exit_frees_the_next_signal():
    bars = market(QUIET, (100, 101.5, 99.9, 100), QUIET, QUIET, QUIET, QUIET)
    done = trades(bars, on(bars, 0, 1), UP, 3)
    assert [(each.signal, each.entry, each.exit) for each in done] == [(0, 1, 1), (1, 2, 4)]


def test_a_short_mirrors_a_long():
    touch = market(QUIET, (99.9, 101, 98.5, 99.5), QUIET)
    assert trades(touch, on(touch, 0), DOWN, 1) == [Trade(0, 1, 1, 99.9, 99.0, True)]
    gap = market(QUIET, (98.0, 98.5, 97, 98), QUIET)
    assert trades(gap, on(gap, 0), DOWN, 1) == [Trade(0, 1, 1, 98.0, 98.0, True)]
    late = market(QUIET, (100.2, 103, 99.5, 102), QUIET)
    assert trades(late, on(late, 0), DOWN, 1) == [Trade(0, 1, 1, 100.2, 102.0, False)]


@pytest.mark.parametrize("row", [2, 3])
def test_a_signal_without_its_horizon_ahead_is_refused(row):
    bars = market(*[QUIET] * 4)
    with pytest.raises(ValueError, match="fewer than 2 bars after it"):
        trades(bars, on(bars, row), UP, 2)


def test_a_trade_is_marked_to_the_close_each_day_with_costs_by_hand():
    bars = market(QUIET, (100, 100.5, 99, 99.5), (99.5, 100.2, 99, 100.1), (100, 102, 99, 101))
    done = trades(bars, on(bars, 0), UP, 3)
    assert done == [Trade(0, 1, 3, 100.0, 101.0, True)]
    free = daily_returns(bars, done, 0, 0.0)
    assert free == pytest.approx([0, -0.005, 100.1 / 99.5 - 1, 101 / 100.1 - 1])
    keep = 1 - 0.001
    paid = daily_returns(bars, done, 0, 10.0)
    assert paid == pytest.approx([0, 0.995 * keep - 1, 100.1 / 99.5 - 1, 101 / 100.1 * keep - 1])


def test_both_costs_fall_on_a_day_that_opens_and_closes_a_trade():
    bars = market(QUIET, (100, 101.5, 99, 100), QUIET)
    done = trades(bars, on(bars, 0), UP, 2)
    assert daily_returns(bars, done, 0, 10.0) == pytest.approx([0, 1.01 * 0.999**2 - 1, 0])


def test_a_short_earns_the_fall_of_its_entry_price_less_costs():
    bars = market(QUIET, (100, 101, 99.5, 101), (101, 102, 98, 98.5), QUIET)
    done = trades(bars, on(bars, 0), DOWN, 2)
    assert done == [Trade(0, 1, 2, 100.0, 99.0, True)]
    assert daily_returns(bars, done, 0, 0.0, side=-1) == pytest.approx(
        [0, -0.01, 1.01 / 0.99 - 1, 0]
    )
    whole = np.prod(1 + daily_returns(bars, done, 0, 10.0, side=-1))
    assert whole == pytest.approx(1.01 * 0.999**2)


@pytest.mark.parametrize("cost", [0.0, 10.0])
def test_daily_returns_compound_to_the_trades(make_bars, cost):
    bars = make_bars(200, seed=3)
    done = trades(bars, on(bars, *range(20, 190, 2)), UP, 3)
    assert len(done) > 20
    keep = (1 - cost / 10_000) ** 2
    expected = np.prod([each.exit_price / each.entry_price * keep for each in done])
    assert np.prod(1 + daily_returns(bars, done, 0, cost)) == pytest.approx(expected)
    assert np.prod(1 + daily_returns(bars, done, 20, cost)) == pytest.approx(expected)


def test_the_entry_is_the_next_open_and_nothing_after_the_exit_matters(make_bars):
    bars = make_bars(60, seed=1)
    done = trades(bars, on(bars, 30), UP, 3)
    changed = bars.copy()
    after = changed.index > done[0].exit
    changed.loc[after, ["open", "high", "low", "close"]] *= 3
    assert trades(changed, on(bars, 30), UP, 3) == done

    moved = bars.copy()
    moved.loc[31, "open"] *= 0.99
    (trade,) = trades(moved, on(bars, 30), UP, 3)
    assert trade.entry_price == moved.loc[31, "open"] == pytest.approx(0.99 * done[0].entry_price)


def test_the_signal_day_itself_is_never_traded(make_bars):
    bars = make_bars(60, seed=1)
    changed = bars.copy()
    changed.loc[30, ["open", "high", "low"]] = [1.0, 1000.0, 0.5]
    assert trades(changed, on(bars, 30), UP, 3) == trades(bars, on(bars, 30), UP, 3)


def test_buy_and_hold_buys_the_next_open_and_sells_the_last_close(make_bars):
    bars = make_bars(40)
    returns = buy_and_hold(bars, 5, 10.0)
    assert len(returns) == 35
    assert returns[0] == 0
    expected = bars["close"].iloc[-1] / bars["open"].iloc[6] * 0.999**2
    assert np.prod(1 + returns) == pytest.approx(expected)


def test_no_signal_leaves_wealth_at_one_and_ratios_undefined(make_bars):
    bars = make_bars(60)
    figures, equity, _ = strategy(bars, np.full(30, 0.1), 2, first=20)
    assert (figures.trades, figures.signals, figures.exposure) == (0, 0, 0.0)
    for name in ("label_hit_rate", "touch_rate", "win_rate", "mean_trade_bps", "sharpe"):
        assert getattr(figures, name) is (UNDEFINED if name == "sharpe" else None)
        assert figures.undefined[name] == "no trade was made"
    assert figures.total_return == figures.max_drawdown == figures.turnover == 0
    assert (equity["strategy"] == 1).all()
    assert np.isfinite(figures.buy_and_hold.sharpe.value)


def test_signals_on_all_days_give_back_to_back_trades():
    bars = market(*[QUIET] * 12)
    figures, equity, _ = strategy(bars, np.full(10, 0.9), 1, cost=10.0)
    assert (figures.trades, figures.signals) == (10, 10)
    assert figures.exposure == pytest.approx(10 / 12)
    assert figures.touch_rate == figures.win_rate == 0
    assert figures.mean_trade_bps == pytest.approx(-19.99)
    assert figures.total_return == pytest.approx(0.999**20 - 1)
    assert figures.total_return_at_bps["0"] == pytest.approx(0)
    assert figures.total_return_at_bps["10"] == pytest.approx(figures.total_return)
    assert figures.turnover == pytest.approx(20 * 252 / 12)
    assert len(equity) == 12


def test_the_first_and_the_last_test_day_can_be_traded():
    bars = market(*[QUIET] * 4, (100, 100.6, 99.9, 100.5), *[QUIET] * 3, (100, 100.9, 99, 100.8))
    p = np.array([0.5, 0.1, 0.1, 0.1, 0.5])  # the threshold itself is a signal
    figures, equity, _ = strategy(bars, p, 1, first=3)
    assert (figures.trades, figures.sessions) == (2, 6)
    assert equity["date"].tolist() == bars["date"].iloc[3:].tolist()
    assert equity["strategy"].tolist() == pytest.approx([1, 1.005, 1.005, 1.005, 1.005, 1.01304])
    assert figures.total_return == pytest.approx(1.005 * 1.008 - 1)
    assert figures.win_rate == 1
    assert figures.exposure == pytest.approx(2 / 6)


def test_max_drawdown_is_measured_from_the_highest_wealth_including_the_start():
    bars = market(QUIET, (100, 100, 94, 95), (95, 95.5, 94, 95), (95, 95.9, 95, 95.9), QUIET)
    figures, _, _ = strategy(bars, np.array([0.9, 0.1, 0.9, 0.1]), 1)
    assert figures.max_drawdown == pytest.approx(-0.05)
    assert figures.total_return == pytest.approx(0.95 * 95.9 / 95 - 1)


def test_sharpe_and_volatility_are_annualised_with_252_sessions(make_bars):
    bars = make_bars(80, seed=2)
    figures, equity, _ = strategy(bars, np.tile([0.9, 0.2, 0.3], 20), 2, first=10)
    returns = equity["strategy"].pct_change().fillna(equity["strategy"].iloc[0] - 1)
    assert figures.volatility == pytest.approx(returns.std() * 252**0.5)
    assert figures.sharpe.value == pytest.approx(returns.mean() / returns.std() * 252**0.5)
    assert figures.sharpe.low < figures.sharpe.value < figures.sharpe.high
    growth = equity["strategy"].iloc[-1]
    assert figures.cagr == pytest.approx(growth ** (252 / len(equity)) - 1)


def test_a_dividend_paid_while_in_the_market_is_earned_and_counts_towards_the_target():
    quotes = market(QUIET, (100.0, 100.2, 99.8, 100.0), (98.9, 99.2, 98.8, 99.1), QUIET)
    quotes["volume"], quotes["dividends"], quotes["splits"] = 1e6, 0.0, 0.0
    quotes.loc[2, "dividends"] = 1.0  # the quote falls by what is paid
    bars = forward_adjust(quotes)
    factor = 100 / 99
    (trade,) = trades(bars, on(bars, 0), UP, 2)
    assert trade == Trade(0, 1, 2, 100.0, pytest.approx(99.1 * factor), False)
    free = daily_returns(bars, [trade], 0, 0.0)
    assert np.prod(1 + free) == pytest.approx(99.1 / 99)  # 1.00 of 100 was paid in cash

    quotes.loc[2, "high"] = 99.99 * 1.0001  # 101 with the dividend
    bars = forward_adjust(quotes)
    (trade,) = trades(bars, on(bars, 0), UP, 2)
    assert (trade.touched, trade.exit_price) == (True, pytest.approx(101.0))


def test_each_trade_is_a_row_with_its_dates_probability_and_gain_after_costs():
    bars = market(QUIET, (100.1, 101.3, 99, 100.5), QUIET, (100.2, 100.4, 99, 99.5), QUIET)
    p = np.array([0.9, 0.1, 0.6, 0.2])
    figures, _, table = strategy(bars, p, 1, cost=10.0)
    assert table["signal"].tolist() == bars["date"].iloc[[0, 2]].tolist()
    assert table["entry"].tolist() == table["exit"].tolist() == bars["date"].iloc[[1, 3]].tolist()
    assert table["p"].tolist() == [0.9, 0.6]
    assert table["touched"].tolist() == [1, 0]
    gains = [101 / 100.1 * 0.999**2 - 1, 99.5 / 100.2 * 0.999**2 - 1]
    assert table["gain"].tolist() == pytest.approx(gains)
    assert np.prod(1 + table["gain"]) - 1 == pytest.approx(figures.total_return)
    assert (figures.label_hit_rate, figures.win_rate) == (0.5, 0.5)


@pytest.mark.parametrize("target", [UP, DOWN], ids=["up", "down"])
def test_gains_compound_to_the_return_and_short_trades_earn_what_falls(make_bars, target):
    bars = make_bars(200, seed=3)
    figures, _, table = strategy(bars, np.tile([0.9, 0.1, 0.1], 60), 3, target, cost=5.0, first=10)
    assert len(table) > 20
    assert np.prod(1 + table["gain"]) - 1 == pytest.approx(figures.total_return)


def test_the_label_hit_rate_is_of_all_signals_and_the_touch_rate_of_trades(make_bars):
    bars = make_bars(200, seed=3)
    figures, _, _ = strategy(bars, np.full(150, 0.9), 3, first=20)
    labels = touch_labels(bars, UP, 3)[20:170]
    assert figures.signals == 150 > figures.trades
    assert figures.label_hit_rate == labels.mean()
    assert figures.touch_rate != labels.mean()


def test_a_strategy_is_set_against_holding_the_market_day_by_day(make_bars):
    bars = make_bars(200, seed=3)
    figures, equity, _ = strategy(bars, np.tile([0.9, 0.1, 0.1], 50), 3, first=20)
    wealth = pd.concat([pd.DataFrame({"strategy": [1.0], "buy_and_hold": [1.0]}), equity])
    daily = wealth[["strategy", "buy_and_hold"]].pct_change().dropna()
    gap = 252 * (daily["strategy"] - daily["buy_and_hold"]).mean()
    assert figures.minus_buy_and_hold.value == pytest.approx(gap)
    assert figures.minus_buy_and_hold.low < gap < figures.minus_buy_and_hold.high


def test_cash_earns_its_rate_on_sessions_without_a_position_only(make_bars):
    bars = make_bars(200, seed=3)
    p = np.tile([0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 25)
    poor, without, trades_ = strategy(bars, p, 3, first=20)
    rich, equity, same = strategy(bars, p, 3, first=20, cash=0.05)
    assert same.equals(trades_)
    out = round((1 - rich.exposure) * rich.sessions)
    assert 50 < out < 150
    assert 1 + rich.total_return == pytest.approx((1 + poor.total_return) * 1.05 ** (out / 252))
    for bps, value in rich.total_return_at_bps.items():
        grown = (1 + poor.total_return_at_bps[bps]) * 1.05 ** (out / 252)
        assert 1 + value == pytest.approx(grown)
    assert equity["buy_and_hold"].equals(without["buy_and_hold"])
    assert rich.buy_and_hold.total_return == poor.buy_and_hold.total_return
    assert (rich.cash_rate, poor.cash_rate) == (0.05, 0.0)


def test_cash_alone_grows_by_its_rate_and_is_no_skill(make_bars):
    bars = make_bars(300)
    figures, equity, _ = strategy(bars, np.full(250, 0.1), 2, first=48, cash=0.05)
    assert len(equity) == 252
    assert figures.total_return == pytest.approx(0.05)
    assert figures.sharpe is UNDEFINED
    assert figures.probabilistic_sharpe is None
    assert figures.undefined["sharpe"] == "no trade was made"


def test_the_sharpe_ratio_is_of_returns_in_excess_of_cash(make_bars):
    bars = make_bars(200, seed=3)
    p = np.tile([0.9, 0.1, 0.1], 50)
    figures, equity, _ = strategy(bars, p, 3, first=20, cash=0.05)
    returns = np.diff(np.append(1.0, equity["strategy"])) / np.append(1.0, equity["strategy"])[:-1]
    excess = returns - (1.05 ** (1 / 252) - 1)
    assert figures.sharpe.value == pytest.approx(252**0.5 * excess.mean() / excess.std(ddof=1))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 10_000),
    horizon=st.integers(1, 6),
    share=st.floats(0, 1),
    side=st.sampled_from([1, -1]),
    cost=st.sampled_from([0.0, 2.0, 50.0]),
)
def test_trades_never_overlap_and_wealth_stays_positive(seed, horizon, share, side, cost):
    random = np.random.default_rng(seed)
    n = 60
    close = 100 * np.exp(np.cumsum(0.02 * random.standard_normal(n)))
    opens = np.append(100, close[:-1]) * np.exp(0.01 * random.standard_normal(n))
    high = np.maximum(opens, close) * (1 + 0.01 * random.random(n))
    low = np.minimum(opens, close) / (1 + 0.01 * random.random(n))
    bars = market(*zip(opens, high, low, close, strict=True))
    wanted = np.flatnonzero(random.random(n - horizon) < share)
    target = UP if side > 0 else DOWN
    done = trades(bars, on(bars, *wanted), target, horizon)

    assert bool(done) == bool(len(wanted))
    assert {each.signal for each in done} <= set(wanted.tolist())
    for each in done:
        assert each.entry == each.signal + 1 <= each.exit <= each.signal + horizon
        assert each.touched or each.exit == each.signal + horizon
        assert low[each.exit] <= each.exit_price * (1 + 1e-12)
        assert each.exit_price <= high[each.exit] * (1 + 1e-12)
    for one, other in pairwise(done):
        assert one.exit < other.entry
    for row in set(wanted.tolist()) - {each.signal for each in done}:
        assert any(each.signal < row < each.exit for each in done)

    returns = daily_returns(bars, done, 0, cost, side)
    held = np.zeros(n, dtype=bool)
    for each in done:
        held[each.entry : each.exit + 1] = True
    assert (np.cumprod(1 + returns) > 0).all()
    assert (returns[~held] == 0).all()
    assert 0 <= held.mean() <= 1


def halves(bars: pd.DataFrame) -> pd.DataFrame:
    """Return each day as two bars, one up to its close and one at it.

    backtesting.py fills orders at the next open; so it can also sell at a close.
    """
    names = {"open": "Open", "high": "High", "low": "Low", "close": "Close"}
    days = bars[list(names)].rename(columns=names)
    closes = pd.DataFrame(dict.fromkeys(names.values(), bars["close"]))
    days.index = pd.DatetimeIndex(bars["date"]) + pd.Timedelta(hours=10)
    closes.index = pd.DatetimeIndex(bars["date"]) + pd.Timedelta(hours=16)
    return pd.concat([days, closes]).sort_index()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cost", [0.0, 2.0, 5.0])
@pytest.mark.parametrize(("horizon", "seed"), [(1, 0), (2, 1), (3, 4), (5, 2)])
def test_trades_and_wealth_equal_those_of_backtesting_py(make_bars, horizon, seed, cost):
    import backtesting

    bars = make_bars(300, seed=seed)
    jumps = np.random.default_rng(seed).random(300) < 0.1  # gaps over the target at the open
    bars.loc[jumps, "open"] *= 1.02
    bars["high"] = bars[["open", "high"]].max(axis=1)
    rows = np.flatnonzero(np.random.default_rng(seed).random(300 - horizon) < 0.3).tolist()

    class NextOpen(backtesting.Strategy):
        def init(self):
            self.signal = 0

        def next(self):
            day, at_close = divmod(len(self.data) - 1, 2)
            if at_close and not self.position and day in rows:
                self.buy(size=0.9999999, tp=self.data.Close[-1] * (1 + UP.theta))
                self.signal = day
            elif not at_close and self.position and day == self.signal + horizon:
                self.position.close()

    settings = {"cash": 1e13, "commission": cost / 10_000, "finalize_trades": True}
    theirs = backtesting.Backtest(halves(bars), NextOpen, **settings).run()
    done = trades(bars, on(bars, *rows), UP, horizon)
    table = theirs["_trades"]
    assert len(done) > 30
    assert any(each.entry_price == each.exit_price for each in done)  # a gap over the target
    assert any(not each.touched for each in done)
    assert (table["EntryBar"] // 2).tolist() == [each.entry for each in done]
    assert (table["ExitBar"] // 2).tolist() == [each.exit for each in done]
    assert table["EntryPrice"].to_numpy() == pytest.approx([each.entry_price for each in done])
    assert table["ExitPrice"].to_numpy() == pytest.approx([each.exit_price for each in done])
    wealth = np.prod(1 + daily_returns(bars, done, 0, cost))
    # backtesting.py adds the cost to the price, we take it from the capital: c squared a trade
    on_top = wealth / (1 - (cost / 10_000) ** 2) ** len(done)
    assert theirs["Equity Final [$]"] / 1e13 == pytest.approx(on_top, rel=1e-5)
