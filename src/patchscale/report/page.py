"""Page docs/results.md: the finding, its certainty, and every figure with its interval."""

from dataclasses import dataclass
from typing import Any

from patchscale.backtest.bootstrap import DRAWS
from patchscale.backtest.judge import BENCHMARK, Judgement
from patchscale.backtest.returns import deflated_sharpe
from patchscale.report import finding, tables
from patchscale.report.comparison import Difference, HorizonComparison
from patchscale.report.figures import LossPanel
from patchscale.report.scaling import SizeEffect
from patchscale.study.params import Params

RULES = {
    "precision": "highest precision on validation",
    "youden": "highest recall less false alarms on validation",
}


@dataclass(frozen=True)
class Results:
    """All figures that the report shows."""

    params: Params
    n_params: dict[str, int]
    """Counted parameters of every cell."""
    trained: dict[str, Judgement]
    """Judgements of the trained cells."""
    baselines: dict[str, dict[str, Judgement]]
    """For each horizon the judgements of its baselines."""
    comparisons: dict[str, HorizonComparison]
    searched: dict[str, dict[str, Any]]
    """For each search that was made its figures in metrics/hpo."""
    tried: int
    """Settings and thresholds of all searches and strategies."""
    as_of: str

    @property
    def effects(self) -> dict[str, SizeEffect]:
        """Effect of size on the test days, for each horizon with two sizes."""
        rows = self.comparisons.items()
        return {horizon: row.effects["test"] for horizon, row in rows if row.effects}

    @property
    def skill(self) -> dict[str, float | None]:
        """Sharpe ratio of each trained cell, deflated by all that the study tried."""
        rows = self.trained.items()
        return {cell: deflated_sharpe(row.strategy, self.tried) for cell, row in rows}

    @property
    def differences(self) -> dict[str, Difference]:
        """Comparison of each trained cell with the benchmark."""
        horizons = {cell: self.params.cells[cell].horizon for cell in self.trained}
        return {cell: self.comparisons[h].differences[cell] for cell, h in horizons.items()}

    @property
    def trained_budgets(self) -> list[str]:
        """Budgets with trained cells, smallest first."""
        return list(dict.fromkeys(self.params.cells[cell].budget for cell in self.trained))

    @property
    def searched_budgets(self) -> set[str]:
        """Budgets whose settings a search chose."""
        searched = {self.params.cells[cell].budget for cell in self.searched}
        return {name for name in self.params.budgets if self.params.source_of(name) in searched}

    def cells_of(self, horizon: str) -> dict[str, Judgement | None]:
        """Return the judgements of a horizon's cells, None of a cell that is not trained."""
        rows = self.params.cells.items()
        return {cell: self.trained.get(cell) for cell, row in rows if row.horizon == horizon}

    def forecasts_of(self, horizon: str) -> dict[str, Judgement | None]:
        """Return the judgements of a horizon's cells, as `cells_of` does, and of its baselines."""
        base = self.baselines[horizon]
        return self.cells_of(horizon) | {name: base[name] for name in finding.WORDS}

    def loss_panels(self) -> dict[str, LossPanel]:
        """Return the panel of each horizon in the figure of loss against size."""
        panels = {}
        for horizon, ahead in self.params.horizons.items():
            base = {name: row.test for name, row in self.baselines[horizon].items()}
            cells = [
                (self.params.cells[cell].budget, self.n_params[cell], row)
                for cell, row in self.cells_of(horizon).items()
            ]
            panels[horizon] = LossPanel(
                sessions=ahead,
                n=base[BENCHMARK].n,
                cells=[(budget, n_params, row.test) for budget, n_params, row in cells if row],
                absent=[(budget, n_params) for budget, n_params, row in cells if not row],
                baselines={name: test.log_loss.value for name, test in base.items()},
            )
        return panels


def page(results: Results) -> str:
    """Return docs/results.md."""
    sections = [
        "# Results",
        "<!-- written by the stage `report`; edits are overwritten -->",
        f"{the_finding(results)} {how_sure(results)}",
        about_data(results),
        "![Test log-loss against parameters](../plots/loss_vs_n.svg)",
        *size_sections(results),
        *forecast_sections(results),
        *calibration_sections(results),
        *trading_sections(results),
        "## Learning curves",
        "![Learning curves](../plots/learning_curves.svg)",
        *search_sections(results),
    ]
    return "\n\n".join(sections) + "\n"


def one_line(text: str) -> str:
    """Return a paragraph on one line."""
    return " ".join(text.split())


def about_data(results: Results) -> str:
    """Return the paragraph on the data and the intervals."""
    data = results.params.data
    judged = [row for h in results.comparisons for row in results.forecasts_of(h).values() if row]
    blocks = [scores.block for row in judged for scores in (row.val, row.test)]
    return one_line(f"""
        Data: `{results.params.dataset}`, {data.start} to {results.as_of}; validation from
        {data.validation_from}, test from {data.test_from}. Brackets are 95 % intervals:
        {DRAWS:,} stationary-bootstrap samples of days. The mean block length follows from the daily
        losses, differences or returns themselves (Politis and White 2004) and is at least the
        horizon; for losses it is {_span(blocks)} days. Judged is the mean of a cell's seeds; what
        the seeds reach alone stands beside it. What is undefined has its reason in
        [metrics/backtest/](../metrics/backtest); so has an interval where more than 5 % of the
        samples have no such figure.
    """)


def size_sections(results: Results) -> list[str]:
    """Return the sections on the change of the loss with size."""
    return [
        "## Does the loss fall with size?",
        tables.sizes_table(results.comparisons),
        one_line("""
            The change is a least-squares line through the mean losses of single seeds; its samples
            draw days and seeds anew. Holm's correction is for the horizons. Jonckheere and Terpstra
            rank the seeds: -1 where every seed of a bigger size has the lower loss, beside the
            smallest p that so few seeds can give. Early stopping looked at the validation days, so
            their losses are too good.
        """),
    ]


def calibration_sections(results: Results) -> list[str]:
    """Return the sections on calibration."""
    rows = {
        name if name in results.trained else f"{finding.WORDS[name]} {horizon}": row.test
        for horizon in results.comparisons
        for name, row in results.forecasts_of(horizon).items()
        if row
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


def the_finding(results: Results) -> str:
    """Return the finding in one sentence."""
    market = f"`{results.params.data.series}`"
    return finding.finding(
        market, results.trained_budgets, results.differences, results.skill, results.effects
    )


def how_sure(results: Results) -> str:
    """Return the sentences on the certainty of the finding."""
    tests = [rows[BENCHMARK].test for rows in results.baselines.values()]
    lowest = {
        horizon: min(
            (row.test.log_loss.value, name)
            for name, row in results.forecasts_of(horizon).items()
            if row
        )[1]
        for horizon in results.comparisons
    }
    budgets = results.params.budgets
    scope = finding.Scope(
        as_of=results.as_of,
        days=_span([test.n for test in tests]),
        positives=_span([test.positives for test in tests]),
        budgets=results.trained_budgets,
        absent=[name for name in budgets if name not in results.trained_budgets],
        once=[name for name in results.trained_budgets if budgets[name].run.seeds == 1],
        searched=results.searched_budgets,
        cells=len(results.trained),
        tried=results.tried,
    )
    return finding.certainty(scope, results.effects, lowest)


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def forecast_sections(results: Results) -> list[str]:
    """Return the sections that compare the forecasts of each horizon."""
    rule = results.params.backtest.threshold
    sections = ["## Forecasts of the test year"]
    for horizon, ahead in results.params.horizons.items():
        benchmark = results.baselines[horizon][BENCHMARK]
        sections += [
            f"### {horizon}: {ahead} session{'s' * (ahead > 1)} ahead, n {benchmark.test.n}, "
            f"{benchmark.test.positives} positive, {benchmark.prior:.1%} in training",
            tables.forecasts_table(
                results.forecasts_of(horizon), results.n_params, results.comparisons[horizon]
            ),
        ]
    explained = f"""
        Precision and recall are at the threshold frozen on validation: {RULES[rule.rule]} at a
        recall of at least {rule.min_recall:.0%}. p range is the span of the probabilities; below
        0.2 it is called collapsed. Skill is the share of the volatility logistic's log-loss that is
        saved, with p of Diebold and Mariano's test, in brackets corrected for all
        {len(results.trained)} cells by Holm. The confidence set holds the best forecast with 95 %
        probability. Gradient boosting has as many trees as are best on validation, as transformers
        have epochs.
    """
    return [
        *sections,
        one_line(explained),
        "![Skill over the volatility logistic](../plots/skill.svg)",
        "![Precision and recall](../plots/precision_recall.svg)",
    ]


def trading_sections(results: Results) -> list[str]:
    """Return the sections on trading the signals."""
    rows = {cell: row.strategy for cell, row in results.trained.items()}
    rows |= {
        f"{finding.WORDS[BENCHMARK]} {horizon}": baselines[BENCHMARK].strategy
        for horizon, baselines in results.baselines.items()
    }
    first = next(iter(results.baselines.values()))[BENCHMARK].strategy
    held = first.buy_and_hold
    explained = f"""
        Buy and hold over the same sessions: {held.total_return:+.1%}, Sharpe
        {tables.with_interval(held.sharpe, ".2f")}, max drawdown {held.max_drawdown:.1%}. A
        signal after the close of t is traded at the open of t+1 and left at the first touch of the
        target or at the close of t+H; Sharpe and drawdown are at {first.cost_bps:g} bp a side.
        The label is measured from the close, the trade from the next open: hence the label hit rate
        beside the trades won. The probability of skill is the probabilistic Sharpe ratio, then
        deflated by the settings and thresholds tried for that strategy, then by all
        {results.tried:,} of the study; 0.95 would be evidence. Tries are taken for independent,
        which asks for too much. An index level cannot be bought: these are gross of financing and
        tracking.
    """
    return [
        f"## What trading it was worth, {first.sessions} sessions to {results.as_of}",
        tables.strategies_table(rows, results.tried),
        one_line(explained),
        "![Wealth in the test year](../plots/equity.svg)",
    ]


def search_sections(results: Results) -> list[str]:
    """Return the sections on the searches, which also name the budgets without one."""
    rest = [name for name in results.params.budgets if name not in results.searched_budgets]
    said = f"With the table's row train: {', '.join(rest) or 'none'}."
    if not results.searched:
        return ["## Searches", said]
    explained = f"""
        Losses are means of seeds at the end of their trainings, on validation blocks from all
        periods before the test year. The trial that is chosen is the cheapest of those within one
        standard error of the lowest. Trial 0 is the table's row. Importance is fANOVA's, for the
        loss of the first seed; with so few trials, drawn where it looked good, it tells of them and
        not of the problem. Sizes without a search of their own take rate, decay, dropout, epochs
        and proportions from it. {said}
    """
    return [
        "## Searches",
        tables.searches_table(results.searched),
        one_line(explained),
        "![Validation log-loss by trial, and importance](../plots/searches.svg)",
    ]
