import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from sklearn.metrics import log_loss
from statsmodels.stats.multitest import multipletests
from verdict_study import EIGHT, N_PARAMS, RIVALS, forecasts_of, labels_of

from patchscale.backtest.flatten import flatten, restore
from patchscale.verdict.bar import Bar, choose_bar
from patchscale.verdict.forecasts import with_ensemble
from patchscale.verdict.losses import Size, Yearly, yearly
from patchscale.verdict.result import Verdict, judge
from patchscale.verdict.sign_flip import sign_flip
from patchscale.verdict.tables import COLUMNS, table

HORIZONS = ["h1", "h3"]
LABELS = labels_of(HORIZONS, EIGHT)
NOISE = {"20K": 0.3, "2M": 0.7, "20M": 1.1}
SEEDS = {"20K": 3, "2M": 2, "20M": 1}


def labelled(forecasts: pd.DataFrame) -> pd.DataFrame:
    return forecasts.merge(LABELS, on=["horizon", "date"])


def walked(name: str, drop: str = "") -> pd.DataFrame:
    """Return the labelled forecasts of a budget, without the rows of a query."""
    names = {f"p_seed{seed}": NOISE[name] for seed in range(SEEDS[name])}
    table = with_ensemble(forecasts_of(LABELS, EIGHT, names, seed=len(name) + SEEDS[name]))
    return labelled(table.drop(table.query(drop).index) if drop else table)


BASELINES = labelled(forecasts_of(LABELS, EIGHT, dict.fromkeys(RIVALS, 0.9)))
BAR: Bar = choose_bar(BASELINES)
RIVAL: Yearly = yearly(BASELINES)
SIZES = {name: Size(N_PARAMS[name], yearly(walked(name))) for name in NOISE}


def mean_losses(forecasts: pd.DataFrame, name: str, horizon: str) -> list[float]:
    """Return scikit-learn's log-loss of a forecast in each test year of a horizon."""
    rows = forecasts[(forecasts["subset"] == "test") & (forecasts["horizon"] == horizon)]
    return [log_loss(of_year["label"], of_year[name]) for _, of_year in rows.groupby("year")]


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judge(SIZES, ["200M"], RIVAL, BAR)


def test_the_primary_slope_is_the_mean_of_the_slopes_of_the_horizons(verdict):
    assert verdict.primary.sizes == list(NOISE)
    assert verdict.primary.mean.value == pytest.approx(
        np.mean([row.mean.value for row in verdict.horizons.values()])
    )
    assert verdict.primary.years == 8
    assert verdict.primary.p == 2 / 2**8  # every year is worse with more noise
    assert verdict.primary.higher == 8


def test_a_step_is_the_loss_of_a_size_less_that_of_the_next_smaller_one(verdict):
    assert list(verdict.steps) == ["2M", "20M"]
    for smaller, bigger in pairwise(NOISE):
        losses = [
            np.mean(
                [
                    mean_losses(walked(name), f"p_seed{seed}", horizon)
                    for seed in range(SEEDS[name])
                    for horizon in HORIZONS
                ],
                axis=0,
            )
            for name in (smaller, bigger)
        ]
        found = verdict.steps[bigger]
        assert found.mean.value == pytest.approx((losses[1] - losses[0]).mean())
        assert found.p == sign_flip(losses[1] - losses[0]).p
        assert found.p_holm >= found.p


def test_single_seeds_and_their_ensemble_are_judged_apart(verdict):
    forecasts = walked("20K")
    for horizon in HORIZONS:
        theirs = np.array(mean_losses(BASELINES, BAR.name, horizon))
        alone = np.mean([mean_losses(forecasts, f"p_seed{k}", horizon) for k in range(3)], axis=0)
        together = np.array(mean_losses(forecasts, "ensemble", horizon))
        single, ensemble = (
            verdict.cells[kind][f"20K-{horizon}"] for kind in ("single_seeds", "ensemble")
        )
        assert single.mean.value == pytest.approx((alone - theirs).mean())
        assert ensemble.mean.value == pytest.approx((together - theirs).mean())
        assert ensemble.mean.value < single.mean.value
    assert verdict.sizes["20K"].ensemble.mean.value < verdict.sizes["20K"].single_seeds.mean.value


def test_one_seed_is_its_own_ensemble(verdict):
    row = verdict.sizes["20M"]
    assert verdict.seeds == SEEDS
    assert row.single_seeds.mean == row.ensemble.mean
    assert row.log_loss_single_seeds == row.log_loss_ensemble
    assert row.effects.between_seeds is not None  # pooled from the other sizes


def test_the_difference_of_a_size_is_the_mean_over_its_horizons(verdict):
    for kind in ("single_seeds", "ensemble"):
        cells = [verdict.cells[kind][f"2M-{horizon}"].mean.value for horizon in HORIZONS]
        assert getattr(verdict.sizes["2M"], kind).mean.value == pytest.approx(np.mean(cells))


def test_the_differences_to_the_bar_are_corrected_for_sizes_and_horizons(verdict):
    rows = verdict.cells["single_seeds"]
    assert len(rows) == 6
    smallest = min(rows.values(), key=lambda row: row.p)
    assert smallest.p_holm == pytest.approx(min(1, 6 * smallest.p))
    assert all(row.p_holm >= row.p for row in rows.values())
    assert all(row.p_holm <= 1 for row in verdict.horizons.values())


@pytest.mark.parametrize(
    ("drop", "missing"),
    [
        ("year == 2009", {"h1": [2009], "h3": [2009]}),
        ("year > 2012", {"h1": [2013, 2014], "h3": [2013, 2014]}),
        ("year == 2009 and horizon == 'h3'", {"h3": [2009]}),
        ("horizon == 'h3'", {"h3": list(EIGHT)}),
    ],
)
def test_a_size_without_all_years_is_listed_and_left_out_of_the_primary_test(drop, missing):
    sizes = SIZES | {"2M": Size(2e6, yearly(walked("2M", drop)))}
    verdict = judge(sizes, [], RIVAL, BAR)
    assert verdict.missing == {"2M": missing}
    assert verdict.primary.sizes == ["20K", "20M"]
    assert verdict.primary.years == 8
    present = verdict.sizes["2M"].single_seeds.years if "2M" in verdict.sizes else 0
    assert present == 8 - len(missing["h3"])
    cells = [verdict.cells["ensemble"].get(f"2M-{horizon}") for horizon in HORIZONS]
    assert [cell.years if cell else 0 for cell in cells] == [
        8 - len(missing.get(horizon, ())) for horizon in HORIZONS
    ]
    assert ("2M" in verdict.calibration["2008"]) == (2008 not in missing["h3"])


@pytest.mark.parametrize("drop", ["horizon == 'h3'", "year == 2009"])
def test_a_cell_outside_the_primary_test_is_set_against_the_next_smaller_size_in_it(drop, verdict):
    sizes = SIZES | {"2M": Size(2e6, yearly(walked("2M", drop)))}
    found = judge(sizes, [], RIVAL, BAR).partial_steps
    cells = HORIZONS if "year" in drop else ["h1"]
    assert list(found) == [f"2M-{horizon} less 20K-{horizon}" for horizon in cells]
    gaps = {}
    for horizon in cells:
        ours, theirs = (
            np.mean(
                [
                    mean_losses(walked(name, drop), f"p_seed{seed}", horizon)
                    for seed in range(SEEDS[name])
                ],
                axis=0,
            )
            for name in ("2M", "20K")
        )
        gaps[horizon] = ours - theirs
        test = found[f"2M-{horizon} less 20K-{horizon}"]
        assert test.mean.value == pytest.approx(gaps[horizon].mean())
        assert test.years == len(gaps[horizon])
    p = [sign_flip(gap).p for gap in gaps.values()]
    assert [test.p_holm for test in found.values()] == pytest.approx(
        multipletests(p, method="holm")[1]
    )
    assert verdict.partial_steps == {}  # all sizes are in the primary test


def test_the_smallest_size_has_no_smaller_one_to_be_set_against():
    sizes = SIZES | {"20K": Size(N_PARAMS["20K"], yearly(walked("20K", "horizon == 'h3'")))}
    found = judge(sizes, [], RIVAL, BAR)
    assert found.missing == {"20K": {"h3": list(EIGHT)}}
    assert found.partial_steps == {}


def test_every_baseline_shows_its_loss_of_the_test_years(verdict):
    for name in RIVALS:
        losses = [mean_losses(BASELINES, name, horizon) for horizon in HORIZONS]
        assert verdict.baselines[name] == pytest.approx(np.mean(losses))


def test_every_baseline_but_the_bar_is_compared_with_it_over_the_test_years(verdict):
    assert set(verdict.rivals) == set(RIVALS) - {BAR.name}
    for name, row in verdict.rivals.items():
        gaps = {
            horizon: np.subtract(
                mean_losses(BASELINES, name, horizon), mean_losses(BASELINES, BAR.name, horizon)
            )
            for horizon in HORIZONS
        }
        for horizon, gap in gaps.items():
            assert row.horizons[horizon].mean.value == pytest.approx(gap.mean())
        by_year = np.mean(list(gaps.values()), axis=0)
        assert row.overall.mean.value == pytest.approx(by_year.mean())
        assert row.overall.higher == (by_year > 0).sum()
        assert row.overall.p == pytest.approx(sign_flip(by_year).p)


def test_every_size_is_compared_with_every_baseline_but_the_bar(verdict):
    tests = {}
    for name, row in verdict.rivals.items():
        assert list(row.sizes) == list(NOISE)
        for size, test in row.sizes.items():
            theirs = [mean_losses(BASELINES, name, horizon) for horizon in HORIZONS]
            ours = [
                [mean_losses(walked(size), f"p_seed{seed}", horizon) for horizon in HORIZONS]
                for seed in range(SEEDS[size])
            ]
            gap = np.mean(ours, axis=(0, 1)) - np.mean(theirs, axis=0)
            assert test.mean.value == pytest.approx(gap.mean())
            assert test.p == pytest.approx(sign_flip(gap).p)
            tests[name, size] = test
    p, together = [test.p for test in tests.values()], [test.p_holm for test in tests.values()]
    assert together == pytest.approx(multipletests(p, method="holm")[1])
    assert len(together) == 3 * (len(RIVALS) - 1)


def test_the_slope_of_ensembles_has_the_losses_of_mean_probabilities(verdict):
    tables = {name: walked(name) for name in NOISE}
    losses = [
        [np.mean([mean_losses(table, "ensemble", h)[year] for h in HORIZONS]) for year in range(8)]
        for table in tables.values()
    ]
    x = np.log10([N_PARAMS[name] for name in NOISE])
    slopes = [linregress(x, of_year).slope for of_year in np.transpose(losses)]
    assert verdict.ensembles.mean.value == pytest.approx(np.mean(slopes))
    assert verdict.ensembles.p == pytest.approx(sign_flip(slopes).p)
    assert verdict.ensembles.mean.value != pytest.approx(verdict.primary.mean.value)


@pytest.mark.parametrize("names", [[], ["2M"]])
def test_fewer_than_two_sizes_have_no_slope(names):
    verdict = judge({name: SIZES[name] for name in names}, ["2B"], RIVAL, BAR)
    assert verdict.primary is None
    assert verdict.horizons == {}
    assert verdict.ensembles is None
    assert list(verdict.sizes) == names
    assert verdict.not_walked == ["2B"]


def test_calibration_compares_the_mean_probability_of_a_year_with_its_base_rate(verdict):
    days = walked("2M").query("subset == 'test' and year == 2010")
    row = verdict.calibration["2010"]
    assert row["base_rate"] == pytest.approx(days["label"].mean())
    assert row["2M"] == pytest.approx(days[["p_seed0", "p_seed1"]].to_numpy().mean())
    assert set(row) == {"base_rate", BAR.name, *NOISE}


def test_the_verdict_is_json_and_back(verdict):
    for each in (verdict, judge({}, [], RIVAL, BAR)):
        row = json.loads(json.dumps(flatten(each), allow_nan=False))
        assert restore(Verdict, row) == each


def test_the_table_has_a_row_for_each_budget_horizon_and_year():
    rows = table(SIZES, RIVAL, BAR)
    assert list(rows) == COLUMNS
    assert len(rows) == 3 * 2 * 8
    assert not rows.duplicated(["budget", "horizon", "year"]).any()
    assert (rows["n"] == 40).all()
    days = LABELS[(LABELS["horizon"] == "h3") & (LABELS["date"].dt.year == 2011)]
    one = rows.query("budget == '2M' and horizon == 'h3' and year == 2011").iloc[0]
    assert one["positives"] == days["label"].sum()
    assert one["log_loss_bar"] == pytest.approx(mean_losses(BASELINES, BAR.name, "h3")[4])
    assert one["ensemble_minus_bar"] == one["log_loss_ensemble"] - one["log_loss_bar"]
    assert list(table({}, RIVAL, BAR)) == COLUMNS
