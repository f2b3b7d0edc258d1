from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fake_verdict import N_PARAMS, YEARS, slope, verdict

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.backtest.returns import expected_best_sharpe
from patchscale.report.finding import WORDS
from patchscale.report.fixed_year import bar_sections
from patchscale.report.page import the_finding, walk_sections
from patchscale.report.results import Results
from patchscale.verdict.result import Verdict, no_verdict

VALIDATION = {"prior": 0.6, "persistence": 0.6, "vol_logistic": 0.5, "har_logistic": 0.4}


def judged(val: float, test: float = 0.5, trades: int = 30) -> Any:
    """Return the figures of a forecast that the page asks for here."""
    strategy = SimpleNamespace(
        trades=trades, sessions=251, sharpe=Estimate(1.0, 0.0, 2.0), sharpe_error=1.0
    )
    scores = {
        name: SimpleNamespace(log_loss=Estimate(loss, loss - 0.1, loss + 0.1))
        for name, loss in (("val", val), ("test", test))
    }
    return SimpleNamespace(**scores, strategy=strategy)


def results(test: float = 0.5, trained: dict[str, Any] | None = None, **val: float) -> Results:
    losses = {**VALIDATION, "boosting": 0.45} | val
    rows = {name: judged(losses[name], test if name == "prior" else 0.5) for name in WORDS}
    return Results(
        params=None,  # type: ignore[arg-type]
        n_params={},
        trained=trained or {},
        baselines={"h1": rows, "h3": rows},
        comparisons={},
        searched={},
        as_of="2018-12-31",
        verdict=no_verdict([]),
        yearly=pd.DataFrame(),
        saw={},
    )


def test_the_bar_is_said_to_be_the_simple_rival_of_lowest_validation_loss() -> None:
    text, table = bar_sections(results())
    assert "is the HAR logistic, the simple rival of lowest mean log-loss on the validation" in text
    assert "| the HAR logistic | 0.4000 | 0.40 [0.30, 0.50] | 0.40 [0.30, 0.50] |" in table


def test_a_simple_rival_that_is_lower_on_validation_is_named_and_boosting_is_none() -> None:
    text, _ = bar_sections(results(vol_logistic=0.39, boosting=0.1))
    assert "though on these days the volatility logistic had a lower mean log-loss" in text


def test_the_losses_of_the_test_days_say_nothing_of_the_choice_of_the_bar() -> None:
    assert bar_sections(results(test=0.01)) == bar_sections(results(test=0.99))


def test_luck_is_that_of_all_strategies_judged_on_the_test_days() -> None:
    found = results(trained={"2M-h1": judged(0.4), "2M-h3": judged(0.4, trades=29)})
    assert found.strategies == 2 + 2 * len(WORDS)
    assert found.lucky_sharpe == expected_best_sharpe(12, 251)
    assert found.skill.keys() == {"2M-h1", "2M-h3"}
    assert found.skill["2M-h1"] == pytest.approx(found.skill["2M-h3"])


def test_only_strategies_of_30_trades_are_evidence() -> None:
    found = results(trained={"2M-h1": judged(0.4), "2M-h3": judged(0.4, trades=29)})
    assert list(found.evidence) == ["2M-h1"]
    assert found.evidence["2M-h1"] == found.skill["2M-h1"]
    never = judged(0.4, trades=0)
    never.strategy.sharpe, never.strategy.sharpe_error = UNDEFINED, None
    assert results(trained={"2M-h1": never}).skill == {"2M-h1": None}


HORIZONS = {"h1": 1, "h5": 5}
SIZES = N_PARAMS | {"2B": 2_000_000_000}
SAW = {"20K": {str(year): year < 2018 for year in YEARS}}


def walked(found: Verdict) -> Results:
    """Return results of which only the walk forward is filled in."""
    columns = ["budget", "horizon", "year", "single_seeds_minus_bar"]
    rows = [(b, h, year, 0.01) for b in found.sizes for h in HORIZONS for year in found.years]
    params: Any = SimpleNamespace(
        horizons=HORIZONS,
        budgets={
            name: SimpleNamespace(settings="search" if name == "200K" else "transfer")
            for name in SIZES
        },
        hpo=SimpleNamespace(base="200K"),
        data=SimpleNamespace(series="sp500"),
        cells={},
    )
    return replace(
        results(),
        params=params,
        n_params={f"{b}-{h}": n for b, n in SIZES.items() for h in HORIZONS},
        verdict=found,
        yearly=pd.DataFrame(rows, columns=columns),
        saw=SAW,
    )


FOUND = walked(verdict(dict.fromkeys(N_PARAMS, (0.01, 0.5)), slope(), not_walked=["2B"]))


def test_every_figure_of_the_walk_forward_has_beside_it_what_the_settings_saw() -> None:
    sections = walk_sections(FOUND, FOUND.verdict.bar)
    said = "Settings were chosen on days of 2007 to 2017, but not of 2018."
    marked = "† Settings were chosen on days of this year."
    shown = [i for i, part in enumerate(sections) if part[:2] in ("![", "| ")]
    assert len(shown) == 8
    for number in shown:
        assert any(said in part or marked in part for part in sections[number : number + 5])
    assert sum(said in part for part in sections) == 6
    assert sum(marked in part for part in sections) == 2


def test_walked_sizes_that_take_over_settings_are_named() -> None:
    assert FOUND.takers == ["20K", "2M", "20M"]
    said = "20K, 2M, 20M take over the settings of 200K"
    assert any(said in part for part in walk_sections(FOUND, FOUND.verdict.bar))


def test_details_are_folded_and_closed() -> None:
    sections = walk_sections(FOUND, FOUND.verdict.bar)
    folds = [part[:9] for part in sections if "details>" in part]
    assert folds == ["<details>", "</details"] * 3


def test_the_finding_under_a_walk_is_that_of_all_years() -> None:
    assert "test years)" in the_finding(FOUND)
    assert the_finding(walked(no_verdict([]))).startswith("No cell has been trained")


def test_the_figure_has_a_panel_a_horizon_with_every_budget_on_its_axis() -> None:
    panels = FOUND.size_panels()
    assert list(panels) == list(HORIZONS)
    panel = panels["h5"]
    assert panel.sessions == 5
    assert list(panel.n_params) == list(SIZES)
    assert panel.singles.keys() == panel.ensembles.keys() == N_PARAMS.keys()
    assert panel.notes == {"2B": "not\nrun"}
    assert panel.rivals["vol_logistic"] == 0
    assert panel.rivals["boosting"] == -0.01
    assert len(panel.rivals) == 5


def test_missing_years_are_noted_and_one_seed_is_no_ensemble() -> None:
    found = walked(verdict({"20K": (0.01, 0.5)}, missing={"20K": {"h1": [2007]}}, seeds=1))
    panels = found.size_panels()
    others = dict.fromkeys((name for name in SIZES if name != "20K"), "not\nrun")
    assert panels["h1"].notes == {"20K": "11 of\n12 y"} | others
    assert panels["h5"].notes == others
    assert panels["h1"].ensembles == {}
    assert list(panels["h1"].singles) == ["20K"]


def test_a_size_that_is_walked_at_one_horizon_is_noted_at_the_others() -> None:
    sizes = dict.fromkeys(("20K", "2M"), (0.01, 0.5))
    found = walked(verdict(sizes, missing={"2M": {"h1": [*YEARS]}}))
    found.params.cells["2M-h1"] = SimpleNamespace(budget="2M", horizon="h1")  # type: ignore[assignment]
    panels = replace(found, trained={"2M-h1": judged(0.4)}).size_panels()
    assert panels["h1"].notes["2M"] == "fixed\nyear"
    assert list(panels["h1"].singles) == ["20K"]
    assert "2M" not in panels["h5"].notes
    assert list(panels["h5"].singles) == ["20K", "2M"]
    assert found.takers == ["20K", "2M"]


def test_without_a_walk_there_is_no_panel() -> None:
    assert walked(no_verdict(list(SIZES))).size_panels() == {}


def test_a_size_of_the_fixed_year_alone_is_not_said_to_be_absent() -> None:
    found = walked(verdict({"20K": (0.01, 0.5)}, not_walked=["2M", "2B"]))
    found.params.cells["2M-h1"] = SimpleNamespace(budget="2M", horizon="h1")  # type: ignore[assignment]
    panels = replace(found, trained={"2M-h1": judged(0.4)}).size_panels()
    others = dict.fromkeys((name for name in SIZES if name != "20K"), "not\nrun")
    assert panels["h1"].notes == others | {"2M": "fixed\nyear"}
    assert panels["h5"].notes == others  # 2M-h5 is not trained
