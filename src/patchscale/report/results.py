"""All figures that the report shows."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from patchscale.backtest.judge import BENCHMARK, Judgement
from patchscale.backtest.returns import deflated_sharpe, expected_best_sharpe
from patchscale.backtest.trading import FEW_TRADES
from patchscale.report import finding
from patchscale.report.comparison import Difference, HorizonComparison
from patchscale.report.figures import LossPanel
from patchscale.report.scaling import SizeEffect
from patchscale.report.walk_figures import SizePanel
from patchscale.study.params import Params
from patchscale.verdict.forecasts import ENSEMBLE
from patchscale.verdict.losses import SINGLE
from patchscale.verdict.result import Verdict


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
    as_of: str
    verdict: Verdict
    """What the walk forward says."""
    yearly: pd.DataFrame
    """Table of plots/verdict.csv."""
    saw: dict[str, dict[str, bool]]
    """For each walked budget and test year whether its settings were chosen on days of it."""

    @property
    def effects(self) -> dict[str, SizeEffect]:
        """Effect of size on the test days, for each horizon with two sizes."""
        rows = self.comparisons.items()
        return {horizon: row.effects["test"] for horizon, row in rows if row.effects}

    @property
    def strategies(self) -> int:
        """Strategies that are judged on the test days: those of trained cells and of baselines."""
        return len(self.trained) + sum(map(len, self.baselines.values()))

    @property
    def lucky_sharpe(self) -> float:
        """Sharpe ratio that luck alone gives the best of the strategies."""
        first = next(iter(self.baselines.values()))[BENCHMARK].strategy
        return expected_best_sharpe(self.strategies, first.sessions)

    @property
    def skill(self) -> dict[str, float | None]:
        """Deflated Sharpe ratio of each trained cell."""
        rows = self.trained.items()
        return {cell: deflated_sharpe(row.strategy, self.strategies) for cell, row in rows}

    @property
    def evidence(self) -> dict[str, float | None]:
        """Deflated Sharpe ratio of each trained cell that traded often enough to tell."""
        return {
            cell: p
            for cell, p in self.skill.items()
            if self.trained[cell].strategy.trades >= FEW_TRADES
        }

    @property
    def differences(self) -> dict[str, Difference]:
        """Comparison of the ensemble of each trained cell's seeds with the bar."""
        return {cell: self._comparison(cell).differences[cell] for cell in self.trained}

    @property
    def singles(self) -> dict[str, Difference]:
        """Comparison of each trained cell's single seeds on average with the bar."""
        return {cell: self._comparison(cell).singles[cell] for cell in self.trained}

    def _comparison(self, cell: str) -> HorizonComparison:
        return self.comparisons[self.params.cells[cell].horizon]

    @property
    def trained_budgets(self) -> list[str]:
        """Budgets with trained cells, smallest first."""
        return list(dict.fromkeys(self.params.cells[cell].budget for cell in self.trained))

    @property
    def searched_budgets(self) -> set[str]:
        """Budgets whose settings a search chose."""
        searched = {self.params.cells[cell].budget for cell in self.searched}
        return {name for name in self.params.budgets if self.params.source_of(name) in searched}

    @property
    def takers(self) -> list[str]:
        """Walked budgets that take over the settings of the searched one."""
        rows, walked = self.params.budgets.items(), self.verdict.seeds
        return [name for name, row in rows if row.settings == "transfer" and name in walked]

    def cells_of(self, horizon: str) -> dict[str, Judgement | None]:
        """Return the judgements of a horizon's cells, None of a cell that is not trained."""
        rows = self.params.cells.items()
        return {cell: self.trained.get(cell) for cell, row in rows if row.horizon == horizon}

    def forecasts_of(self, horizon: str) -> dict[str, Judgement | None]:
        """Return the judgements of a horizon's cells, as `cells_of` does, and of its baselines."""
        base = self.baselines[horizon]
        return self.cells_of(horizon) | {name: base[name] for name in finding.WORDS}

    @property
    def fixed_year(self) -> finding.FixedYear:
        """What the fixed test year says."""
        trained = self.trained_budgets
        return finding.FixedYear(
            budgets=trained,
            untrained=[name for name in self.params.budgets if name not in trained],
            ensembles=self.differences,
            singles=self.singles,
            evidence=self.evidence,
            effects=self.effects,
            thousandfold={
                horizon: row.thousandfold
                for horizon, row in self.comparisons.items()
                if row.thousandfold
            },
        )

    def size_panels(self) -> dict[str, SizePanel]:
        """Return the panel of each horizon in the figure of differences to the bar."""
        verdict = self.verdict
        if not verdict.sizes or not verdict.bar:
            return {}
        years, several = len(verdict.years), {name for name, n in verdict.seeds.items() if n > 1}
        panels = {}
        for horizon, ahead in self.params.horizons.items():
            cells = {budget: f"{budget}-{horizon}" for budget in self.params.budgets}
            singles, ensembles = (
                {b: tests[cell] for b, cell in cells.items() if cell in tests}
                for tests in (verdict.cells[SINGLE], verdict.cells[ENSEMBLE])
            )
            absent = {
                budget: "fixed\nyear" if cell in self.trained else "not\nrun"
                for budget, cell in cells.items()
                if budget not in singles
            }
            partly = {
                budget: f"{test.years} of\n{years} y"
                for budget, test in singles.items()
                if test.years < years
            }
            panels[horizon] = SizePanel(
                sessions=ahead,
                n_params={budget: self.n_params[cell] for budget, cell in cells.items()},
                singles=singles,
                ensembles={b: test for b, test in ensembles.items() if b in several},
                rivals={verdict.bar.name: 0.0}
                | {n: row.horizons[horizon].mean.value for n, row in verdict.rivals.items()},
                notes=absent | partly,
            )
        return panels

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
