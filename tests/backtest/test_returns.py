import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap
from skfolio import measures as oracle

from patchscale.backtest.bootstrap import UNDEFINED, counts
from patchscale.backtest.returns import (
    deflated_sharpe,
    expected_best_sharpe,
    performance,
    probabilistic_sharpe,
    sharpe,
    sharpe_error,
)

YEAR = 252**0.5


def skewed(seed: int, n: int = 250) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 0.001 + 0.01 * random.standard_t(4, n) - 0.005 * (random.random(n) < 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_the_probabilistic_sharpe_ratio_is_skfolios(seed):
    returns = skewed(seed)
    row = performance(returns, 1)
    assert row.probabilistic_sharpe == pytest.approx(oracle.probabilistic_sharpe_ratio(returns))
    above = probabilistic_sharpe(row.sharpe.value, row.sharpe_error, 0.5 * YEAR)
    assert above == pytest.approx(
        oracle.probabilistic_sharpe_ratio(returns, benchmark_sharpe_ratio=0.5)
    )


@pytest.mark.parametrize("strategies", [1, 2, 30, 44, 764])
def test_expected_best_sharpe_equals_that_of_skfolio(strategies):
    theirs = oracle.expected_max_sharpe_ratio(strategies, trial_sharpe_ratio_std=(250 - 1) ** -0.5)
    assert expected_best_sharpe(strategies, 250) == pytest.approx(YEAR * theirs)


def test_the_deflated_sharpe_ratio_equals_that_of_skfolio():
    returns, random = skewed(1), np.random.default_rng(0)
    ratios = random.standard_normal(100)
    # as spread out as the sampling error of zero skill over so many sessions
    ratios *= (len(returns) - 1) ** -0.5 / ratios.std(ddof=1)
    row = performance(returns, 1)
    assert deflated_sharpe(row, 100) == pytest.approx(oracle.deflated_sharpe_ratio(returns, ratios))


def test_more_strategies_leave_less_to_skill():
    row = performance(skewed(1), 1)
    chances = [deflated_sharpe(row, strategies) for strategies in (1, 2, 44)]
    assert chances[0] == row.probabilistic_sharpe
    assert chances == sorted(chances, reverse=True)
    assert deflated_sharpe(performance(np.zeros(60), 1), 44) is None


def test_expected_best_sharpe_equals_a_simulation():
    random = np.random.default_rng(0)
    best = [
        (YEAR * r.mean(axis=1) / r.std(axis=1, ddof=1)).max()
        for r in random.standard_normal((200, 100, 250))
    ]
    assert np.mean(best) == pytest.approx(expected_best_sharpe(100, 250), rel=0.03)


def test_the_sharpe_ratio_of_a_draw_is_that_of_its_days():
    returns = skewed(3)
    draws = StationaryBootstrap(20, returns, seed=0).bootstrap(20)
    expected = [YEAR * r[0].mean() / r[0].std(ddof=1) for r, _ in draws]
    assert sharpe(returns, counts(250, 20)[0][:20]) == pytest.approx(expected, rel=1e-4)


def test_the_figures_of_returns_by_hand():
    returns = np.array([0.1, -0.5, 0.2])
    row = performance(returns, 20)
    assert row.sessions == 3
    assert row.total_return == pytest.approx(1.1 * 0.5 * 1.2 - 1)
    assert row.cagr == pytest.approx(0.66 ** (252 / 3) - 1)
    assert row.max_drawdown == pytest.approx(-0.5)
    assert row.volatility == pytest.approx(YEAR * returns.std(ddof=1))
    assert row.sharpe.value == pytest.approx(YEAR * returns.mean() / returns.std(ddof=1))
    assert row.sharpe.low <= row.sharpe.value <= row.sharpe.high


def test_the_error_of_normal_returns_is_the_textbook_formula():
    returns = np.random.default_rng(0).standard_normal(100_000)
    assert sharpe_error(returns) == pytest.approx(YEAR * 100_000**-0.5, rel=0.01)


def test_constant_returns_have_no_sharpe_but_a_reason():
    row = performance(np.zeros(60), 1)
    assert row.sharpe is UNDEFINED
    assert row.sharpe_error is row.probabilistic_sharpe is None
    assert row.undefined["sharpe"] == "no return differs from the others"
    assert row.total_return == row.max_drawdown == row.volatility == 0


@pytest.mark.parametrize("size", [1e-5, 0.01, 0.3])
def test_a_draw_without_a_trade_has_no_sharpe_despite_rounding(size):
    returns = np.zeros(250)
    returns[240:247] = size * np.array([1.0, -0.7, 1.3, 0.4, -0.2, 0.9, 0.1])
    days = counts(250, 20)[0]
    traded = (days[:, 240:247] > 0).any(axis=1)
    assert 0.02 < (~traded).mean() < 0.5
    assert np.array_equal(np.isfinite(sharpe(returns, days)), traded)


def test_trades_in_few_draws_have_an_undefined_interval_with_a_reason():
    returns = np.zeros(250)
    returns[240:245] = [0.01, -0.02, 0.03, 0.01, -0.01]
    row = performance(returns, 1)
    assert np.isfinite(row.sharpe.value)
    assert np.isnan([row.sharpe.low, row.sharpe.high]).all()
    assert list(row.undefined) == ["interval of sharpe"]
