import json
from dataclasses import astuple, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from patchscale.backtest.flatten import flatten
from patchscale.report.comparison import (
    HorizonComparison,
    a_thousandfold,
    against,
    compare,
    confidence_set,
    correct,
    dm_test,
)
from patchscale.verdict.sign_flip import holm

DAYS = {"val": 120, "test": 80}
N_PARAMS = {"2M-h1": 2_000_000, "20M-h1": 20_000_000}


def losses(seed: int, worse: float = 0.0, seeds: int = 2) -> pd.DataFrame:
    """Return the losses of a cell whose mean forecast is slightly better than its seeds."""
    random = np.random.default_rng(seed)
    n = sum(DAYS.values())
    alone = 0.6 + worse + 0.1 * random.standard_normal((n, seeds))
    table = pd.DataFrame(alone, columns=[f"log_loss_seed{k}" for k in range(seeds)])
    table.insert(0, "log_loss", alone.mean(axis=1) - 0.01)
    table.insert(0, "subset", np.repeat(list(DAYS), list(DAYS.values())))
    table.insert(0, "date", pd.bdate_range("2017-01-02", periods=n))
    return table


@pytest.fixture(scope="module")
def cells() -> dict[str, pd.DataFrame]:
    return {"2M-h1": losses(0), "20M-h1": losses(1, worse=0.2, seeds=3)}


@pytest.fixture(scope="module")
def baselines() -> pd.DataFrame:
    table = losses(2)[["date", "subset"]]
    random = np.random.default_rng(3)
    for name in ("prior", "har_logistic", "boosting"):
        table[name] = 0.6 + 0.1 * random.standard_normal(len(table))
    return table


@pytest.fixture(scope="module")
def row(cells, baselines) -> HorizonComparison:
    return compare(cells, N_PARAMS, baselines, 1)


def test_sizes_are_compared_by_their_seeds_on_each_subset(cells, row):
    for name, n in DAYS.items():
        effect = row.effects[name]
        assert effect.days == n
        assert effect.seeds == [2, 3]
        means = [
            table[table["subset"] == name].filter(like="_seed").to_numpy().mean()
            for table in cells.values()
        ]
        assert effect.slope.value == pytest.approx(means[1] - means[0])  # a tenfold apart
    assert row.effects["test"].slope != row.effects["val"].slope


def test_the_biggest_cell_is_compared_with_that_of_a_thousandth_of_its_parameters(
    cells, baselines, row
):
    assert row.thousandfold is None
    sizes = {"2M-h1": 2_000_000, "20M-h1": 1_990_000_000}
    assert a_thousandfold(list(cells), sizes) == ("20M-h1", "2M-h1")
    assert a_thousandfold(list(cells), sizes | {"20M-h1": 2_300_000_000}) is None
    assert a_thousandfold([], {}) is None
    found = compare(cells, sizes, baselines, 1).thousandfold
    days = [table[table["subset"] == "test"].filter(like="_seed") for table in cells.values()]
    small, big = (table.mean(axis=1).to_numpy() for table in days)
    assert (found.seeds, found.days) == ([3, 2], DAYS["test"])
    assert found.difference == against(big, small, 1)
    both = correct(
        {"h1": replace(row, thousandfold=found), "h3": replace(row, thousandfold=found), "h5": row},
        [],
    )
    p = both["h1"].thousandfold.difference.dm_p_holm
    assert p == pytest.approx(min(1, 2 * found.difference.dm_p))
    assert both["h5"].thousandfold is None
    written = both["h1"].as_json()["thousandfold"]
    assert written["big"] == "20M-h1"
    assert written["difference"]["vs_bar"] == pytest.approx((big - small).mean())
    assert "thousandfold" not in row.as_json()


def test_ensembles_and_single_seeds_are_compared_with_the_bar_on_test_days(cells, baselines, row):
    assert list(row.confidence_set) == [*cells, "prior", "har_logistic", "boosting"]
    assert list(row.differences) == [*cells, "prior", "boosting"]
    test = slice(DAYS["val"], None)
    expected = against(
        cells["2M-h1"]["log_loss"][test].to_numpy(), baselines["har_logistic"][test].to_numpy(), 1
    )
    assert flatten(row.differences["2M-h1"]) == flatten(expected)
    assert list(row.singles) == list(cells)
    alone = cells["2M-h1"].filter(like="_seed")[test].mean(axis=1).to_numpy()
    expected = against(alone, baselines["har_logistic"][test].to_numpy(), 1)
    assert flatten(row.singles["2M-h1"]) == flatten(expected)
    assert row.singles["2M-h1"].vs_bar.value > row.differences["2M-h1"].vs_bar.value
    assert row.confidence_set["20M-h1"] < 0.01


def test_days_are_matched_by_date(cells, baselines, row):
    turned = {name: table.iloc[::-1] for name, table in cells.items()}
    again = compare(turned, N_PARAMS, baselines, 1)
    assert astuple(again.differences["2M-h1"].vs_bar) == pytest.approx(
        astuple(row.differences["2M-h1"].vs_bar)
    )
    assert astuple(again.singles["2M-h1"].vs_bar) == pytest.approx(
        astuple(row.singles["2M-h1"].vs_bar)
    )


def test_one_size_has_no_effect_of_size(cells, baselines):
    row = compare({"2M-h1": cells["2M-h1"]}, N_PARAMS, baselines, 1)
    assert (row.sizes, row.effects) == (1, {})
    assert "2M-h1" in row.differences


def test_without_a_cell_the_baselines_are_still_compared(baselines):
    row = compare({}, {}, baselines, 1)
    assert list(row.confidence_set) == ["prior", "har_logistic", "boosting"]


def test_slopes_are_corrected_for_the_horizons_and_cells_for_all_cells(cells, baselines, row):
    other = compare({"2M-h3": losses(5)}, {"2M-h3": 2_000_000}, baselines, 3)
    third = compare(
        {"2M-h5": losses(6), "20M-h5": losses(7)}, {"2M-h5": 2e6, "20M-h5": 2e7}, baselines, 5
    )
    horizons = {"h1": row, "h3": other, "h5": third}
    names = [*cells, "2M-h3", "2M-h5", "20M-h5"]
    corrected = correct(horizons, names)
    for subset in DAYS:
        slopes = {name: horizons[name].effects[subset].slope_p for name in ("h1", "h5")}
        for name, p in holm(slopes).items():
            assert corrected[name].effects[subset].slope_p_holm == p
    assert corrected["h3"].effects == {}
    every = {name: found for each in corrected.values() for name, found in each.differences.items()}
    for name, p in holm({name: every[name].dm_p for name in names}).items():
        assert every[name].dm_p_holm == p
    assert np.isnan(every["boosting"].dm_p_holm)
    alone = {name: found for each in corrected.values() for name, found in each.singles.items()}
    for name, p in holm({name: alone[name].dm_p for name in names}).items():
        assert alone[name].dm_p_holm == p


def test_a_comparison_in_json_has_a_record_for_each_forecast(cells, row):
    whole = correct({"h1": row}, list(cells))["h1"].as_json()
    assert whole["sizes"] == 2
    assert {"slope", "slope_low", "slope_high", "slope_p_holm"} < whole["val"].keys()
    forecasts = whole["forecasts"]
    assert {name: "dm_p_holm" in each for name, each in forecasts.items()} == {
        "2M-h1": True,
        "20M-h1": True,
        "prior": False,
        "har_logistic": False,
        "boosting": False,
    }
    assert list(forecasts["har_logistic"]) == ["confidence_set_p"]
    assert {"vs_bar", "dm_p_holm"} < forecasts["2M-h1"]["single_seeds"].keys()
    assert "single_seeds" not in forecasts["boosting"]
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole


def test_one_size_has_no_effect_in_json(cells, baselines):
    whole = compare({"2M-h1": cells["2M-h1"]}, N_PARAMS, baselines, 1).as_json()
    assert (whole["sizes"], whole["test"], whole["val"]) == (1, {}, {})


def daily(seed: int = 0) -> np.ndarray:
    """Return the daily losses of a forecast."""
    day, own = np.random.default_rng(seed).standard_normal((2, 250))
    return 0.6 + 0.2 * day + 0.1 * own


def test_the_test_of_diebold_and_mariano_uses_newey_and_wests_error():
    random = np.random.default_rng(0)
    model, benchmark = 0.6 + 0.1 * random.standard_normal((2, 250))
    gap = model - benchmark
    n, lags, centred = 250, 5, gap - gap.mean()
    variance = centred @ centred / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / n
    error = np.sqrt(variance / (n - 1))  # n / (n - 1) for the small sample
    row = against(model, benchmark, 6)
    assert row.block == 6  # the differences of independent days have shorter blocks
    assert row.dm == pytest.approx(gap.mean() / error)
    assert row.dm_p == pytest.approx(2 * t.sf(abs(gap.mean() / error), n - 1))
    assert row.vs_bar.value == pytest.approx(gap.mean())
    assert row.vs_bar.low < gap.mean() < row.vs_bar.high
    assert row.skill.value == pytest.approx(1 - model.mean() / benchmark.mean())
    assert row.skill.low < row.skill.value < row.skill.high


def test_p_values_are_also_given_for_blocks_half_and_twice_as_long():
    model, benchmark = daily(1), daily()
    gap = model - benchmark
    row = against(model, benchmark, 5)
    assert row.block == 5
    assert row.dm_p_half_block == dm_test(gap, 3)[1]
    assert row.dm_p_twice_block == dm_test(gap, 10)[1]
    assert len({row.dm_p, row.dm_p_half_block, row.dm_p_twice_block}) == 3


def test_a_common_loss_of_days_does_not_hide_a_difference():
    random = np.random.default_rng(0)
    benchmark = 0.6 + 0.3 * random.standard_normal(250)
    row = against(benchmark - 0.02 + 0.01 * random.standard_normal(250), benchmark, 1)
    assert row.vs_bar.high < 0
    assert row.dm_p < 0.001


def test_a_forecast_equal_to_the_benchmark_is_no_better_and_no_worse():
    benchmark = daily()
    row = against(benchmark, benchmark, 1)
    assert (row.dm, row.dm_p, row.skill.value, row.vs_bar.value) == (0, 1, 0, 0)


def test_equal_forecasts_are_one_in_the_confidence_set():
    losses = pd.DataFrame({"a": daily()})
    assert confidence_set(losses.assign(b=losses["a"]), 1) == {"a": 1, "b": 1}
    apart = losses.assign(b=losses["a"] + 0.1 * daily(1))
    chance = confidence_set(apart.assign(c=apart["b"]), 1)
    assert chance == confidence_set(apart, 1) | {"c": chance["b"]}


def test_holm_corrects_step_by_step():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    assert holm({"alone": 0.2}) == {"alone": 0.2}
    assert holm({}) == {}


def test_the_confidence_set_contains_what_may_be_best_and_nothing_measurably_worse():
    common = daily()
    random = np.random.default_rng(0)
    losses = pd.DataFrame(
        {
            name: common + worse + 0.05 * random.standard_normal(250)
            for name, worse in {"bad": 0.1, "good": 0.0, "as good": 0.001}.items()
        }
    )
    chance = confidence_set(losses, 1)
    assert list(chance) == ["bad", "good", "as good"]
    assert chance["bad"] < 0.01
    assert min(chance["good"], chance["as good"]) > 0.05
    assert max(chance.values()) == 1
    assert chance == confidence_set(losses, 1)
