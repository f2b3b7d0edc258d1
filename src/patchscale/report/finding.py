"""The finding of the study: at most 90 words, one claim a sentence, derived from the figures.

It speaks of all test years where a size was walked through them, else of the fixed test year.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from patchscale.backtest.bootstrap import Estimate
from patchscale.backtest.judge import BENCHMARK
from patchscale.report.comparison import Difference, Thousandfold
from patchscale.report.scaling import SizeEffect
from patchscale.verdict.power import POWER
from patchscale.verdict.result import Rival, Verdict
from patchscale.verdict.slope import SlopeTest

SIGNIFICANCE = 0.05
MOST_NAMES = 2
"""Longer lists of names are counted instead."""
NORMAL = NormalDist()
WORDS = {
    "prior": "the training prior",
    "persistence": "persistence",
    "vol_logistic": "the volatility logistic",
    "har_logistic": "the HAR logistic",
    "boosting": "gradient boosting",
}


@dataclass(frozen=True)
class FixedYear:
    """What the fixed test year says."""

    budgets: list[str]
    """Trained sizes, smallest first."""
    untrained: list[str]
    ensembles: dict[str, Difference]
    """For each trained cell the comparison of its ensemble of seeds with the bar."""
    singles: dict[str, Difference]
    """Likewise of its single seeds on average."""
    evidence: dict[str, float | None]
    """Deflated Sharpe ratio of each trained cell that traded often enough to tell."""
    effects: dict[str, SizeEffect]
    """For each horizon with two sizes the effect of size on the test days."""
    thousandfold: dict[str, Thousandfold]
    """For each horizon the pair of sizes a thousandfold apart, if there is one."""


def finding(market: str, verdict: Verdict, fixed: FixedYear) -> str:
    """Return the finding.

    Parameters
    ----------
    market
        Name of the series.
    verdict
        What the walk forward says.
    fixed
        What the fixed test year says.
    """
    when = ""
    if verdict.sizes and verdict.bar:
        when = "Fixed year: "
        sizes = verdict.sizes.values()
        claims = [
            *(_slope(market, verdict.primary) if verdict.primary else _no_slope(market, verdict)),
            *_against(
                verdict.bar.name,
                "size",
                [(row.single_seeds.mean.value, row.single_seeds.p_holm) for row in sizes],
                [
                    (row.ensemble.mean.value, row.ensemble.p_holm)
                    for name, row in verdict.sizes.items()
                    if verdict.seeds[name] > 1
                ],
            ),
            *_lower_rivals(verdict),
        ]
    elif fixed.ensembles:
        claims = [
            *_in_one_year(market, fixed),
            *_against(
                BENCHMARK,
                "cell",
                [(row.vs_bar.value, row.dm_p_holm) for row in fixed.singles.values()],
                [(row.vs_bar.value, row.dm_p_holm) for row in fixed.ensembles.values()],
            ),
        ]
    else:
        return "No cell has been trained, so nothing can be said yet."
    return " ".join(
        [*claims, *_thousandfold(fixed, when), *_trading(fixed), *_not_run(verdict, fixed)]
    )


def _slope(market: str, found: SlopeTest) -> list[str]:
    if found.p >= SIGNIFICANCE:
        verb = "does not measurably change"
    else:
        verb = f"measurably {'falls' if found.mean.value < 0 else 'rises'}"
    slope, smallest, biggest = found.mean, found.sizes[0], found.sizes[-1]
    known = math.isfinite(slope.low)
    interval = f" [{slope.low:+.4f}, {slope.high:+.4f}]" if known else ""
    power = (
        "too few years to tell"
        if found.visible is None
        else f"{POWER:.0%} power at {found.visible:.4f}"
    )
    return [
        f"On {market}, PatchTST's log-loss {verb} with size ({smallest} to {biggest}; "
        f"{_number(found.years, 'test year')}).",
        f"Tenfold size adds {slope.value:+.4f} nats{interval}, p {p_text(found.p)} ({power}).",
    ]


def _no_slope(market: str, verdict: Verdict) -> list[str]:
    years = _number(len(verdict.years), "test year")
    return [f"On {market} fewer than two sizes have all of {years}: nothing is said of size."]


def _in_one_year(market: str, fixed: FixedYear) -> list[str]:
    effects = fixed.effects
    if not effects:
        return [f"With one size trained, nothing can be said of size on {market}."]
    sure = {name: row for name, row in effects.items() if row.slope_p_holm < SIGNIFICANCE}
    falls = [name for name, row in sure.items() if row.slope.value < 0]
    rises = [name for name, row in sure.items() if row.slope.value > 0]
    smallest, biggest = fixed.budgets[0], fixed.budgets[-1]
    if not sure:
        size = (
            f"In one test year, a PatchTST of {biggest} parameters forecasts {market} neither "
            f"measurably better nor worse than one of {smallest} at any horizon."
        )
    else:
        size = (
            f"In one test year, from {smallest} to {biggest} parameters, a bigger PatchTST "
            f"forecasts {market} measurably better at {names(falls, 'horizons') or 'no horizon'} "
            f"and worse at {names(rises, 'horizons') or 'none'}."
        )
    seen = sorted(detectable(row.slope, len(effects)) for row in effects.values())
    return [
        size,
        f"Changes of {seen[0]:.3f} to {seen[-1]:.3f} per tenfold size would show with "
        f"{POWER:.0%} power.",
    ]


TESTED = " ({}measurably, tested afterwards)"
Tested = list[tuple[float, float]]
"""For each forecast its mean difference to the bar, and the p-value corrected by Holm."""


def _against(bar: str, what: str, singles: Tested, ensembles: Tested) -> list[str]:
    """Return how many of the sizes or cells beat the bar, and how many lost to it."""
    counts = [*_measurable(singles), *_measurable(ensembles)]
    if ensembles and not any(counts):
        return [
            f"No {what} measurably beats or loses to {WORDS[bar]}, as single seeds or ensembles."
        ]
    better, worse, better_together, worse_together = (count or "none" for count in counts)
    alone = (
        f"Single seeds: {better} of {_number(len(singles), what)} measurably beat "
        f"{WORDS[bar]}, {worse} lost"
    )
    together = f"; ensembles: {better_together} of {len(ensembles)}, {worse_together} lost."
    return [f"{alone}{together if ensembles else '.'}"]


def _lower_rivals(verdict: Verdict) -> list[str]:
    """Return which baselines but the bar have lower loss than every size, and which measurably."""
    lowest = min(
        min(row.log_loss_single_seeds, row.log_loss_ensemble) for row in verdict.sizes.values()
    )
    lower = [name for name in WORDS if name in verdict.rivals and verdict.baselines[name] < lowest]
    sure = [name for name in lower if is_measurably_lower(verdict.rivals[name])]
    said = [WORDS[name] + TESTED.format("") * (name in sure) for name in lower]
    if len(lower) > MOST_NAMES:
        said = [f"{len(lower)} baselines{TESTED.format(f'{len(sure)} ') if sure else ''}"]
    return [f"Lower than every size: {', '.join(said)}."] if lower else []


def is_measurably_lower(rival: Rival) -> bool:
    """Tell whether single seeds of every size have a measurably higher loss than a baseline."""
    tests = rival.sizes.values()
    return all(test.mean.value > 0 and test.p_holm < SIGNIFICANCE for test in tests)


def _measurable(tested: Tested) -> tuple[int, int]:
    known = [gap for gap, p in tested if p < SIGNIFICANCE]
    return sum(gap < 0 for gap in known), sum(gap > 0 for gap in known)


def _trading(fixed: FixedYear) -> list[str]:
    if not fixed.ensembles:
        return []
    if not fixed.evidence:
        return ["Trading says nothing either way."]
    earned = sum((p or 0) >= 1 - SIGNIFICANCE for p in fixed.evidence.values())
    who = f"{earned} of {len(fixed.ensembles)} cells"
    return [f"Trading {who} beats luck." if earned else "Trading shows no skill beyond luck."]


def _thousandfold(fixed: FixedYear, when: str) -> list[str]:
    """Return how the biggest size did against one of a thousandth of its parameters."""
    biggest = fixed.budgets[-1] if fixed.budgets else ""
    pairs = {
        horizon: pair
        for horizon, pair in fixed.thousandfold.items()
        if pair.big == f"{biggest}-{horizon}"
    }
    if not pairs:
        return []
    smaller = next(pair.small.removesuffix(f"-{horizon}") for horizon, pair in pairs.items())
    if len(pairs) == 1:
        ((horizon, pair),) = pairs.items()
        gap, one = pair.difference.vs_bar, " (one seed)" * (pair.seeds[0] == 1)
        return [
            f"{when}{biggest}'s loss{one} less {smaller}'s at {horizon} is {gap.value:+.4f} "
            f"[{gap.low:+.4f}, {gap.high:+.4f}]."
        ]
    tested = [(pair.difference.vs_bar.value, pair.difference.dm_p_holm) for pair in pairs.values()]
    better, worse = _measurable(tested)
    return [
        f"{when}{biggest} measurably beats {smaller} at {better}, loses at {worse} of "
        f"{_number(len(pairs), 'horizon')}."
    ]


def _not_run(verdict: Verdict, fixed: FixedYear) -> list[str]:
    """Return what was not run at all, and what was not run in all test years."""
    absent, once = fixed.untrained, []
    if verdict.sizes:
        absent = [name for name in verdict.not_walked if name in fixed.untrained]
        once = [name for name in verdict.not_walked if name not in absent]
    lists = {
        "not run": absent,
        "fixed year only": once,
        "walked in part": [*verdict.missing],
    }
    said = "; ".join(f"{what}: {names(given, 'sizes')}" for what, given in lists.items() if given)
    return [f"{said[0].upper()}{said[1:]}."] if said else []


def names(given: list[str], what: str) -> str:
    """Return names as a list, or how many there are."""
    return ", ".join(given) if len(given) <= MOST_NAMES else f"{len(given)} {what}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def detectable(estimate: Estimate, tests: int) -> float:
    """Return the effect that a test finds with a power of 80 %, the strictest of Holm's tests.

    The error of the estimate is taken from its 95 % interval, as if it were normal.
    """
    error = (estimate.high - estimate.low) / 2 / NORMAL.inv_cdf(1 - SIGNIFICANCE / 2)
    return error * (NORMAL.inv_cdf(1 - SIGNIFICANCE / (2 * tests)) + NORMAL.inv_cdf(POWER))
