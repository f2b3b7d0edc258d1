"""docs/results.md: the finding, how sure it is, and every figure with its interval."""

from dataclasses import dataclass
from typing import Any

from patchscale.backtest.bootstrap import DRAWS, block_length
from patchscale.report import finding, tables
from patchscale.study.params import Params
from patchscale.study.paths import RIVAL

Figures = dict[str, Any]
RULES = {
    "precision": "highest precision on validation",
    "youden": "highest recall less false alarms on validation",
}


@dataclass(frozen=True)
class Study:
    """All figures of a study."""

    params: Params
    judged: dict[str, Figures]
    """Of every cell, those that are not trained too."""
    baselines: dict[str, dict[str, Figures]]
    horizons: dict[str, Figures]
    """What `verdict.compare` returned for each."""
    searched: dict[str, Figures]
    tried: int
    """Settings and thresholds, in all."""
    as_of: str

    @property
    def trained(self) -> dict[str, Figures]:
        """Judgements of the trained cells."""
        return {cell: row for cell, row in self.judged.items() if row["trained"]}

    @property
    def trained_budgets(self) -> list[str]:
        """Budgets with trained cells, smallest first."""
        return list(dict.fromkeys(self.params.cells[cell].budget for cell in self.trained))

    @property
    def searched_budgets(self) -> set[str]:
        """Budgets whose settings a search chose."""
        return {self.params.cells[cell].budget for cell in self.searched}

    def cells_of(self, horizon: str) -> dict[str, Figures]:
        """Return the judgements of a horizon's cells, absent ones too."""
        cells = self.params.cells
        return {cell: row for cell, row in self.judged.items() if cells[cell].horizon == horizon}

    def forecasts_of(self, horizon: str) -> dict[str, Figures]:
        """Return the judgements of a horizon's cells, absent ones too, and of its baselines."""
        base = self.baselines[horizon]
        return self.cells_of(horizon) | {name: base[name] for name in finding.WORDS}

    def losses_against_n(self) -> dict[str, Figures]:
        """Return what the figure of loss against N shows of each horizon."""
        rows = {}
        for horizon, ahead in self.params.horizons.items():
            cells = {
                self.params.cells[cell].budget: row for cell, row in self.cells_of(horizon).items()
            }
            base = {name: row["test"] for name, row in self.baselines[horizon].items()}
            rows[horizon] = {
                "sessions": ahead,
                "n": base[RIVAL]["n"],
                "cells": [
                    {"budget": budget, "n_params": row["n_params"], **row["test"]}
                    for budget, row in cells.items()
                    if row["trained"]
                ],
                "absent": [
                    (budget, row["n_params"]) for budget, row in cells.items() if not row["trained"]
                ],
                "baselines": {name: test["log_loss"] for name, test in base.items()},
            }
        return rows


def page(study: Study) -> str:
    """Return docs/results.md."""
    sections = [
        "# Results",
        "<!-- written by the stage `report`; edits are overwritten -->",
        f"{the_finding(study)} {how_sure(study)}",
        about_data(study),
        "![Test log-loss against parameters](../plots/loss_vs_n.svg)",
        *size_sections(study),
        *forecast_sections(study),
        *calibration_sections(study),
        *trading_sections(study),
        "## Learning curves",
        "![Learning curves](../plots/learning_curves.svg)",
        *search_sections(study),
    ]
    return "\n\n".join(sections) + "\n"


def one_line(text: str) -> str:
    """Return a paragraph on one line."""
    return " ".join(text.split())


def about_data(study: Study) -> str:
    """Return where figures come from and what brackets mean."""
    data, blocks = study.params.data, [block_length(h) for h in study.params.horizons.values()]
    return one_line(f"""
        Data: `{study.params.dataset}`, {data.start} to {study.as_of}; validation from
        {data.validation_from}, test from {data.test_from}. Brackets are 95 % intervals:
        {DRAWS:,} stationary-bootstrap samples of days, mean block {_span(blocks)}, the same for all
        forecasts. Judged is the mean of a cell's seeds; what the seeds reach alone stands beside
        it. What is undefined has its reason in [metrics/backtest/](../metrics/backtest); so has an
        interval where more than 5 % of the samples have no such figure.
    """)


def size_sections(study: Study) -> list[str]:
    """Return how the loss changes with size."""
    return [
        "## Does the loss fall with size?",
        tables.sizes_table(study.horizons),
        one_line("""
            The change is a least-squares line through the mean losses of single seeds; its samples
            draw days and seeds anew. Holm's correction is for the horizons. Jonckheere and Terpstra
            rank the seeds: -1 where every seed of a bigger size has the lower loss, beside the
            smallest p that so few seeds can give. Early stopping looked at the validation days, so
            their losses are too good.
        """),
    ]


def calibration_sections(study: Study) -> list[str]:
    """Return how far probabilities mean what they say."""
    rows = {
        name if name in study.judged else f"{finding.WORDS[name]} {horizon}": row["test"]
        for horizon in study.horizons
        for name, row in study.forecasts_of(horizon).items()
        if row.get("trained", True)
    }
    return [
        "## Calibration in the test year",
        tables.calibration_table(rows),
        one_line("""
            Over ten bins of equally many days. Reliability and calibration error are zero for a
            calibrated forecast of endless days; with few days a bin they are not, and their
            intervals lie higher still.
        """),
        "![Reliability](../plots/reliability.svg)",
    ]


def the_finding(study: Study) -> str:
    """Return the finding in one sentence."""
    cells = {
        cell: study.horizons[study.params.cells[cell].horizon]["forecasts"][cell]
        | {"skill_p": row["strategy"]["skill_p"]}
        for cell, row in study.trained.items()
    }
    market = f"`{study.params.data.series}`"
    return finding.finding(market, study.trained_budgets, cells, study.horizons)


def how_sure(study: Study) -> str:
    """Return how sure the finding is."""
    tests = [rows[RIVAL]["test"] for rows in study.baselines.values()]
    lowest = {
        horizon: min(
            (
                (row["test"]["log_loss"], name)
                for name, row in study.forecasts_of(horizon).items()
                if row.get("trained", True)
            )
        )[1]
        for horizon in study.horizons
    }
    trained = {
        "as_of": study.as_of,
        "days": _span([test["n"] for test in tests]),
        "positives": _span([test["positives"] for test in tests]),
        "budgets": study.trained_budgets,
        "absent": [name for name in study.params.budgets if name not in study.trained_budgets],
        "once": [
            name for name in study.trained_budgets if study.params.budgets[name].run.seeds == 1
        ],
        "cells": len(study.trained),
        "tried": study.tried,
    }
    return finding.certainty(trained, study.horizons, lowest, study.searched_budgets)


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def forecast_sections(study: Study) -> list[str]:
    """Return each horizon's forecasts beside each other."""
    rule = study.params.backtest.threshold
    sections = ["## Forecasts of the test year"]
    for horizon, ahead in study.params.horizons.items():
        rival = study.baselines[horizon][RIVAL]
        compared = study.horizons[horizon]["forecasts"]
        sections += [
            f"### {horizon}: {ahead} session{'s' * (ahead > 1)} ahead, n {rival['test']['n']}, "
            f"{rival['test']['positives']} positive, {rival['prior']:.1%} in training",
            tables.forecasts_table(
                {
                    name: (row, compared.get(name, {}))
                    for name, row in study.forecasts_of(horizon).items()
                }
            ),
        ]
    explained = f"""
        Precision and recall are at the threshold frozen on validation: {RULES[rule.rule]} at a
        recall of at least {rule.min_recall:.0%}. p range is the span of the probabilities; below
        0.2 it is called collapsed. Skill is the share of the volatility logistic's log-loss that is
        saved, with p of Diebold and Mariano's test, in brackets corrected for all
        {len(study.trained)} cells by Holm. The confidence set holds the best forecast with 95 %
        probability. Gradient boosting has as many trees as are best on validation, as transformers
        have epochs.
    """
    return [
        *sections,
        one_line(explained),
        "![Skill over the volatility logistic](../plots/skill.svg)",
        "![Precision and recall](../plots/precision_recall.svg)",
    ]


def trading_sections(study: Study) -> list[str]:
    """Return what trading the signals was worth."""
    rivals = {horizon: rows[RIVAL]["strategy"] for horizon, rows in study.baselines.items()}
    some = next(iter(rivals.values()))
    held = some["buy_and_hold"]
    rows = {cell: row["strategy"] for cell, row in study.trained.items()}
    rows |= {f"{finding.WORDS[RIVAL]} {horizon}": row for horizon, row in rivals.items()}
    explained = f"""
        Buy and hold over the same sessions: {held["total_return"]:+.1%}, Sharpe
        {tables.with_interval(held, "sharpe", ".2f")}, max drawdown {held["max_drawdown"]:.1%}. A
        signal after the close of t is traded at the open of t+1 and left at the first touch of the
        target or at the close of t+H; Sharpe and drawdown are at {some["cost_bps"]:g} bp a side.
        The label is measured from the close, the trade from the next open: hence the label hit rate
        beside the trades won. The probability of skill is the probabilistic Sharpe ratio, then
        deflated by the settings and thresholds tried for that strategy, then by all
        {study.tried:,} of the study; 0.95 would be evidence. Tries are taken for independent, which
        asks for too much. An index level cannot be bought: these are gross of financing and
        tracking.
    """
    return [
        f"## What trading it was worth, {some['sessions']} sessions to {study.as_of}",
        tables.strategies_table(rows),
        one_line(explained),
        "![Wealth in the test year](../plots/equity.svg)",
    ]


def search_sections(study: Study) -> list[str]:
    """Return what was searched; budgets without a search say so."""
    rest = [name for name in study.params.budgets if name not in study.searched_budgets]
    said = f"Not searched: {', '.join(rest) or 'none'}; they train with the table's row."
    if not study.searched:
        return ["## Searches", said]
    explained = f"""
        Losses are of the best epoch on the scattered validation days: the lowest of many tries, and
        so too good. Nothing of the test year is read. Trial 0 is the table's row. Importance is
        fANOVA's, for the loss up to the first look of the pruner; with so few trials, drawn where
        it looked good, it tells of them and not of the problem. {said}
    """
    return [
        "## Searches",
        tables.searches_table(study.searched),
        one_line(explained),
        "![Validation log-loss by trial, and importance](../plots/searches.svg)",
    ]
