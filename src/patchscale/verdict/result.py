"""The verdict: what the walk-forward test years say of size, and of the networks and the bar."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from patchscale.verdict.bar import Bar
from patchscale.verdict.effects import RandomEffects, random_effects, seed_variances
from patchscale.verdict.forecasts import ENSEMBLE
from patchscale.verdict.losses import SINGLE, Sizes, Yearly, over_horizons
from patchscale.verdict.sign_flip import Corrected, SignFlip, corrected, sign_flip
from patchscale.verdict.slope import SlopeTest, slope_test, slope_weights
from patchscale.verdict.tables import calibration


@dataclass(frozen=True)
class SizeVerdict:
    """A size over the years in which it is walked at all horizons; means over horizons."""

    n_params: float
    log_loss_single_seeds: float
    log_loss_ensemble: float
    single_seeds: Corrected
    """Loss of single seeds on average, less that of the bar; Holm over sizes."""
    ensemble: Corrected
    """Loss of the mean probability of the seeds, less that of the bar; Holm over sizes."""
    effects: RandomEffects
    """Of `single_seeds`."""


@dataclass(frozen=True)
class Rival:
    """A baseline over all test years, nats."""

    overall: SignFlip
    """Its log-loss less that of the bar, mean over horizons."""
    horizons: dict[str, SignFlip]
    """Likewise of each horizon."""
    sizes: dict[str, Corrected]
    """For each size the loss of its single seeds less that of this baseline, over the years in
    which it is walked at all horizons; Holm over sizes and baselines."""


@dataclass(frozen=True)
class Verdict:
    """All of metrics/verdict/details.json."""

    years: list[int]
    """The test years."""
    bar: Bar | None
    """None without test years, as all that follows is then empty."""
    baselines: dict[str, float]
    """Log-loss of every baseline in the test years, mean over horizons and years, nats."""
    rivals: dict[str, Rival]
    """Every baseline but the bar; its tests against the bar are not corrected."""
    not_walked: list[str]
    """Budgets without any test year."""
    seeds: dict[str, int]
    """Seeds of each walked budget."""
    missing: dict[str, dict[str, list[int]]]
    """For each walked budget that lacks a test year at any horizon those years, by horizon: it is
    not in `primary`."""
    primary: SlopeTest | None
    """The one primary test, mean over horizons and seeds; None with fewer than two sizes."""
    horizons: dict[str, Corrected]
    """Slope of each horizon; Holm over horizons."""
    ensembles: SignFlip | None
    """Slope of the losses of ensembles, where `primary` has that of single seeds."""
    steps: dict[str, Corrected]
    """Loss of each size in `primary` but the smallest, less that of the next smaller one, mean over
    horizons and seeds; Holm over steps."""
    partial_steps: dict[str, Corrected]
    """Of each cell of a size outside `primary` the loss less that of the next smaller size in it,
    single seeds on average over the years of the cell, as `200M-h5 less 20M-h5`; Holm over all."""
    sizes: dict[str, SizeVerdict]
    cells: dict[str, dict[str, Corrected]]
    """Difference to the bar of each cell, of `single_seeds` and of `ensemble`; Holm over cells."""
    calibration: dict[str, dict[str, float]]
    """For each year the base rate and the mean probability of the bar and of each budget, means
    over horizons."""

    @property
    def by_size(self) -> dict[str, SizeVerdict]:
        """`sizes`, smallest first; the file has them by name."""
        return dict(sorted(self.sizes.items(), key=lambda item: item[1].n_params))


def no_verdict(budgets: list[str]) -> Verdict:
    """Return the verdict of a study without test years."""
    cells: dict[str, dict[str, Corrected]] = {SINGLE: {}, ENSEMBLE: {}}
    return Verdict([], None, {}, {}, budgets, {}, {}, None, {}, None, {}, {}, {}, cells, {})


def judge(
    sizes: Sizes,
    not_walked: list[str],
    baselines: Yearly,
    bar: Bar,
) -> Verdict:
    """Return the verdict.

    Parameters
    ----------
    sizes
        The walked budgets, by name.
    not_walked
        The others.
    baselines
        Losses of the baselines, which have all horizons and years.
    bar
        The rival to compare with.
    """
    n_horizons, bars = len(baselines.losses.groupby("horizon")), baselines.losses[bar.name]
    years = sorted(set(baselines.losses.index.get_level_values("year")))
    whole = {name: over_horizons(size.seeds, n_horizons) for name, size in sizes.items()}
    missing = {
        name: lacking
        for name, size in sizes.items()
        if (lacking := lacking_years(size.seeds.index, baselines.losses.index))
    }
    complete = {name: size.n_params for name, size in sizes.items() if name not in missing}
    complete = dict(sorted(complete.items(), key=lambda item: item[1]))
    has_slope = len(set(complete.values())) > 1
    primary, horizons, ensembles, steps = None, {}, None, {}
    if has_slope:
        losses = {name: whole[name].to_numpy() for name in complete}
        primary = slope_test(losses, list(complete.values()), years)
        slopes = yearly_slopes(sizes, complete, SINGLE)
        horizons = corrected(
            {str(name): sign_flip(of_years) for name, of_years in slopes.groupby("horizon")}
        )
        ensembles = sign_flip(yearly_slopes(sizes, complete, ENSEMBLE).groupby("year").mean())
        steps = corrected(
            {
                name: sign_flip(bigger.mean(axis=1) - smaller.mean(axis=1))
                for (_, smaller), (name, bigger) in pairwise(losses.items())
            }
        )
    gaps = {
        kind: {
            name: size.loss(kind) - bars.reindex(size.seeds.index) for name, size in sizes.items()
        }
        for kind in (SINGLE, ENSEMBLE)
    }
    against = against_rivals(whole, over_horizons(baselines.losses, n_horizons), bar)
    return Verdict(
        years=years,
        bar=bar,
        baselines={str(name): float(loss) for name, loss in baselines.losses.mean().items()},
        rivals={
            name: rival(baselines.losses[name] - bars, tests) for name, tests in against.items()
        },
        not_walked=not_walked,
        seeds={name: size.seeds.shape[1] for name, size in sizes.items()},
        missing=missing,
        primary=primary,
        horizons=horizons,
        ensembles=ensembles,
        steps=steps,
        partial_steps=partial_steps(sizes, complete),
        sizes=size_verdicts(sizes, gaps, n_horizons),
        cells={kind: cell_tests(rows) for kind, rows in gaps.items()},
        calibration=calibration(sizes, baselines, bar, n_horizons),
    )


def lacking_years(found: pd.Index, every: pd.Index) -> dict[str, list[int]]:
    """Return for each horizon the years that are not found, given indices of both."""
    lacking: dict[str, list[int]] = {}
    for horizon, year in sorted(every.difference(found)):
        lacking.setdefault(str(horizon), []).append(int(year))
    return lacking


def partial_steps(sizes: Sizes, complete: Mapping[str, float]) -> dict[str, Corrected]:
    """Return the tests of the cells outside the primary test against the next smaller size in it.

    Parameters
    ----------
    sizes
        The walked budgets.
    complete
        Counted parameters of those in the primary test, ascending.
    """
    gaps = {}
    for name, size in sizes.items():
        smaller = [known for known, n in complete.items() if n < size.n_params]
        if name in complete or not smaller:
            continue
        gap = (size.loss(SINGLE) - sizes[smaller[-1]].loss(SINGLE)).dropna()
        for horizon, of_years in gap.groupby("horizon"):
            gaps[f"{name}-{horizon} less {smaller[-1]}-{horizon}"] = sign_flip(of_years)
    return corrected(gaps)


def rival(gap: "pd.Series[float]", sizes: dict[str, Corrected]) -> Rival:
    """Return the tests of a baseline.

    Parameters
    ----------
    gap
        Its loss less that of the bar; index of horizon and year.
    sizes
        The tests of the sizes against it.
    """
    return Rival(
        overall=sign_flip(gap.groupby("year").mean()),
        horizons={str(name): sign_flip(of_years) for name, of_years in gap.groupby("horizon")},
        sizes=sizes,
    )


def against_rivals(
    whole: Mapping[str, pd.DataFrame], baselines: pd.DataFrame, bar: Bar
) -> dict[str, dict[str, Corrected]]:
    """Return for each baseline but the bar the tests of the sizes against it.

    Parameters
    ----------
    whole
        For each size the losses of its seeds, means over horizons; index of years.
    baselines
        Likewise of the baselines.
    bar
        The rival that has tests of its own.
    """
    rivals = [str(name) for name in baselines.columns if name != bar.name]
    losses = {name: rows.mean(axis=1) for name, rows in whole.items() if len(rows)}
    tests = corrected(
        {
            (rival, size): sign_flip((loss - baselines[rival]).dropna())
            for rival in rivals
            for size, loss in losses.items()
        }
    )
    return {rival: {size: tests[rival, size] for size in losses} for rival in rivals}


def yearly_slopes(sizes: Sizes, complete: Mapping[str, float], kind: str) -> "pd.Series[float]":
    """Return the slope of each horizon and year.

    The mean of those of single seeds is the slope of the primary test.

    Parameters
    ----------
    sizes
        The walked budgets.
    complete
        Counted parameters of those that enter.
    kind
        Loss of `single_seeds` or of the `ensemble`.
    """
    weights = slope_weights(list(complete.values()))
    losses = pd.concat([sizes[name].loss(kind) for name in complete], axis=1)
    return pd.Series(losses.to_numpy() @ weights, index=losses.index)


Gaps = Mapping[str, "pd.Series[float]"]
"""For each size its loss less that of the bar; index of horizon and year."""


def size_verdicts(sizes: Sizes, gaps: Mapping[str, Gaps], horizons: int) -> dict[str, SizeVerdict]:
    """Return the sizes that have at least one year with all horizons.

    Parameters
    ----------
    sizes
        The walked budgets.
    gaps
        Differences to the bar, of `single_seeds` and of `ensemble`.
    horizons
        Number of horizons.
    """
    losses = {
        name: rows
        for name, size in sizes.items()
        if len(rows := over_horizons(size.yearly.losses, horizons))
    }
    seeds = {name: rows.drop(columns=ENSEMBLE).to_numpy() for name, rows in losses.items()}
    variances = seed_variances(list(seeds.values()))
    of_years = {
        kind: {name: over_horizons(rows[name], horizons) for name in losses}
        for kind, rows in gaps.items()
    }
    tests = {
        kind: corrected({name: sign_flip(gap) for name, gap in rows.items()})
        for kind, rows in of_years.items()
    }
    return {
        name: SizeVerdict(
            n_params=sizes[name].n_params,
            log_loss_single_seeds=float(alone.mean()),
            log_loss_ensemble=float(losses[name][ENSEMBLE].mean()),
            single_seeds=tests[SINGLE][name],
            ensemble=tests[ENSEMBLE][name],
            effects=random_effects(
                of_years[SINGLE][name].to_numpy(),
                None if variance is None else variance / alone.shape[1],
            ),
        )
        for (name, alone), variance in zip(seeds.items(), variances, strict=True)
    }


def cell_tests(gaps: Gaps) -> dict[str, Corrected]:
    """Return the test of each cell against the bar, over the years that it has."""
    return corrected(
        {
            f"{name}-{horizon}": sign_flip(of_years)
            for name, gap in gaps.items()
            for horizon, of_years in gap.groupby("horizon")
        }
    )
