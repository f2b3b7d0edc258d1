"""Put all cells beside each other: verdict, figures, and docs/results.md."""

from pathlib import Path

import pandas as pd

from patchscale.backtest.trading import deflated_sharpe
from patchscale.report import cell_figures, figures
from patchscale.report.comparison import compare, correct
from patchscale.report.page import Study, page
from patchscale.study import paths
from patchscale.study.files import read_arrow, read_json, write_csv, write_json, write_text
from patchscale.study.params import Params, load_params
from patchscale.study.paths import RIVAL
from patchscale.study.stage import run


def main() -> None:
    params = load_params()
    judged = {cell: read_json(paths.backtest_metrics(cell)) for cell in params.cells}
    baselines = {name: read_json(paths.baseline_metrics(name)) for name in params.horizons}
    trained = [cell for cell in judged if judged[cell]["trained"]]
    searches = [read_json(paths.hpo_metrics(cell)) for cell in searches_of(params)]

    horizons = {}
    for horizon, ahead in params.horizons.items():
        present = [cell for cell in trained if params.cells[cell].horizon == horizon]
        horizons[horizon] = compare(
            {cell: read_arrow(paths.losses(cell)) for cell in present},
            {cell: judged[cell]["n_params"] for cell in present},
            read_arrow(paths.losses(f"baselines-{horizon}")),
            ahead,
        )
    correct(horizons, trained)
    strategies = [judged[cell]["strategy"] for cell in trained]
    strategies += [row["strategy"] for each in baselines.values() for row in each.values()]
    tried = sum(search["trials"] for search in searches)
    tried += sum(strategy["thresholds"] for strategy in strategies)
    for strategy in strategies:
        strategy["skill_p"] = deflated_sharpe(strategy, tried)
    as_of = next(iter(baselines.values()))[RIVAL]["data_as_of"]
    write_json(
        paths.SCALING,
        {
            "data_as_of": as_of,
            "tried": tried,
            "skill_p": {cell: judged[cell]["strategy"]["skill_p"] for cell in trained},
            "horizons": horizons,
        },
    )
    found = dict(zip(searches_of(params), searches, strict=True))
    searched = {cell: figures for cell, figures in found.items() if figures["trials"]}
    study = Study(params, judged, baselines, horizons, searched, tried, as_of)
    write_csv(paths.SCALING_CSV, scaling_rows(study))
    draw(study, trained)
    write_text(paths.RESULTS, page(study))


def searches_of(params: Params) -> list[str]:
    """Return the cells that have a search, in the order of the table."""
    return list(dict.fromkeys(row.search for row in params.cells.values()))


def scaling_rows(study: Study) -> pd.DataFrame:
    """Return a row per trained budget: its name and the test log-loss at each horizon."""
    rows = []
    for budget in study.trained_budgets:
        cells = {h: study.judged[f"{budget}-{h}"]["test"]["log_loss"] for h in study.horizons}
        rows.append({"budget": budget, **cells})
    return pd.DataFrame(rows, columns=["budget", *study.horizons])


def draw(study: Study, trained: list[str]) -> None:
    """Draw every figure of the study."""

    def tables(path_of: str) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
        """Return a kind of plot table: of the trained cells, and of each horizon's rival."""
        return (
            {cell: read(paths.plot(path_of, cell)) for cell in trained},
            {h: read(paths.plot(path_of, f"{RIVAL}-{h}")) for h in study.horizons},
        )

    frozen = {cell: study.judged[cell]["test"] for cell in trained}
    frozen |= {h: rows[RIVAL]["test"] for h, rows in study.baselines.items()}
    compared = {
        cell: study.horizons[study.params.cells[cell].horizon]["forecasts"][cell]
        for cell in trained
    }
    trades = {cell: read(paths.trades(cell)) for cell in trained}
    curves = {cell: read(paths.plot("curves", cell)) for cell in trained}
    searches = {
        cell: {
            "trials": read_arrow(paths.hpo(cell, "trials.arrow")),
            "importance": read(paths.hpo(cell, "importance.csv")),
        }
        for cell in study.searched
    }
    grid = study.params.cells
    budgets, names = list(study.params.budgets), list(study.horizons)
    figures.loss_vs_n(study.losses_against_n(), paths.figure("loss_vs_n"))
    figures.skill_map(budgets, names, compared, paths.figure("skill"))
    figures.searches(searches, paths.figure("searches"))
    cell_figures.reliability(grid, *tables("calibration"), paths.figure("reliability"))
    cell_figures.precision_recall(
        grid, *tables("precision_recall"), frozen, paths.figure("precision_recall")
    )
    cell_figures.equity(grid, *tables("equity"), trades, paths.figure("equity"))
    cell_figures.learning_curves(grid, curves, paths.figure("learning_curves"))


def read(path: Path) -> pd.DataFrame:
    """Return a CSV table, its days as dates."""
    table = pd.read_csv(path)
    for name in table.columns.intersection(["date", "signal", "entry", "exit"]):
        table[name] = pd.to_datetime(table[name])
    return table


if __name__ == "__main__":
    run(main)
