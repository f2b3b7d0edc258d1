"""Sentences on how sure the finding is, derived from the figures."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

from patchscale.report.finding import SIGNIFICANCE, WORDS, p_text
from patchscale.report.tables import with_interval
from patchscale.verdict.power import POWER
from patchscale.verdict.result import Verdict
from patchscale.verdict.slope import SlopeTest

Seen = Mapping[str, Mapping[str, bool]]
"""For each walked budget and test year whether its settings were chosen on days of that year."""


def seen_years(seen: Seen) -> list[int]:
    """Return the test years on whose days the settings of any budget were chosen."""
    return sorted({int(year) for rows in seen.values() for year, saw in rows.items() if saw})


def settings_saw(verdict: Verdict, seen: Seen) -> str:
    """Return the sentence on the test years that the choice of the settings saw."""
    saw = seen_years(seen)
    unseen = [year for year in verdict.years if year not in saw]
    if not saw:
        return "No settings were chosen on days of these test years."
    if not unseen:
        return "Settings were chosen on days of all of these test years."
    return f"Settings were chosen on days of {years(saw)}, but not of {years(unseen)}."


def years(given: Collection[int]) -> str:
    """Return ascending years as text, in ranges."""
    runs: list[list[int]] = []
    for year in given:
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(f"{run[0]} to {run[-1]}" if run[1:] else str(run[0]) for run in runs)


def certainty(verdict: Verdict, seen: Seen, base: str, takers: Collection[str]) -> list[str]:
    """Return the sentences on the certainty of a finding of several test years, in paragraphs.

    Parameters
    ----------
    verdict
        What the walk forward says.
    seen
        See `Seen`.
    base, takers
        The budget that was searched, and the walked ones that take over its settings.
    """
    too_low = " Losses of seen years may be lower than those of new ones." * bool(seen_years(seen))
    return [
        *(_of_slope(verdict.primary) if verdict.primary else []),
        f"**Settings.** {settings_saw(verdict, seen)}{too_low}{_of_transfer(base, takers)}",
        *_of_ensembles(verdict),
        *_of_steps(verdict),
        *_of_years(verdict),
        *_of_bar(verdict),
    ]


def _of_slope(found: SlopeTest) -> list[str]:
    said = (
        f"**Test.** There is one primary test, declared before these years were trained: exact "
        f"sign flips of the {found.years} yearly slopes. The smallest p-value of so many years is "
        f"{found.least_p:.2g}. Slopes of years count as independent, though successive "
        "years share most of their training days."
    )
    if found.visible is None:
        return [said, "**Power.** Fewer than six years cannot reach p < 0.05, whatever they show."]
    of, spread = found.effects, []
    if of.between_years is not None:
        spread.append(f"years differ by a standard deviation of {of.between_years:.4f}")
    if of.between_seeds is not None:
        spread.append(f"the draw of the seeds adds {of.between_seeds:.4f}")
    power = (
        f"**Power.** A slope of {found.visible:.4f} either way would have been seen in "
        f"{100 * POWER:.0f} % of studies with this spread of years; a smaller one perhaps not."
    )
    return [said, f"{power} Among the slopes {' and '.join(spread)}." if spread else power]


def _of_ensembles(verdict: Verdict) -> list[str]:
    found = verdict.ensembles
    if found is None or max(verdict.seeds.values()) == 1:
        return []
    return [
        f"**Ensembles.** The slope is that of single seeds. With ensembles of each size's seeds it "
        f"is {with_interval(found.mean, '+.4f')}, p {p_text(found.p)}, and rose in {found.higher} "
        f"of {found.years} years. This was looked at after the test years were known."
    ]


def _of_transfer(base: str, takers: Collection[str]) -> str:
    if not takers:
        return ""
    return (
        f" {', '.join(takers)} {'take' if len(takers) > 1 else 'takes'} over the settings of "
        f"{base}: a difference between sizes may also come from how well they suit each size."
    )


def _of_steps(verdict: Verdict) -> list[str]:
    """Return between which sizes the loss changes, if a straight line has more than two."""
    if len(verdict.steps) < 2 or verdict.primary is None:
        return []
    steps = ", ".join(
        f"{verdict.steps[big].mean.value:+.4f} from {small} to {big}"
        for small, big in pairwise(verdict.primary.sizes)
    )
    sure = sum(step.p_holm < SIGNIFICANCE for step in verdict.steps.values())
    return [
        f"**Where.** A slope is a straight line through all sizes. From each size to the next the "
        f"loss changes by {steps}; {sure or 'none'} of these {len(verdict.steps)} steps "
        f"{'is' if sure == 1 else 'are'} measurable. These steps were looked at after the test "
        "years were known."
    ]


def _of_years(verdict: Verdict) -> list[str]:
    said = [_of_part(verdict, name) for name in verdict.missing]
    once = [name for name in verdict.by_size if verdict.seeds[name] == 1]
    if once:
        said.append(
            f"Trained once a year and horizon, so that one seed is its own ensemble: "
            f"{', '.join(once)}. The noise of its seed is taken from the other sizes."
        )
    if verdict.not_walked:
        said.append(f"Without any test year: {', '.join(verdict.not_walked)}.")
    return [f"**What is missing.** {' '.join(said)}"] if said else []


def _of_part(verdict: Verdict, name: str) -> str:
    """Return what a walked size lacks, and how its cells did against the next smaller size."""
    lacking: dict[str, list[str]] = {}
    for horizon, missing in verdict.missing[name].items():
        lacking.setdefault(years(missing), []).append(horizon)
    what = "; ".join(f"{when} at {', '.join(at)}" for when, at in lacking.items())
    tests = "".join(
        f" {cells} is {with_interval(step.mean, '+.4f')}, p {p_text(step.p_holm)} ({step.years} "
        "years)."
        for cells, step in verdict.partial_steps.items()
        if cells.startswith(f"{name}-")
    )
    return f"{name} lacks {what}: it is not in the slope.{tests}"


def _of_bar(verdict: Verdict) -> list[str]:
    if verdict.bar is None:
        return []
    bar, words = verdict.bar, WORDS[verdict.bar.name]
    lower = [WORDS[name] for name, row in verdict.rivals.items() if row.overall.mean.value < 0]
    over = "Over the test years themselves"
    then = f"{over} {' and '.join(lower)} had a lower log-loss." if lower else f"{over} it led too."
    return [
        f"**Bar.** {words[0].upper()}{words[1:]} had the lowest log-loss of the simple rivals in "
        f"{bar.first_test_year - 1}, the validation year of the first test year. Gradient boosting "
        f"is no candidate, because it chooses its trees on validation days. {then}"
    ]


@dataclass(frozen=True)
class Scope:
    """Extent of the fixed test year: its days, its cells, and how much was tried."""

    as_of: str
    days: str
    """Days of the test year, a number or a range over horizons; likewise `positives`."""
    positives: str
    budgets: list[str]
    """Trained budgets, smallest first."""
    once: list[str]
    """Budgets trained with one seed."""
    searched: Collection[str]
    """Budgets whose settings a search chose."""
    slopes: int
    cells: int
    strategies: int
    """Strategies that are judged on the test days."""
    lucky_sharpe: float
    """Sharpe ratio that luck alone gives the best of them."""


def fixed_certainty(scope: Scope, best: dict[str, str]) -> str:
    """Return the sentences on the certainty of what the fixed test year shows.

    Parameters
    ----------
    scope
        Extent of the test year.
    best
        For each horizon the forecast of lowest test log-loss.
    """
    said = [
        f"The fixed test year is {scope.days} days up to {scope.as_of}, {scope.positives} of them "
        f"positive by horizon. Measurably means p < 0.05 after Holm's correction for "
        f"{scope.slopes} slopes and {scope.cells} cells. What trading earned is set against the "
        f"Sharpe ratio of {scope.lucky_sharpe:.1f} that luck alone gives the best of "
        f"{scope.strategies} strategies."
    ]
    if scope.once:
        said.append(f"Trained with one seed: {', '.join(scope.once)}.")
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
