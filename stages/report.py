"""Put all cells beside each other: slopes, figure, and docs/results.md."""

import numpy as np
import pandas as pd

from patchscale import config, paths, plots, report
from patchscale.files import read_arrow, read_json, write_csv, write_json, write_text
from patchscale.scaling import loss_slope, mean_with_interval
from patchscale.stage import run


def main() -> None:
    params = config.load_params(paths.PARAMS)
    cells = list(params.cells)
    judged = {cell: read_json(paths.backtest_metrics(cell)) for cell in cells}
    baselines = {name: read_json(paths.baseline_metrics(name)) for name in params.horizons}

    scaling, figure = {}, {}
    for horizon, ahead in params.horizons.items():
        present = [
            f"{budget}-{horizon}"
            for budget in params.budgets
            if judged[f"{budget}-{horizon}"]["trained"]
        ]
        losses = {cell: test_losses(cell, "log_loss") for cell in present}
        vol = test_losses(f"baselines-{horizon}", "vol_logistic")
        sizes = np.array([judged[cell]["n_params"] for cell in present])
        scaling[horizon] = {
            "slope": loss_slope(np.column_stack(list(losses.values())), sizes, ahead)
            if len(present) > 1
            else None,
            "cells": [
                {"cell": cell, "n_params": judged[cell]["n_params"]}
                | mean_with_interval(losses[cell] - vol, ahead, "vs_vol_logistic")
                for cell in present
            ],
        }
        figure[horizon] = {
            "sessions": ahead,
            "cells": [
                {"budget": config.split_cell(cell)[0], **judged[cell], **judged[cell]["test"]}
                for cell in present
            ],
            "absent": [
                (budget, judged[f"{budget}-{horizon}"]["n_params"])
                for budget in params.budgets
                if not judged[f"{budget}-{horizon}"]["trained"]
            ],
            "prior": baselines[horizon]["prior"]["test"]["log_loss"],
            "vol_logistic": baselines[horizon]["vol_logistic"]["test"]["log_loss"],
        }
    write_json(paths.SCALING, scaling)
    plots.loss_vs_n(figure, paths.SCALING_SVG)
    write_csv(paths.SCALING_CSV, scaling_rows(params, judged))
    searched = {
        cell: figures
        for cell in dict.fromkeys(row.search for row in params.cells.values())
        if (figures := read_json(paths.hpo_metrics(cell)))["trials"]
    }
    plots.searches({cell: search_tables(cell) for cell in searched}, paths.SEARCHES_SVG)
    write_text(paths.RESULTS, page(params, cells, judged, baselines, scaling, searched))


def test_losses(name: str, column: str) -> np.ndarray:
    table = read_arrow(paths.losses(name))
    losses: np.ndarray = table.loc[table["subset"] == "test", column].to_numpy()
    return losses


def search_tables(cell: str) -> dict[str, pd.DataFrame]:
    return {
        "trials": read_arrow(paths.hpo(cell, "trials.arrow")),
        "importance": pd.read_csv(paths.hpo(cell, "importance.csv")),
    }


def scaling_rows(params: config.Params, judged: dict) -> pd.DataFrame:
    """Return a row per trained budget: its name and the test log-loss at each horizon."""
    rows = []
    for budget in params.budgets:
        if params.study.train[budget]:
            losses = {h: judged[f"{budget}-{h}"]["test"]["log_loss"] for h in params.horizons}
            rows.append({"budget": budget, **losses})
    return pd.DataFrame(rows, columns=["budget", *params.horizons])


def page(
    params: config.Params,
    cells: list[str],
    judged: dict,
    baselines: dict,
    scaling: dict,
    searched: dict,
) -> str:
    gaps = {cell["cell"]: cell for row in scaling.values() for cell in row["cells"]}
    strategies = {cell: judged[cell]["strategy"] for cell in cells if judged[cell]["trained"]} | {
        f"volatility logistic {name}": row["vol_logistic"]["strategy"]
        for name, row in baselines.items()
    }
    some = next(iter(baselines.values()))["vol_logistic"]["strategy"]
    held = some["buy_and_hold"]
    sections = [
        "# Results\n\n<!-- written by the stage `report`; edits are overwritten -->",
        report.finding(scaling, {config.split_cell(cell)[0] for cell in searched}),
        f"Data: `{params.dataset}`, {params.data.start} to {params.data.end}; validation from "
        f"{params.data.validation_from}, test from {params.data.test_from}. Brackets are 95 % "
        f"stationary-bootstrap intervals over days (1,000 samples, mean block 20). They hold the "
        f"uncertainty of the days, not that of the seed: the column seeds has the lowest and the "
        f"highest log-loss of one seed alone. Judged is the mean of their probabilities.",
        "![Test log-loss against parameters](../plots/loss_vs_n.svg)",
        "## Does the loss fall with size?",
        report.slopes_table(scaling),
        "## Cells",
        report.cells_table(cells, judged, gaps),
        "Threshold: highest precision on validation at a recall of at least "
        f"{params.backtest.min_recall:.0%}, then frozen. A negative difference means better than "
        "the volatility logistic. p range is the span of the test probabilities.",
        *search_sections(params, searched),
        "## Baselines on the same test days",
        report.baselines_table(baselines),
        f"## What trading it was worth, {some['sessions']} sessions, "
        f"{params.backtest.cost_bps:g} bp a side",
        report.strategy_table(strategies),
        f"Buy and hold over the same sessions: {held['total_return']:+.1%}, Sharpe "
        f"{held['sharpe']:.2f} {report.interval(held['sharpe_low'], held['sharpe_high'], 2)}, "
        f"max drawdown {held['max_drawdown']:.1%}. Index levels cannot be bought; read these as "
        "gross of financing and tracking.",
    ]
    return "\n\n".join(sections) + "\n"


def search_sections(params: config.Params, searched: dict) -> list[str]:
    """Return what was searched; budgets without a search say so."""
    with_search = {config.split_cell(cell)[0] for cell in searched}
    without = ", ".join(name for name in params.budgets if name not in with_search)
    said = f"Not searched: {without or 'none'}; they train with the table's row."
    if not searched:
        return ["## Searches", said]
    return [
        "## Searches",
        report.searches_table(searched),
        "Losses are of the best epoch on the scattered validation days: the lowest of many tries, "
        "and so too good. Nothing of the test year is read. Trial 0 is the table's row. Hours are "
        "of all trials, the clock's and the device's. Importance is fANOVA's, for the loss up to "
        "the first look of the pruner; with so few trials, drawn where it looked good, it tells of "
        f"them and not of the problem. {said}",
        "![Validation log-loss by trial, and importance](../plots/searches.svg)",
    ]


if __name__ == "__main__":
    run(main)
