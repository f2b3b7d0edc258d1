"""Growth, risk and Sharpe ratio of daily returns, and the Sharpe ratio that luck explains."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from patchscale.backtest.bootstrap import UNDEFINED, Estimate, block_length, estimates, mean

SESSIONS_PER_YEAR = 252
ROUNDING = 1e-6
NORMAL = NormalDist()
SHARPES = ("sharpe", "sharpe_error", "probabilistic_sharpe")


@dataclass(frozen=True)
class Performance:
    """Growth, risk and Sharpe ratio of daily returns."""

    sessions: int
    total_return: float
    cagr: float
    volatility: float
    """Annualised with 252 sessions, as are the Sharpe ratio and its error."""
    max_drawdown: float
    sharpe: Estimate
    """Of the returns in excess of what cash earns, as are the next two."""
    sharpe_error: float | None
    probabilistic_sharpe: float | None
    undefined: dict[str, str]
    """Reason of each figure, and `interval of` a figure, that is undefined."""


def performance(returns: np.ndarray, horizon: int, cash: float = 0.0) -> Performance:
    """Return growth, risk and Sharpe ratio of daily returns, shape (n,).

    The Sharpe ratio is that of the returns in excess of `cash`, what cash earns a session. Cash
    alone is thereby no skill.
    """
    equity = np.cumprod(1 + returns)
    peak = np.maximum.accumulate(np.append(1.0, equity))[1:]
    block, excess = block_length(returns, horizon), returns - cash
    statistics = estimates(lambda days: {"sharpe": sharpe(excess, days)}, len(returns), block)
    ratio, error, probability = statistics["sharpe"], sharpe_error(excess), None
    undefined = {}
    if math.isnan(ratio.value) or error is None:
        ratio, error = UNDEFINED, None
        undefined = dict.fromkeys(SHARPES, "no return differs from the others")
    else:
        probability = probabilistic_sharpe(ratio.value, error)
        if math.isnan(ratio.low):
            undefined = {"interval of sharpe": "more than 5 % of the resamples have no sharpe"}
    return Performance(
        sessions=len(returns),
        total_return=float(equity[-1] - 1),
        cagr=float(equity[-1] ** (SESSIONS_PER_YEAR / len(returns)) - 1),
        volatility=float(np.sqrt(SESSIONS_PER_YEAR) * returns.std(ddof=1)),
        max_drawdown=float((equity / peak - 1).min()),
        sharpe=ratio,
        sharpe_error=error,
        probabilistic_sharpe=probability,
        undefined=undefined,
    )


def sharpe(returns: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return the annualised Sharpe ratio of each draw; `(n,), (draws, n) -> (draws,)`."""
    n, centre = len(returns), returns.mean()  # centred first, for precision of the squares
    average = mean(days, returns - centre)
    variance = (mean(days, (returns - centre) ** 2) - average**2) * n / (n - 1)
    # a draw without a trade has a variance of rounding errors only
    spread = np.sqrt(np.where(variance > ROUNDING * returns.var(), variance, np.nan))
    ratio: np.ndarray = np.sqrt(SESSIONS_PER_YEAR) * (average + centre) / spread
    return ratio


def sharpe_error(returns: np.ndarray) -> float | None:
    """Return the standard error of the annualised Sharpe ratio; None where returns do not vary.

    For a session it is sqrt((1 - skew SR + (kurtosis - 1) / 4 SR^2) / (n - 1)), for independent
    days of any distribution (Mertens 2002). The bootstrap interval does not assume independence.
    """
    if np.ptp(returns) == 0:
        return None
    centred = returns - returns.mean()
    ratio = returns.mean() / returns.std(ddof=1)
    z = centred / returns.std()
    variance = 1 - (z**3).mean() * ratio + ((z**4).mean() - 1) / 4 * ratio**2
    return float(np.sqrt(SESSIONS_PER_YEAR * variance / (len(returns) - 1)))


def probabilistic_sharpe(ratio: float, error: float, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio exceeds `benchmark`; all annualised.

    With `expected_best_sharpe` as the benchmark it is the deflated Sharpe ratio.

    References
    ----------
    Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier"; (2014), "The Deflated
    Sharpe Ratio".
    """
    return NORMAL.cdf((ratio - benchmark) / error)


def expected_best_sharpe(strategies: int, sessions: int) -> float:
    """Return the annualised Sharpe ratio that luck alone gives the best of several strategies.

    What is counted are the strategies judged on the same sessions. Settings and thresholds that
    validation rejected were never traded there, so that luck in these sessions chose none of them.
    The strategies are assumed to be independent, each with the sampling error of zero skill,
    1 / sqrt(n - 1) a session. The best of strategies that resemble each other has a lower ratio,
    so that this benchmark is too high rather than too low.
    """
    if strategies < 2:
        return 0.0
    best = (1 - np.euler_gamma) * NORMAL.inv_cdf(1 - 1 / strategies)
    best += np.euler_gamma * NORMAL.inv_cdf(1 - 1 / (strategies * np.e))
    return float(best * np.sqrt(SESSIONS_PER_YEAR / (sessions - 1)))


def deflated_sharpe(strategy: Performance, strategies: int) -> float | None:
    """Return the probability that a strategy, the best of so many, has skill.

    It is None where the strategy has no Sharpe ratio.
    """
    if strategy.sharpe_error is None:
        return None
    benchmark = expected_best_sharpe(strategies, strategy.sessions)
    return probabilistic_sharpe(strategy.sharpe.value, strategy.sharpe_error, benchmark)
