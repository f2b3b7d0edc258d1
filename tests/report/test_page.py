from types import SimpleNamespace
from typing import Any

import pytest

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.backtest.returns import expected_best_sharpe
from patchscale.report.finding import WORDS
from patchscale.report.page import bar_sections
from patchscale.report.results import Results

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
    )


def test_the_bar_is_said_to_be_the_simple_rival_of_lowest_validation_loss() -> None:
    _, text, table = bar_sections(results())
    assert "is the HAR logistic, the simple rival of lowest mean log-loss on the validation" in text
    assert "| the HAR logistic | 0.4000 | 0.400 [0.300, 0.500] | 0.400 [0.300, 0.500] |" in table


def test_a_simple_rival_that_is_lower_on_validation_is_named_and_boosting_is_none() -> None:
    _, text, _ = bar_sections(results(vol_logistic=0.39, boosting=0.1))
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
