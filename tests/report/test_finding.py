import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from fake_verdict import N_PARAMS, YEARS, corrected, slope, verdict
from scipy.stats import norm

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.report.comparison import Difference, Thousandfold
from patchscale.report.finding import FixedYear, detectable, finding
from patchscale.report.scaling import PowerLaw, SizeEffect
from patchscale.verdict.result import no_verdict

SP, SIZES = "`sp500`", ["2M", "20M"]
NOTHING = no_verdict([*SIZES, "2B"])
LOST, EVEN = (0.01, 0.001), (0.01, 0.5)


def cell(gap: float = -0.01, p: float = 0.5) -> Difference:
    return Difference(
        Estimate(gap, gap - 0.1, gap + 0.1), UNDEFINED, 0.0, 0.01, 3, 0.01, 0.02, dm_p_holm=p
    )


def effect(slope: float, p: float = 0.5, half: float = 0.02) -> SizeEffect:
    return SizeEffect(
        days=250,
        seeds=[3, 3],
        slope=Estimate(slope, slope - half, slope + half),
        slope_p=0.001,
        power_law=PowerLaw(identified=False, says=""),
        slope_p_holm=p,
    )


def fixed(
    cells: dict[str, Difference] | None = None,
    evidence: dict[str, float | None] | None = None,
    singles: dict[str, Difference] | None = None,
    untrained: tuple[str, ...] = (),
    pairs: dict[str, Thousandfold] | None = None,
    **effects: SizeEffect,
) -> FixedYear:
    cells = {"2M-h1": cell(), "20M-h1": cell()} if cells is None else cells
    evidence = dict.fromkeys(cells, 0.1) if evidence is None else evidence
    singles = singles or dict.fromkeys(cells, cell())
    return FixedYear(SIZES, list(untrained), cells, singles, evidence, effects, pairs or {})


def pair(horizon: str, gap: float, p: float = 0.5, seeds: int = 3) -> Thousandfold:
    found = replace(cell(), vs_bar=Estimate(gap, gap - 0.01, gap + 0.01), dm_p_holm=p)
    return Thousandfold(f"{SIZES[-1]}-{horizon}", f"2K-{horizon}", [seeds, 3], 250, found)


def sentences(text: str) -> list[str]:
    assert text.endswith(".")
    return re.split(r"(?<=\.) (?=[A-Z])", text)


def test_the_finding_of_all_years_is_one_claim_a_sentence():
    sizes = {"20K": LOST, "200K": EVEN, "2M": (-0.01, 0.01), "20M": LOST}
    found = verdict(sizes, slope(0.0012, 0.53), not_walked=["200M", "2B"])
    assert sentences(finding(SP, found, fixed(untrained=("200M", "2B")))) == [
        "On `sp500`, PatchTST's log-loss does not measurably change with size "
        "(20K to 20M; 12 test years).",
        "Tenfold size adds +0.0012 nats [-0.0038, +0.0062], p 0.530 (80% power at 0.0040).",
        "Single seeds: 1 of 4 sizes measurably beat the volatility logistic, 2 lost; "
        "ensembles: 1 of 4, 2 lost.",
        "Lower than every size: gradient boosting.",
        "Trading shows no skill beyond luck.",
        "Not run: 200M, 2B.",
    ]


@pytest.mark.parametrize(
    ("mean", "p", "verb"),
    [
        (0.01, 0.049, "measurably rises"),
        (-0.01, 0.0001, "measurably falls"),
        (-0.01, 0.05, "does not measurably change"),
    ],
)
def test_the_verb_follows_from_the_primary_test(mean, p, verb):
    text = finding(SP, verdict({"20K": EVEN, "2M": EVEN}, slope(mean, p)), fixed())
    assert f"log-loss {verb} with size" in text


def test_few_years_have_no_interval_and_cannot_show_a_change():
    few = YEARS[-5:]
    text = finding(SP, verdict({"20K": EVEN, "2M": EVEN}, slope(0.1, 0.0625, few)), fixed())
    assert "5 test years)" in text
    assert "adds +0.1000 nats, p 0.062 (too few years to tell)." in text
    assert "nan" not in text
    one = finding(SP, verdict({"20K": EVEN}, slope(0.1, 1.0, [2018]), years=[2018]), fixed())
    assert "1 test year)" in one


def test_one_walked_size_says_nothing_of_size_but_is_set_against_the_bar():
    text = finding(SP, verdict({"2M": LOST}), fixed())
    assert text.startswith(
        "On `sp500` fewer than two sizes have all of 12 test years: nothing is said of size. "
        "Single seeds: none of 1 size measurably beat the volatility logistic, 1 lost;"
    )


def test_a_single_seed_is_no_ensemble():
    text = finding(SP, verdict({"2M": LOST, "20M": LOST}, slope(), seeds=1), fixed())
    assert "Single seeds: none of 2 sizes" in text
    assert "ensemble" not in text


def test_what_was_not_run_and_what_only_partly_are_named_apart():
    found = verdict(
        {"2M": EVEN, "20M": EVEN},
        not_walked=["200M", "2B"],
        missing={"20M": {"h1": [2007, 2008]}},
    )
    text = finding(SP, found, fixed(untrained=("2B",)))
    assert text.endswith("Not run: 2B; fixed year only: 200M; walked in part: 20M.")
    complete = finding(SP, verdict({"2M": EVEN, "20M": EVEN}, slope()), fixed())
    assert "un:" not in complete


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({"2M-h1": 0.94, "20M-h1": None}, "Trading shows no skill beyond luck."),
        ({"2M-h1": 0.95}, "Trading 1 of 2 cells beats luck."),
        ({}, "Trading says nothing either way."),
    ],
)
def test_trading_has_skill_from_a_deflated_sharpe_ratio_of_95_percent(evidence, said):
    for found in (verdict({"2M": EVEN}), NOTHING):
        assert said in sentences(finding(SP, found, fixed(evidence=evidence)))


def test_without_a_trained_cell_nothing_is_claimed():
    text = finding(SP, NOTHING, fixed({}))
    assert text == "No cell has been trained, so nothing can be said yet."
    assert "Trading" not in finding(SP, verdict({"2M": EVEN}), fixed({}))


def test_without_a_walk_the_fixed_year_speaks():
    effects = {"h1": effect(-0.1, p=0.05, half=0.031), "h5": effect(0.1, p=0.3, half=0.08)}
    assert sentences(finding(SP, NOTHING, fixed(untrained=("2B",), **effects))) == [
        "In one test year, a PatchTST of 20M parameters forecasts `sp500` neither measurably "
        "better nor worse than one of 2M at any horizon.",
        "Changes of 0.049 to 0.126 per tenfold size would show with 80% power.",
        "No cell measurably beats or loses to the HAR logistic, as single seeds or ensembles.",
        "Trading shows no skill beyond luck.",
        "Not run: 2B.",
    ]


def test_without_two_sizes_nothing_is_claimed_about_size():
    text = finding(SP, NOTHING, fixed({"2M-h1": cell()}))
    assert text.startswith("With one size trained, nothing can be said of size on `sp500`. No cell")
    assert "bigger" not in text


@pytest.mark.parametrize(
    ("h1", "h5", "claim"),
    [
        ((-0.1, 0.01), (0.1, 0.5), "better at h1 and worse at none"),
        ((-0.1, 0.01), (-0.1, 0.04), "better at h1, h5 and worse at none"),
        ((-0.1, 0.2), (0.1, 0.01), "better at no horizon and worse at h5"),
        ((0.1, 0.01), (-0.1, 0.01), "better at h5 and worse at h1"),
    ],
)
def test_the_claim_of_the_fixed_year_follows_from_the_corrected_slopes(h1, h5, claim):
    text = finding(SP, NOTHING, fixed(h1=effect(*h1), h5=effect(*h5)))
    start = "In one test year, from 2M to 20M parameters, a bigger PatchTST forecasts `sp500`"
    assert text.startswith(f"{start} measurably {claim}. ")


def test_a_p_value_of_5_percent_is_not_measurable():
    cells = {"a": cell(p=0.05), "b": cell()}
    for known in (fixed(cells), fixed(dict.fromkeys(cells, cell()), singles=cells)):
        assert "No cell measurably beats or loses to the HAR logistic" in finding(
            SP, NOTHING, known
        )


@pytest.mark.parametrize(
    ("cells", "better", "worse"),
    [
        ({"a": cell(p=0.01), "b": cell()}, "1", "none"),
        ({"a": cell(0.1, p=0.01), "b": cell(0.2, p=0.02)}, "none", "2"),
    ],
)
def test_ensembles_and_single_seeds_are_set_against_the_bar_each_by_its_corrected_test(
    cells, better, worse
):
    none = dict.fromkeys(cells, cell())
    text = finding(SP, NOTHING, fixed(cells, singles=none))
    assert f"; ensembles: {better} of 2, {worse} lost." in text
    assert "Single seeds: none of 2 cells" in text
    text = finding(SP, NOTHING, fixed(none, singles=cells))
    assert f"{better} of 2 cells measurably beat the HAR logistic, {worse} lost; ens" in text
    assert "; ensembles: none of 2, none lost." in text


def test_baselines_are_named_that_have_a_lower_loss_than_every_size():
    found = verdict({"20K": EVEN, "2M": EVEN}, slope())
    below, above = 0.5749, 0.5751
    rivals = dict.fromkeys(found.rivals, above)
    for lower, said in (
        ([], ""),
        (["boosting"], "Lower than every size: gradient boosting."),
        (
            ["har_logistic", "boosting"],
            "Lower than every size: the HAR logistic, gradient boosting.",
        ),
        (list(rivals), "Lower than every size: 4 baselines."),
    ):
        known = replace(found, baselines=rivals | dict.fromkeys(lower, below))
        text = finding(SP, known, fixed())
        assert said in sentences(text) if said else "Lower" not in text


@pytest.mark.parametrize(
    ("boosting", "har", "said"),
    [
        ((0.02, 0.049), (0.02, 0.051), ["the HAR logistic", "gradient boosting{}"]),
        ((0.02, 0.049), (0.02, 0.001), ["the HAR logistic{}", "gradient boosting{}"]),
        ((-0.02, 0.001), (0.02, 0.049), ["the HAR logistic{}", "gradient boosting"]),
    ],
)
def test_a_lower_loss_is_measurable_if_it_is_so_against_every_size(boosting, har, said):
    found = verdict({"20K": EVEN, "2M": EVEN}, slope())
    rivals = found.rivals | {
        name: replace(
            found.rivals[name], sizes={"20K": corrected(0.02, 0.001), "2M": corrected(*test)}
        )
        for name, test in {"boosting": boosting, "har_logistic": har}.items()
    }
    losses = found.baselines | {"har_logistic": 0.57}
    text = finding(SP, replace(found, rivals=rivals, baselines=losses), fixed())
    expected = ", ".join(said).format(*[" (measurably, tested afterwards)"] * 2)
    assert f"Lower than every size: {expected}." in sentences(text)
    many = replace(found, rivals=rivals, baselines=dict.fromkeys(losses, 0.57))
    sure = str(said).count("{}")
    text = f"Lower than every size: 4 baselines ({sure} measurably, tested afterwards)."
    assert text in sentences(finding(SP, many, fixed()))


def test_the_biggest_size_is_set_against_a_thousandth_of_it():
    found = verdict({"20K": LOST, "2M": EVEN}, slope())
    big, others = SIZES[-1], pair("h3", -0.1)
    one = fixed(pairs={"h1": pair("h1", 0.0031, seeds=1)})
    said = f"Fixed year: {big}'s loss (one seed) less 2K's at h1 is +0.0031 [-0.0069, +0.0131]."
    assert said in finding(SP, found, one)
    smaller = fixed(pairs={"h3": replace(others, big="2M-h3")})
    assert "Fixed year:" not in finding(SP, found, smaller)
    rows = {"h1": pair("h1", -0.02, 0.01), "h2": pair("h2", 0.02, 0.01), "h3": pair("h3", -0.02)}
    said = f"{big} measurably beats 2K at 1, loses at 1 of 3 horizons."
    assert said in finding(SP, found, fixed(pairs=rows))


MANY = ("3M", "4M", "5M", "6M")


def test_a_finding_has_at_most_90_words():
    effects = dict.fromkeys(("h1", "h2", "h3", "h5"), effect(-0.1, 0.001))
    for walked, p, years, missing, untrained, evidence in product(
        (0, 1, 4),
        (0.0001, 0.5),
        (YEARS, YEARS[-3:]),
        ((), MANY[:1], MANY[:3]),
        ((), ("200M", "2B", "20B"), MANY),
        ({}, {"2M-h1": 0.99}, {"2M-h1": 0.1}),
    ):
        pairs = {h: pair(h, 0.01, seeds=1) for h in ("h1", "h3")[: len(untrained)]}
        names = list(N_PARAMS)[:walked]
        found = verdict(
            dict.fromkeys([*names, *missing], LOST),
            slope(0.01, p, years, names) if walked > 1 else None,
            years=years,
            not_walked=untrained,
            missing={name: {"h1": [years[0]]} for name in missing},
        )
        sure = dict.fromkeys(names, corrected(0.02, 0.001))
        boosting = replace(found.rivals["boosting"], sizes=sure)
        found = replace(
            found,
            baselines=found.baselines | {"har_logistic": 0.57},
            rivals=found.rivals | {"boosting": boosting},
        )
        known = fixed(evidence=evidence, untrained=untrained, pairs=pairs, **effects)
        text = finding(SP, found if walked else NOTHING, known)
        assert len(text.split()) <= 90, text
        assert len(sentences(text)) >= 4, text


@pytest.mark.parametrize("tests", [1, 4])
def test_the_detectable_effect_is_found_in_80_of_100_studies(tests):
    error = 0.015
    interval = Estimate(0.0, -1.959964 * error, 1.959964 * error)
    found = detectable(interval, tests) + error * np.random.default_rng(0).standard_normal(100_000)
    p = 2 * norm.sf(abs(found) / error)
    assert (p < 0.05 / tests).mean() == pytest.approx(0.8, abs=0.005)
