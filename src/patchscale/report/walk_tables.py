"""Markdown tables of all test years: differences to the bar, slopes, years, calibration."""

import math
from collections.abc import Collection, Mapping
from itertools import pairwise

import pandas as pd

from patchscale.backtest.bootstrap import Estimate
from patchscale.report.finding import SIGNIFICANCE, WORDS, p_text
from patchscale.report.tables import table, with_interval
from patchscale.verdict.forecasts import ENSEMBLE
from patchscale.verdict.losses import SINGLE
from patchscale.verdict.result import Verdict
from patchscale.verdict.sign_flip import Corrected, SignFlip

UNIT = 1000
"""Differences are shown in thousandths of a nat."""
SEEN = "†"
"""Mark of a test year on whose days settings were chosen."""
KINDS = {SINGLE: "single seeds", ENSEMBLE: "ensemble"}
ONE = {SINGLE: "one seed"}


def in_units(value: float) -> str:
    """Return a difference in thousandths of a nat, with its sign; zero has a plus."""
    return f"{round(value * UNIT):+d}"


def difference(test: SignFlip | None) -> str:
    """Return a difference with its interval, bold if it is measurable after correction."""
    if test is None:
        return ""
    mean: Estimate = test.mean
    text = in_units(mean.value)
    if math.isfinite(mean.low):
        text += f" [{in_units(mean.low)}, {in_units(mean.high)}]"
    sure = isinstance(test, Corrected) and test.p_holm < SIGNIFICANCE
    return f"**{text}**" if sure else text


def differences_table(
    verdict: Verdict, budgets: Collection[str], trained: Collection[str], horizons: list[str]
) -> str:
    """Return the table of differences to the bar, a row per budget and kind, then the baselines.

    Parameters
    ----------
    verdict
        What the walk forward says.
    budgets
        All budgets, smallest first.
    trained
        Those trained for the fixed test year.
    horizons
        All horizons.
    """
    rows = []
    for budget in budgets:
        if budget in verdict.not_walked:
            years = "none" if budget in trained else "not run"
            rows.append([budget, years, *[""] * (1 + len(horizons))])
            continue
        size = verdict.sizes.get(budget)
        for kind, words in (KINDS if verdict.seeds[budget] > 1 else ONE).items():
            overall: Corrected | None = getattr(size, kind, None)
            cells = [verdict.cells[kind].get(f"{budget}-{horizon}") for horizon in horizons]
            years = str((overall or max(filter(None, cells), key=lambda test: test.years)).years)
            rows.append([f"{budget}, {words}", years, difference(overall), *map(difference, cells)])
    for name in filter(verdict.rivals.get, WORDS):
        rival = verdict.rivals[name]
        tests = [rival.overall, *(rival.horizons[h] for h in horizons)]
        rows.append([WORDS[name], str(rival.overall.years), *map(difference, tests)])
    return table(["forecast", "years", "all", *horizons], rows)


def rivals_table(verdict: Verdict) -> str:
    """Return the table of the differences of the single seeds of each size to each baseline."""
    rivals = {name: verdict.rivals[name] for name in WORDS if name in verdict.rivals}
    rows = [
        [size, *(difference(rival.sizes.get(size)) for rival in rivals.values())]
        for size in verdict.by_size
    ]
    return table(["size", *(WORDS[name] for name in rivals)], rows)


def slopes_table(verdict: Verdict) -> str:
    """Return the table of the primary slope and of the slopes of single horizons."""
    primary: dict[str, SignFlip] = (
        {"all, the primary test": verdict.primary} if verdict.primary else {}
    )
    return changes_table("horizon", "change per tenfold N, nats", primary | verdict.horizons)


def steps_table(verdict: Verdict) -> str:
    """Return the table of the changes of the loss from each size to the next."""
    sizes = verdict.primary.sizes if verdict.primary else []
    steps = {f"{small} to {big}": verdict.steps[big] for small, big in pairwise(sizes)}
    return changes_table("sizes", "change, nats", steps)


def changes_table(first: str, second: str, tests: Mapping[str, SignFlip]) -> str:
    """Return a table of changes of the loss over the test years, a row for each test."""
    rows = [
        [
            name,
            with_interval(test.mean, "+.4f"),
            p_text(test.p),
            p_text(test.p_holm) if isinstance(test, Corrected) else "",
            f"{test.higher} of {test.years}",
        ]
        for name, test in tests.items()
    ]
    return table([first, second, "p", "p (Holm)", "years in which it rose"], rows)


def years_table(yearly: pd.DataFrame, verdict: Verdict, seen: Collection[int]) -> str:
    """Return the table of the yearly slopes and differences of single seeds to the bar.

    Parameters
    ----------
    yearly
        A row per budget, horizon and year, of plots/verdict.csv.
    verdict
        What the walk forward says.
    seen
        Years on whose days settings were chosen.
    """
    horizons = yearly["horizon"].nunique()
    groups = yearly.groupby(["budget", "year"], sort=False)["single_seeds_minus_bar"]
    gaps = groups.mean()[groups.size() == horizons]
    names = list(gaps.index.unique("budget"))
    slopes = verdict.primary.slopes if verdict.primary else {}
    rows = []
    for year in verdict.years:
        slope = slopes.get(str(year))
        of_year = [(name, year) for name in names]
        rows.append(
            [
                marked(year, seen),
                "" if slope is None else f"{slope:+.4f}",
                *(in_units(gaps[key]) if key in gaps.index else "" for key in of_year),
            ]
        )
    return table(["year", "slope", *names], rows)


def calibration_in_years_table(
    verdict: Verdict, bar: str, budgets: Collection[str], seen: Collection[int]
) -> str:
    """Return the table of the share of positive days and the mean probabilities of each year.

    Parameters
    ----------
    verdict
        What the walk forward says.
    bar
        Name of the bar.
    budgets
        All budgets, smallest first.
    seen
        Years on whose days settings were chosen.
    """
    known = {name for row in verdict.calibration.values() for name in row}
    names = [name for name in ("base_rate", bar, *budgets) if name in known]
    rows = [
        [
            marked(int(year), seen),
            *(f"{row[name]:.1%}" if name in row else "" for name in names),
        ]
        for year, row in verdict.calibration.items()
    ]
    words = {"base_rate": "positive days"} | WORDS
    return table(["year", *(words.get(name, name) for name in names)], rows)


def marked(year: int, seen: Collection[int]) -> str:
    """Return a year, marked if settings were chosen on days of it."""
    return f"{year}{SEEN}" if year in seen else str(year)
