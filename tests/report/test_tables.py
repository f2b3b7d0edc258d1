from dataclasses import replace
from math import nan
from typing import Any

import pytest

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.backtest.judge import Judgement
from patchscale.backtest.returns import Performance, deflated_sharpe
from patchscale.backtest.scores import Scores, SeedScores
from patchscale.backtest.trading import Strategy
from patchscale.report.comparison import Difference, HorizonComparison
from patchscale.report.finding import WORDS, p_text
from patchscale.report.scaling import PowerLaw, SizeEffect
from patchscale.report.tables import (
    bar_table,
    brier_table,
    calibration_table,
    losses_table,
    luck_table,
    p_values_table,
    searches_table,
    signals_table,
    sizes_table,
    table,
    trades_table,
    with_interval,
)


def estimate(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value, value - half, value + half)


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def rows_of(text: str) -> list[list[str]]:
    """Return the rows below the head, each as wide as it."""
    lines = [cells_of(line) for line in text.splitlines()]
    assert len({len(line) for line in lines}) == 1
    return lines[2:]


def test_a_table_is_markdown():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_an_estimate_is_shown_with_its_interval():
    assert with_interval(estimate(0.51234)) == "0.512 [0.412, 0.612]"
    assert with_interval(estimate(0.51234), "+.1%") == "+51.2% [+41.2%, +61.2%]"
    assert with_interval(UNDEFINED) == "undefined"
    assert with_interval(Estimate(0.51234, nan, nan)) == "0.512 [interval undefined]"


@pytest.mark.parametrize(("p", "text"), [(0.0004, "< 0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_a_p_value_is_never_zero(p, text):
    assert p_text(p) == text


def test_sizes_are_shown_for_test_and_validation_with_their_seeds():
    found = SizeEffect(
        slope=estimate(-0.02, 0.01),
        slope_p=0.01,
        slope_p_holm=0.04,
        days=250,
        seeds=[3, 1],
        power_law=PowerLaw(False, "three constants cannot be fitted to 2 sizes"),
    )
    effects = {"test": found, "val": replace(found, days=754)}
    horizons = {
        "h1": HorizonComparison(2, effects, {}, {}, {}),
        "h5": HorizonComparison(1, {}, {}, {}, {}),
    }
    rows = rows_of(sizes_table(horizons))
    assert [row[:2] for row in rows] == [
        ["h1", "test"],
        ["h1", "validation"],
        ["h5", "test"],
        ["h5", "validation"],
    ]
    assert rows[0][2:] == [
        "2: 3 + 1 seeds",
        "250",
        "-0.0200 [-0.0300, -0.0100]",
        "0.010 (0.040)",
    ]
    assert rows[1][3] == "754"
    assert rows[2][2:] == ["1", "", "needs two sizes", ""]


SCORES = Scores(
    n=250,
    positives=54,
    block=2,
    signals=11,
    precision=estimate(0.4),
    recall=estimate(0.25),
    log_loss=estimate(0.61, 0.03),
    brier=estimate(0.2),
    brier_skill=estimate(0.1),
    auc=estimate(0.55),
    average_precision=UNDEFINED,
    ece=estimate(0.05, 0.01),
    reliability=estimate(0.01, 0.005),
    resolution=estimate(0.03, 0.005),
    uncertainty=estimate(0.24),
    within_bins=estimate(0.0),
    p_min=0.1,
    p_max=0.41,
    p_range=0.31,
    collapsed=False,
    undefined={},
    seeds={f"seed{k}": SeedScores(0.6 + k, 0.5) for k in (0.022, 0.011, 0.033)},
)
BUY_AND_HOLD = Performance(
    sessions=250,
    total_return=0.1,
    cagr=0.1,
    volatility=0.2,
    max_drawdown=-0.04,
    sharpe=estimate(0.4, 1.0),
    sharpe_error=1.0,
    probabilistic_sharpe=0.61,
    undefined={},
)
STRATEGY = Strategy(
    **vars(BUY_AND_HOLD),
    trades=30,
    signals=11,
    label_hit_rate=0.45,
    touch_rate=0.5,
    win_rate=0.64,
    mean_trade_bps=10.0,
    exposure=0.04,
    turnover=22.1,
    cost_bps=2.0,
    cash_rate=0.0,
    total_return_at_bps={"10": -0.02, "0": 0.01, "5": -0.005},
    buy_and_hold=BUY_AND_HOLD,
    minus_buy_and_hold=estimate(0.05),
)
SINGLE = Difference(UNDEFINED, estimate(-0.005, 0.01), 1.0, 0.4, 4, 0.3, 0.5, dm_p_holm=1.0)
N_PARAMS = {"2M-h1": 1_998_017, "2B-h1": 2_000_123_456}
DIFFERENCE = Difference(UNDEFINED, estimate(0.012, 0.01), -2.0, 0.03, 3, 0.02, 0.04, dm_p_holm=0.24)


def judged(**changes: Any) -> Judgement:
    test = replace(SCORES, **changes)
    return Judgement("2018-12-31", 0.5, 0.4, test, test, STRATEGY)


def losses(
    rows: dict[str, Judgement | None],
    differences: dict[str, Difference],
    confidence_set: dict[str, float],
) -> list[list[str]]:
    singles = {name: SINGLE for name in rows if name in N_PARAMS}
    return rows_of(
        losses_table(rows, HorizonComparison(2, {}, confidence_set, differences, singles))
    )


def test_single_seeds_and_their_ensemble_have_columns_of_their_own():
    (row,) = losses({"2M-h1": judged()}, {"2M-h1": DIFFERENCE}, {"2M-h1": 0.2})
    assert row == [
        "2M-h1",
        "0.622",
        "-0.5% [-1.5%, +0.5%]",
        "0.610 [0.580, 0.640]",
        "+1.2% [+0.2%, +2.2%]",
        "in",
    ]


def test_a_skill_that_survives_the_correction_is_bold():
    sure = {"2M-h1": replace(DIFFERENCE, dm_p_holm=0.04)}
    (row,) = losses({"2M-h1": judged()}, sure, {"2M-h1": 0.2})
    assert row[4] == "**+1.2% [+0.2%, +2.2%]**"


def test_a_baseline_is_a_row_like_any_other():
    baseline = judged(seeds={})
    rows = losses(
        {"boosting": baseline, "har_logistic": baseline},
        {"boosting": replace(DIFFERENCE, dm_p_holm=nan)},
        {"boosting": 0.2, "har_logistic": 0.01},
    )
    assert rows[0] == ["gradient boosting", "", "", *rows[0][3:]]
    assert rows[0][4:] == ["+1.2% [+0.2%, +2.2%]", "in"]
    assert rows[1][4:] == ["", "out"]


def test_a_forecast_shows_its_ranking_and_its_signals_each_with_an_interval():
    (row,) = rows_of(signals_table({"2M-h1": judged()}))
    assert row == [
        "2M-h1",
        "0.55 [0.45, 0.65]",
        "0.40 [0.30, 0.50]",
        "11",
        "0.25 [0.15, 0.35]",
        "0.31",
    ]


def test_undefined_and_collapsed_are_marked():
    row = judged(precision=UNDEFINED, p_range=0.12, collapsed=True, signals=0)
    (row,) = rows_of(signals_table({"2M-h1": row}))
    assert row[2:4] == ["undefined", "0"]
    assert row[5] == "0.12 collapsed"


def test_a_cell_that_was_not_run_shows_no_number():
    cells = {"2M-h1": judged(), "2B-h1": None}
    for _, row in (
        losses(cells, {"2M-h1": DIFFERENCE}, {"2M-h1": 0.2}),
        rows_of(signals_table(cells)),
    ):
        assert row == ["2B-h1", "not run", "", "", "", ""]


def test_p_values_against_the_bar_are_shown_for_three_block_lengths_and_corrected():
    (row,) = rows_of(p_values_table(N_PARAMS, {"2M-h1": SINGLE}, {"2M-h1": DIFFERENCE}))
    assert row == [
        "2M-h1",
        "1,998,017",
        "4: 0.300 / 0.400 / 0.500",
        "1.000",
        "3: 0.020 / 0.030 / 0.040",
        "0.240",
    ]


def test_the_bar_is_shown_beside_its_rivals_on_validation_days():
    better = judged(log_loss=estimate(0.5, 0.03))
    horizons = {name: dict.fromkeys(WORDS, judged()) for name in ("h1", "h3")}
    horizons["h3"] |= {"har_logistic": better}
    rows = {row[0]: row[1:] for row in rows_of(bar_table(horizons))}
    assert rows["the HAR logistic"] == ["0.5550", "0.61 [0.58, 0.64]", "0.50 [0.47, 0.53]"]
    assert rows["the training prior"][0] == "0.6100"


def test_calibration_shows_the_brier_score_and_its_parts():
    (row,) = rows_of(brier_table({"2M-h1": SCORES}))
    assert row == ["2M-h1", "0.200 [0.100, 0.300]", "+10.0% [+0.0%, +20.0%]", "undefined"]
    (row,) = rows_of(calibration_table({"2M-h1": SCORES}))
    assert row[:3] == ["2M-h1", "0.010 [0.005, 0.015]", "0.030 [0.025, 0.035]"]


def test_a_strategy_shows_its_return_at_every_cost():
    text = trades_table({"2M-h1": STRATEGY})
    assert "return at 0 / 5 / 10 bp a side" in text
    (row,) = rows_of(text)
    assert row == ["2M-h1", "30 of 11", "0.45, 0.64", "4%, 22", "+1.0% / -0.5% / -2.0%", "-4.0%"]


def test_a_strategy_shows_its_probabilities_of_skill():
    (row,) = rows_of(luck_table({"2M-h1": STRATEGY}, 44))
    assert row == ["2M-h1", "+5.0% [-5.0%, +15.0%]", "0.40 [-0.60, 1.40]", "0.61", "0.03", ""]
    assert deflated_sharpe(STRATEGY, 44) == pytest.approx(0.03, abs=0.005)


def test_fewer_than_30_trades_are_no_evidence_either_way():
    (row,) = rows_of(luck_table({"2M-h1": replace(STRATEGY, trades=29)}, 44))
    assert row[3:] == ["0.61", "0.03", "no evidence either way"]


def test_a_strategy_that_never_traded_has_no_sharpe_and_no_hit_rate():
    nothing = replace(
        STRATEGY,
        trades=0,
        signals=0,
        label_hit_rate=None,
        win_rate=None,
        sharpe=UNDEFINED,
        sharpe_error=None,
        probabilistic_sharpe=None,
    )
    (row,) = rows_of(trades_table({"2M-h1": nothing}))
    assert row[1:3] == ["0 of 0", ""]
    (row,) = rows_of(luck_table({"2M-h1": nothing}, 44))
    assert row[2:] == ["no trade", "", "", "no evidence either way"]


SEARCH = {
    "trials": 30,
    "complete": 9,
    "pruned": 20,
    "fail": 1,
    "n": 660,
    "positives": 154,
    "trial_0_val_log_loss": 0.4886,
    "val_log_loss": 0.4801,
    "best_trial": 17,
    "lowest_val_log_loss": 0.479,
    "standard_error": 0.0021,
    "trainings": 48,
}


def test_a_search_is_shown_against_its_trial_0_with_its_cost():
    (row,) = rows_of(searches_table({"2M-h1": SEARCH}))
    assert row == [
        "2M-h1",
        "30: 9, 20, 1",
        "660, 154",
        "0.4886",
        "0.4801 (trial 17)",
        "0.4790, 0.0021",
        "48",
    ]
    (failed,) = rows_of(searches_table({"2M-h1": SEARCH | {"trial_0_val_log_loss": None}}))
    assert failed[3:5] == ["failed", "0.4801 (trial 17)"]
