"""Sentences that state the finding of the study and its certainty, derived from the figures."""

from collections.abc import Collection
from dataclasses import dataclass
from statistics import NormalDist

from patchscale.backtest.bootstrap import Estimate
from patchscale.backtest.judge import BENCHMARK
from patchscale.report.comparison import Difference
from patchscale.report.scaling import SizeEffect

SIGNIFICANCE = 0.05
POWER = 0.8
NORMAL = NormalDist()
WORDS = {
    "prior": "the training prior",
    "persistence": "persistence",
    "vol_logistic": "the volatility logistic",
    "har_logistic": "the HAR logistic",
    "boosting": "gradient boosting",
}
SIMPLE = ("prior", "persistence", "vol_logistic", "har_logistic")
"""Rivals among which the bar is chosen: boosting has chosen its trees on the validation days."""


@dataclass(frozen=True)
class Scope:
    """Extent of a study: its test year, its cells, and how much was tried."""

    as_of: str
    days: str
    """Days of the test year, a number or a range over horizons; likewise `positives`."""
    positives: str
    budgets: list[str]
    """Trained budgets, smallest first."""
    absent: list[str]
    """Budgets that are not trained."""
    once: list[str]
    """Budgets trained with one seed."""
    searched: Collection[str]
    """Budgets whose settings a search chose."""
    cells: int
    strategies: int
    """Strategies that are judged on the test days."""
    lucky_sharpe: float
    """Sharpe ratio that luck alone gives the best of them."""


def finding(
    market: str,
    budgets: list[str],
    ensembles: dict[str, Difference],
    singles: dict[str, Difference],
    skill: dict[str, float | None],
    effects: dict[str, SizeEffect],
) -> str:
    """Return the finding in one sentence.

    Parameters
    ----------
    market
        Name of the series.
    budgets
        Trained sizes, smallest first.
    ensembles, singles
        For each trained cell the comparisons with the bar of its ensemble of seeds and of its
        single seeds on average.
    skill
        Deflated Sharpe ratio of each trained cell that traded often enough to tell.
    effects
        For each horizon with two sizes the effect of size on the test days.
    """
    if not ensembles:
        return "No cell has been trained, so nothing can be said yet."
    sure = {name: row for name, row in effects.items() if row.slope_p_holm < SIGNIFICANCE}
    falls = [name for name, row in sure.items() if row.slope.value < 0]
    rises = [name for name, row in sure.items() if row.slope.value > 0]
    if not effects:
        size = f"With one size trained, nothing can be said of size on {market}"
    elif not sure:
        size = (
            f"A transformer of {budgets[-1]} parameters forecasts {market} neither measurably "
            f"better nor worse than one of {budgets[0]} at any horizon"
        )
    else:
        size = (
            f"From {budgets[0]} to {budgets[-1]} parameters, a bigger transformer forecasts "
            f"{market} measurably better at {_names(falls, 'no horizon')} and measurably worse at "
            f"{_names(rises, 'none')}"
        )
    (better, worse), (better_alone, worse_alone) = map(_measurable, (ensembles, singles))
    compared = (
        f"{better} of the {len(ensembles)} transformers trained forecast it measurably better than "
        f"{WORDS[BENCHMARK]} and {worse} measurably worse as ensembles of seeds, {better_alone} "
        f"and {worse_alone} as single seeds on average"
    )
    earned = [name for name, p in skill.items() if (p or 0) >= 1 - SIGNIFICANCE]
    seldom = len(ensembles) - len(skill)
    traded = (
        f"trading on {_names(earned, 'none')} of them earned more after costs than luck explains"
    )
    if seldom:
        traded += f", {seldom} of them having traded too seldom to tell"
    return f"{size}; {compared}; and {traded}."


def _measurable(cells: dict[str, Difference]) -> tuple[int, int]:
    """Return how many cells are measurably better than the bar, and how many worse."""
    known = [row.vs_bar.value for row in cells.values() if row.dm_p_holm < SIGNIFICANCE]
    return sum(gap < 0 for gap in known), sum(gap > 0 for gap in known)


def certainty(scope: Scope, effects: dict[str, SizeEffect], best: dict[str, str]) -> str:
    """Return the sentences on the certainty of the finding.

    Parameters
    ----------
    scope
        Extent of the study.
    effects
        As in `finding`.
    best
        For each horizon the forecast of lowest test log-loss.
    """
    said = [
        f"How sure: the test is {scope.days} days up to {scope.as_of}, "
        f"{scope.positives} of them positive by horizon. Measurably means p < 0.05 after "
        f"Holm's correction for {len(effects)} slopes and {scope.cells} cells; what trading "
        f"earned is set against the Sharpe ratio of {scope.lucky_sharpe:.1f} that luck alone gives "
        f"the best of {scope.strategies} strategies."
    ]
    if effects:
        seen = sorted(detectable(row.slope, len(effects)) for row in effects.values())
        said.append(
            f"A change of log-loss of {seen[0]:.3f} to {seen[-1]:.3f} per tenfold N, by horizon, "
            f"would have been seen with a power of {100 * POWER:.0f} %; a smaller one perhaps not."
        )
    if scope.once:
        said.append(f"Trained with one seed: {', '.join(scope.once)}.")
    if scope.absent:
        said.append(f"Not run: {', '.join(scope.absent)}.")
    leaders: dict[str, list[str]] = {}
    for horizon, name in best.items():
        leaders.setdefault(WORDS.get(name, name), []).append(horizon)
    led = " and ".join(f"{name} ({', '.join(at)})" for name, at in leaders.items())
    said.append(f"The lowest test log-loss is that of {led}.")
    tuned = [name for name in scope.budgets if name in scope.searched]
    rest = [name for name in scope.budgets if name not in scope.searched]
    if tuned and rest:
        said.append(
            f"A search chose the settings of {', '.join(tuned)} and not those of "
            f"{', '.join(rest)}: a difference between sizes may be one of tuning."
        )
    return " ".join(said)


def detectable(estimate: Estimate, tests: int) -> float:
    """Return the effect that a test finds with a power of 80 %, the strictest of Holm's tests.

    The error of the estimate is taken from its 95 % interval, as if it were normal.
    """
    error = (estimate.high - estimate.low) / 2 / NORMAL.inv_cdf(1 - SIGNIFICANCE / 2)
    return error * (NORMAL.inv_cdf(1 - SIGNIFICANCE / (2 * tests)) + NORMAL.inv_cdf(POWER))


def _names(names: list[str], nothing: str) -> str:
    return ", ".join(names) or nothing
