"""Made-up verdicts, in which every figure that the report shows can be chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan

from patchscale.backtest.bootstrap import Estimate
from patchscale.verdict.bar import RIVALS, Bar
from patchscale.verdict.effects import RandomEffects
from patchscale.verdict.result import Rival, SizeVerdict, Verdict
from patchscale.verdict.sign_flip import Corrected, SignFlip
from patchscale.verdict.slope import SlopeTest

YEARS = tuple(range(2007, 2019))
N_PARAMS = {"20K": 20_000, "200K": 200_000, "2M": 2_000_000, "20M": 20_000_000}
EFFECTS = RandomEffects(0.001, 0.002, 0.003)
BASELINES = (*RIVALS, "boosting")


def flips(mean: float, p: float = 0.5, years: int = 12, half: float = 0.005) -> SignFlip:
    """Return a test of a mean with an interval, which fewer than six years do not have."""
    half = half if years > 5 else nan
    interval = Estimate(mean, mean - half, mean + half)
    return SignFlip(interval, p, 2 / 2**years, years, years // 2)


def corrected(mean: float, p_holm: float = 0.5, years: int = 12) -> Corrected:
    """Return a test that is one of several."""
    return Corrected(**vars(flips(mean, p_holm, years)), p_holm=p_holm)


def slope(
    mean: float = 0.001, p: float = 0.5, years: Sequence[int] = YEARS, sizes: Sequence[str] = ()
) -> SlopeTest:
    """Return a primary test."""
    return SlopeTest(
        **vars(flips(mean, p, len(years))),
        sizes=list(sizes or N_PARAMS),
        slopes={str(year): mean + 0.001 * (year % 3 - 1) for year in years},
        effects=EFFECTS,
        visible=0.004 if len(years) > 5 else None,
    )


def verdict(
    sizes: Mapping[str, tuple[float, float]],
    primary: SlopeTest | None = None,
    *,
    not_walked: Sequence[str] = (),
    missing: Mapping[str, Mapping[str, list[int]]] | None = None,
    years: Sequence[int] = YEARS,
    seeds: int = 3,
    horizons: Sequence[str] = ("h1", "h5"),
) -> Verdict:
    """Return a verdict.

    Parameters
    ----------
    sizes
        For each walked size its difference to the bar, single seeds and ensemble alike, and the
        corrected p-value.
    primary
        The primary test.
    not_walked, missing
        Budgets without any year, and years that a walked one lacks at each horizon.
    years
        The test years.
    seeds
        Seeds of each size.
    horizons
        The horizons.
    """
    lacking = {
        (name, horizon): without
        for name, rows in (missing or {}).items()
        for horizon, without in rows.items()
    }
    whole = {
        name: len(set(years) - {y for at in horizons for y in lacking.get((name, at), ())})
        for name in sizes
    }
    tests = {name: corrected(gap, p, whole[name]) for name, (gap, p) in sizes.items()}
    cells = {
        f"{name}-{horizon}": corrected(gap, p, n)
        for name, (gap, p) in sizes.items()
        for horizon in horizons
        if (n := len(years) - len(lacking.get((name, horizon), ())))
    }
    ahead = flips(0.06, 0.001, len(years))
    against = dict.fromkeys(sizes, corrected(0.02))
    rivals = {name: Rival(ahead, dict.fromkeys(horizons, ahead), against) for name in BASELINES}
    lower = {h: replace(ahead, mean=Estimate(-0.01, -0.02, 0.0)) for h in horizons}
    rivals["boosting"] = Rival(flips(-0.01), lower, against)
    del rivals["vol_logistic"]
    return Verdict(
        years=list(years),
        bar=Bar("vol_logistic", years[0], dict.fromkeys(RIVALS, 0.55)),
        baselines=dict.fromkeys(BASELINES, 0.58) | {"boosting": 0.57},
        rivals=rivals,
        not_walked=list(not_walked),
        seeds=dict.fromkeys(sizes, seeds),
        missing={name: dict(rows) for name, rows in (missing or {}).items()},
        primary=primary,
        horizons=dict.fromkeys(horizons, corrected(0.001)) if primary else {},
        ensembles=flips(-0.002, 0.03) if primary else None,
        steps={name: corrected(0.002) for name in primary.sizes[1:]} if primary else {},
        partial_steps={
            f"{cell} less 20K-{cell.partition('-')[2]}": corrected(0.003, 0.2, test.years)
            for cell, test in cells.items()
            if cell.partition("-")[0] in (missing or {})
        },
        sizes={
            name: SizeVerdict(N_PARAMS.get(name, 1e8), 0.58, 0.575, test, test, EFFECTS)
            for name, test in tests.items()
            if whole[name]
        },
        cells={"single_seeds": cells, "ensemble": cells},
        calibration={
            str(year): {"base_rate": 0.4, "vol_logistic": 0.41} | dict.fromkeys(sizes, 0.42)
            for year in years
        },
    )
