"""What a series of daily returns is worth, and how much of it luck explains."""

from statistics import NormalDist
from typing import Any

import numpy as np

from patchscale.backtest.bootstrap import estimates, mean

SESSIONS_PER_YEAR = 252
ROUNDING = 1e-6
NORMAL = NormalDist()
SHARPES = ("sharpe", "sharpe_error", "probabilistic_sharpe")


def performance(returns: np.ndarray, horizon: int) -> dict[str, Any]:
    """Return growth, risk and Sharpe ratio of daily returns.

    Sharpe is annualised with 252 sessions against a rate of zero, with a 95 % interval over blocks
    of days; None, with the reason under `undefined`, where returns do not vary.
    """
    equity = np.cumprod(1 + returns)
    peak = np.maximum.accumulate(np.append(1.0, equity))[1:]
    figures: dict[str, Any] = {
        "sessions": len(returns),
        "total_return": float(equity[-1] - 1),
        "cagr": float(equity[-1] ** (SESSIONS_PER_YEAR / len(returns)) - 1),
        "volatility": float(np.sqrt(SESSIONS_PER_YEAR) * returns.std(ddof=1)),
        "max_drawdown": float((equity / peak - 1).min()),
        **estimates(lambda days: {"sharpe": sharpe(returns, days)}, len(returns), horizon),
        "sharpe_error": sharpe_error(returns),
        "undefined": {},
    }
    ratio, error = figures["sharpe"], figures["sharpe_error"]
    if ratio is None or error is None:
        figures |= {"sharpe": None, "sharpe_error": None, "probabilistic_sharpe": None}
        figures["undefined"] = dict.fromkeys(SHARPES, "no return differs from the others")
    else:
        figures["probabilistic_sharpe"] = probabilistic_sharpe(ratio, error)
        if figures["sharpe_low"] is None:
            why = "more than 5 % of the resamples have no sharpe"
            figures["undefined"] = {"interval of sharpe": why}
    return figures


def sharpe(returns: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return the annualised Sharpe ratio of each draw; `(n,), (draws, n) -> (draws,)`."""
    n, centre = len(returns), returns.mean()  # centred first: squares of small numbers
    average = mean(days, returns - centre)
    variance = (mean(days, (returns - centre) ** 2) - average**2) * n / (n - 1)
    # draws without a trade have no spread but that of rounding
    spread = np.sqrt(np.where(variance > ROUNDING * returns.var(), variance, np.nan))
    ratio: np.ndarray = np.sqrt(SESSIONS_PER_YEAR) * (average + centre) / spread
    return ratio


def sharpe_error(returns: np.ndarray) -> float | None:
    """Return the standard error of the annualised Sharpe ratio; None where returns do not vary.

    sqrt((1 - skew SR + (kurtosis - 1) / 4 SR^2) / (n - 1)) a session: independent days, any
    distribution (Mertens 2002). The bootstrap's interval drops the first of the two.
    """
    centred = returns - returns.mean()
    if not centred.any():
        return None
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


def expected_best_sharpe(tried: int, sessions: int) -> float:
    """Return the annualised Sharpe ratio that the best of `tried` strategies without skill has.

    Those are taken for independent, each with the sampling error of zero skill, 1 / sqrt(n - 1) a
    session: what a search tried was never traded on the test year, so its spread is unknown.
    Strategies that resemble each other have less, so this asks for too much rather than too little.
    """
    if tried < 2:
        return 0.0
    best = (1 - np.euler_gamma) * NORMAL.inv_cdf(1 - 1 / tried)
    best += np.euler_gamma * NORMAL.inv_cdf(1 - 1 / (tried * np.e))
    return float(best * np.sqrt(SESSIONS_PER_YEAR / (sessions - 1)))
