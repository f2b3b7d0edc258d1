from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.report.comparison import Difference
from patchscale.report.finding import Scope, certainty, detectable, finding
from patchscale.report.scaling import PowerLaw, SizeEffect

SP, SIZES = "`sp500`", ["2M", "20M"]


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


def found(
    cells: dict[str, Difference] | None = None,
    skill: dict[str, float | None] | None = None,
    singles: dict[str, Difference] | None = None,
    **effects: SizeEffect,
) -> str:
    cells = cells or {"2M-h1": cell(), "20M-h1": cell()}
    skill = dict.fromkeys(cells, 0.1) if skill is None else skill
    return finding(SP, SIZES, cells, singles or dict.fromkeys(cells, cell()), skill, effects)


def test_without_a_trained_cell_nothing_is_claimed():
    text = finding(SP, [], {}, {}, {}, {})
    assert text == "No cell has been trained, so nothing can be said yet."


def test_without_two_sizes_nothing_is_claimed_about_size():
    one = {"2M-h1": cell()}
    text = finding(SP, ["2M"], one, one, {"2M-h1": 0.1}, {})
    assert text.startswith("With one size trained, nothing can be said of size on `sp500`; 0 of")
    assert "bigger" not in text


def test_slopes_that_survive_no_correction_claim_neither_better_nor_worse():
    text = found(h1=effect(-0.1, p=0.05), h5=effect(0.1, p=0.3))
    assert text.startswith(
        "A transformer of 20M parameters forecasts `sp500` neither measurably better nor worse "
        "than one of 2M at any horizon; "
    )


@pytest.mark.parametrize(
    ("h1", "h5", "claim"),
    [
        ((-0.1, 0.01), (0.1, 0.5), "better at h1 and measurably worse at none"),
        ((-0.1, 0.01), (-0.1, 0.04), "better at h1, h5 and measurably worse at none"),
        ((-0.1, 0.2), (0.1, 0.01), "better at no horizon and measurably worse at h5"),
        ((0.1, 0.01), (-0.1, 0.01), "better at h5 and measurably worse at h1"),
    ],
)
def test_the_claim_about_size_follows_from_the_corrected_slopes(h1, h5, claim):
    text = found(h1=effect(*h1), h5=effect(*h5))
    start = "From 2M to 20M parameters, a bigger transformer forecasts `sp500` measurably "
    assert text.startswith(f"{start}{claim}; ")


@pytest.mark.parametrize(
    ("cells", "better", "worse"),
    [
        ({"a": cell(p=0.05), "b": cell()}, 0, 0),
        ({"a": cell(p=0.01), "b": cell()}, 1, 0),
        ({"a": cell(0.1, p=0.01), "b": cell(0.2, p=0.02)}, 0, 2),
    ],
)
def test_ensembles_and_single_seeds_are_set_against_the_bar_each_by_its_corrected_test(
    cells, better, worse
):
    none = dict.fromkeys(cells, cell())
    bar = "2 transformers trained forecast it measurably better than the HAR logistic and"
    text = found(cells, singles=none, h1=effect(0.0))
    assert f"{better} of the {bar} {worse} measurably worse as ensembles of seeds, 0 and 0" in text
    text = found(none, singles=cells, h1=effect(0.0))
    assert f"0 of the {bar} 0 measurably worse as ensembles of seeds, {better} and {worse}" in text


@pytest.mark.parametrize(("skill", "who"), [(0.94, "none"), (0.95, "a"), (None, "none")])
def test_a_strategy_has_earned_from_a_deflated_sharpe_ratio_of_95_percent(skill, who):
    text = found({"a": cell()}, {"a": skill}, h1=effect(0.0))
    assert text.endswith(f"trading on {who} of them earned more after costs than luck explains.")


def test_strategies_of_few_trades_are_evidence_of_nothing():
    text = found({"a": cell(), "b": cell()}, {"a": 0.99}, h1=effect(0.0))
    assert text.endswith("luck explains, 1 of them having traded too seldom to tell.")


SCOPE = Scope(
    as_of="2018-12-31",
    days="246 to 250",
    positives="54 to 135",
    budgets=["2M", "20M"],
    absent=["2B"],
    once=["200M"],
    searched={"2M", "20M"},
    cells=8,
    strategies=28,
    lucky_sharpe=2.04,
)
BEST = {"h1": "boosting", "h2": "20M-h2", "h3": "boosting"}


def test_certainty_names_days_corrections_luck_and_power():
    effects = {"h1": effect(0.0, half=0.031), "h2": effect(0.1, half=0.08)}
    text = certainty(SCOPE, effects, BEST)
    for said in (
        "246 to 250 days up to 2018-12-31, 54 to 135 of them positive",
        "Holm's correction for 2 slopes and 8 cells",
        "the Sharpe ratio of 2.0 that luck alone gives the best of 28 strategies",
        "of 0.049 to 0.126 per tenfold N, by horizon, would have been seen with a power of 80 %",
        "Trained with one seed: 200M. Not run: 2B.",
        "is that of gradient boosting (h1, h3) and 20M-h2 (h2).",
    ):
        assert said in text
    assert "search" not in text


@pytest.mark.parametrize(
    ("searched", "said"), [({"2M"}, True), ((), False), ({"2M", "20M"}, False)]
)
def test_sizes_with_and_without_a_search_may_differ_in_tuning(searched, said):
    text = certainty(replace(SCOPE, searched=searched), {"h1": effect(0.0)}, BEST)
    tuned = "A search chose the settings of 2M and not those of 20M: a difference between sizes"
    assert (tuned in text) == said


def test_a_complete_grid_has_no_sentence_on_absent_sizes():
    text = certainty(replace(SCOPE, absent=[], once=[], searched=()), {}, BEST)
    assert "Not run" not in text
    assert "one seed" not in text
    assert "would have been seen" not in text


@pytest.mark.parametrize("tests", [1, 4])
def test_the_detectable_effect_is_found_in_80_of_100_studies(tests):
    error = 0.015
    interval = Estimate(0.0, -1.959964 * error, 1.959964 * error)
    found = detectable(interval, tests) + error * np.random.default_rng(0).standard_normal(100_000)
    p = 2 * norm.sf(abs(found) / error)
    assert (p < 0.05 / tests).mean() == pytest.approx(0.8, abs=0.005)
