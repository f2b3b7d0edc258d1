"""Compare all cells: metrics/scaling.json, the figures, docs/results.md and docs/results.html."""

from pathlib import Path

import pandas as pd

from patchscale.backtest.flatten import restore
from patchscale.backtest.judge import BENCHMARK, Judgement
from patchscale.report import cell_figures, figures, walk_figures
from patchscale.report.captions import CAPTIONS
from patchscale.report.certainty import seen_years
from patchscale.report.comparison import compare, correct
from patchscale.report.made import Made, installed
from patchscale.report.page import page
from patchscale.report.results import Results
from patchscale.report.web_page import web_page
from patchscale.study import paths
from patchscale.study.files import (
    read_arrow,
    read_csv,
    read_json,
    write_csv,
    write_json,
    write_text,
)
from patchscale.study.lock import dvc_md5
from patchscale.study.params import Params, load_params
from patchscale.study.stage import run
from patchscale.study.tables import read_losses
from patchscale.verdict.result import Verdict


def main() -> None:
    params = load_params()
    rows = {
        cell: read_json(paths.backtest_metrics(cell), "trained", "n_params")
        for cell in params.cells
    }
    n_params = {cell: row["n_params"] for cell, row in rows.items()}
    trained = {cell: restore(Judgement, row) for cell, row in rows.items() if row["trained"]}
    baselines = {
        horizon: {
            name: restore(Judgement, row)
            for name, row in read_json(paths.baseline_metrics(horizon), BENCHMARK).items()
        }
        for horizon in params.horizons
    }
    found = {cell: read_json(paths.hpo_metrics(cell), "trials") for cell in searches_of(params)}

    comparisons = {}
    for horizon, ahead in params.horizons.items():
        present = [cell for cell in trained if params.cells[cell].horizon == horizon]
        comparisons[horizon] = compare(
            {cell: read_losses(cell, "log_loss") for cell in present},
            n_params,
            read_losses(f"baselines-{horizon}", "prior"),
            ahead,
        )
    walks = {
        budget: read_json(paths.walk_metrics(budget), "walked", "settings_saw_year")
        for budget in params.budgets
    }
    results = Results(
        params=params,
        n_params=n_params,
        trained=trained,
        baselines=baselines,
        comparisons=correct(comparisons, list(trained)),
        searched={cell: row for cell, row in found.items() if row["trials"]},
        as_of=next(iter(baselines.values()))[BENCHMARK].data_as_of,
        verdict=restore(Verdict, read_json(paths.VERDICT, "years", "bar", "rivals")),
        yearly=read_csv(paths.VERDICT_CSV),
        saw={name: row["settings_saw_year"] for name, row in walks.items() if row["walked"]},
    )
    write_json(
        paths.SCALING,
        {
            "data_as_of": results.as_of,
            "bar": BENCHMARK,
            "strategies": results.strategies,
            "lucky_sharpe": results.lucky_sharpe,
            "skill_p": results.skill,
            "horizons": {name: row.as_json() for name, row in results.comparisons.items()},
        },
    )
    write_csv(paths.SCALING_CSV, scaling_rows(results))
    draw(results)
    inputs = (paths.bars(params.dataset), paths.LOSSES)
    made = Made({path.as_posix(): dvc_md5(path) for path in inputs}, installed())
    text = page(results, made)
    pictures = {name: paths.figure(name).read_text(encoding="utf-8") for name in CAPTIONS}
    write_text(paths.RESULTS, text)
    write_text(paths.RESULTS_PAGE, web_page(text, pictures))


def searches_of(params: Params) -> list[str]:
    """Return the cells that may have a search, in the order of the table."""
    return [f"{budget}-{horizon}" for budget in params.budgets for horizon in params.searches]


def scaling_rows(results: Results) -> pd.DataFrame:
    """Return a row per trained cell: its test log-loss with the interval."""
    rows = []
    for cell, judged in results.trained.items():
        row, loss = results.params.cells[cell], judged.test.log_loss
        rows.append([row.budget, row.horizon, loss.value, loss.low, loss.high])
    return pd.DataFrame(rows, columns=["budget", "horizon", "log_loss", "low", "high"])


def draw(results: Results) -> None:
    """Draw every figure of the report."""
    params, cells = results.params, list(results.trained)

    def tables(kind: str) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
        """Return the tables behind a kind of plot, of trained cells and of each horizon's bar."""
        return (
            {cell: read(paths.plot(kind, cell)) for cell in cells},
            {h: read(paths.plot(kind, f"bar-{h}")) for h in params.horizons},
        )

    test = {cell: row.test for cell, row in results.trained.items()}
    test |= {horizon: rows[BENCHMARK].test for horizon, rows in results.baselines.items()}
    trades = {cell: read(paths.trades(cell)) for cell in cells}
    curves = {cell: read(paths.plot("curves", cell)) for cell in cells}
    searches = {
        cell: {
            "trials": read_arrow(paths.hpo(cell, "trials.arrow")),
            "importance": read(paths.hpo(cell, "importance.csv")),
        }
        for cell in results.searched
    }
    verdict = results.verdict
    bar = verdict.bar.name if verdict.bar else ""
    walk_figures.size(results.size_panels(), bar, paths.figure("size"))
    walk_figures.slopes(verdict.primary, seen_years(results.saw), paths.figure("slopes"))
    grid, budgets, horizons = params.cells, list(params.budgets), list(params.horizons)
    figures.loss_vs_n(results.loss_panels(), paths.figure("loss_vs_n"))
    figures.skill_map(
        budgets, horizons, results.singles, results.differences, paths.figure("skill")
    )
    figures.searches(searches, paths.figure("searches"))
    cell_figures.reliability(grid, *tables("calibration"), paths.figure("reliability"))
    cell_figures.precision_recall(
        grid, *tables("precision_recall"), test, paths.figure("precision_recall")
    )
    cell_figures.equity(grid, *tables("equity"), trades, paths.figure("equity"))
    cell_figures.learning_curves(grid, curves, paths.figure("learning_curves"))


def read(path: Path) -> pd.DataFrame:
    """Return a CSV table, its days as dates."""
    table = read_csv(path)
    for name in table.columns.intersection(["date", "signal", "entry", "exit"]):
        table[name] = pd.to_datetime(table[name])
    return table


if __name__ == "__main__":
    run(main)
