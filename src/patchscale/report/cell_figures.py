"""Figures with a panel per trained cell: a row per budget, a column per horizon, one scale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchscale.backtest.judge import BENCHMARK
from patchscale.backtest.scores import Scores
from patchscale.report.finding import WORDS
from patchscale.report.style import (
    BASELINES,
    BLUE,
    GREY,
    WIDTH,
    Style,
    legend_below,
    margins,
    panels,
    save,
)
from patchscale.study.params import Cell

Grid = dict[str, Cell]
Tables = dict[str, pd.DataFrame]
CELL: Style = {"color": BLUE}
BENCHMARK_STYLE = BASELINES[BENCHMARK]
BENCHMARK_NAME = WORDS[BENCHMARK]
UNIT = (0, 0.5, 1), ("0", "0.5", "1")
"""Ticks of an axis from 0 to 1, and their labels."""


def reliability(grid: Grid, cells: Tables, benchmarks: Tables, path: Path) -> None:
    """Draw observed against predicted share of positives in the test year.

    Parameters
    ----------
    grid
        Rows of grid.yaml, which give each cell's budget and horizon.
    cells
        For each trained cell its calibration table.
    benchmarks
        For each horizon that of the bar.
    path
        File of the figure.
    """

    def draw(axis: Any, cell: str, horizon: str) -> None:
        table, benchmark = cells[cell], benchmarks[horizon]
        axis.plot((0, 1), (0, 1), color=GREY, linewidth=0.6)
        axis.plot(benchmark["predicted"], benchmark["observed"], **BENCHMARK_STYLE, linewidth=1)
        gaps = [
            table["observed"] - table["observed_low"],
            table["observed_high"] - table["observed"],
        ]
        axis.errorbar(table["predicted"], table["observed"], yerr=gaps, fmt="o", ms=3, lw=1, **CELL)

    marks: dict[str, Style] = {
        "PatchTST, 95 % interval": CELL | {"marker": "o", "linestyle": ""},
        BENCHMARK_NAME: BENCHMARK_STYLE,
        "calibrated": {"color": GREY, "linewidth": 0.6},
    }
    labels = ("predicted share", "observed share")
    _panels(grid, cells, draw, marks, labels, path, "reliability", unit=True)


def precision_recall(
    grid: Grid, cells: Tables, benchmarks: Tables, test: dict[str, Scores], path: Path
) -> None:
    """Draw precision against recall in the test year, with the point of the frozen threshold.

    Parameters
    ----------
    grid, cells, benchmarks
        Grid and precision-recall tables, as in `reliability`.
    test
        Test scores of each cell, and of each horizon's benchmark.
    path
        File of the figure.
    """

    def draw(axis: Any, cell: str, horizon: str) -> None:
        base = test[cell].positives / test[cell].n
        axis.axhline(base, color=GREY, linestyle=":", linewidth=1)
        for table, at, style in (
            (benchmarks[horizon], test[horizon], BENCHMARK_STYLE),
            (cells[cell], test[cell], CELL),
        ):
            axis.step(table["recall"], table["precision"], where="post", linewidth=1, **style)
            if np.isfinite([at.precision.value, at.recall.value]).all():
                axis.plot(at.recall.value, at.precision.value, "o", ms=6, mec="white", **style)

    marks: dict[str, Style] = {
        "PatchTST": CELL,
        BENCHMARK_NAME: BENCHMARK_STYLE,
        "at the threshold frozen on validation": {"color": GREY, "marker": "o", "linestyle": ""},
        "share of positives": {"color": GREY, "linestyle": ":"},
    }
    _panels(grid, cells, draw, marks, ("recall", "precision"), path, "precision_recall", unit=True)


def equity(grid: Grid, cells: Tables, benchmarks: Tables, trades: Tables, path: Path) -> None:
    """Draw the wealth of each strategy in the test year, after costs, with its trades.

    Parameters
    ----------
    grid, cells, benchmarks
        Grid and equity tables, as in `reliability`.
    trades
        For each cell its trades.
    path
        File of the figure.
    """

    def draw(axis: Any, cell: str, horizon: str) -> None:
        table, benchmark = cells[cell], benchmarks[horizon]
        axis.plot(table["date"], table["buy_and_hold"], color=GREY, linewidth=0.8)
        axis.plot(benchmark["date"], benchmark["strategy"], **BENCHMARK_STYLE, linewidth=1)
        axis.plot(table["date"], table["strategy"], **CELL, linewidth=1.2)
        wealth = table.set_index("date")["strategy"]
        entries, exits = trades[cell]["entry"], trades[cell]["exit"]
        axis.plot(entries, wealth.reindex(entries), "^", ms=3, **CELL)
        axis.plot(exits, wealth.reindex(exits), "v", ms=3, mfc="white", mew=0.7, **CELL)
        axis.set_xticks(*_day_ticks(table["date"]))

    marks: dict[str, Style] = {
        "PatchTST": CELL,
        "entry": CELL | {"marker": "^", "linestyle": ""},
        "exit": CELL | {"marker": "v", "linestyle": "", "mfc": "white"},
        BENCHMARK_NAME: BENCHMARK_STYLE,
        "buy and hold": {"color": GREY, "linewidth": 0.8},
    }
    _panels(grid, cells, draw, marks, ("", "wealth"), path, "equity")


def _day_ticks(days: pd.Series) -> tuple[list[pd.Timestamp], list[str]]:
    """Return the first days of the quarters with the year or the month; of the years if many."""
    first = days.groupby(days.dt.to_period("Q")).min().tolist()
    years = days.groupby(days.dt.year).min().tolist()
    if len(years) > 2:
        return years, [f"{day:%Y}" for day in years]
    return first, [f"{day:%Y}" if day in years else f"{day:%b}" for day in first]


def learning_curves(grid: Grid, cells: Tables, path: Path) -> None:
    """Draw training and validation log-loss by epoch, a line per seed, on axes of their own."""

    def draw(axis: Any, cell: str, horizon: str) -> None:
        for _, curve in cells[cell].groupby("seed"):
            axis.plot(curve["epoch"], curve["train_log_loss"], color=GREY, linewidth=0.8)
            axis.plot(curve["epoch"], curve["val_log_loss"], **CELL, linewidth=0.8)
        axis.locator_params(axis="x", nbins=4, integer=True)
        axis.locator_params(axis="y", nbins=4)

    marks: dict[str, Style] = {
        "validation, a line per seed": CELL,
        "training": {"color": GREY, "linewidth": 0.8},
    }
    labels = ("epoch", "log-loss")
    _panels(grid, cells, draw, marks, labels, path, "learning_curves", shared=False)


def _panels(
    grid: Grid,
    cells: Tables,
    draw: Callable[[Any, str, str], None],
    marks: dict[str, Style],
    labels: tuple[str, str],
    path: Path,
    name: str,
    unit: bool = False,
    shared: bool = True,
) -> None:
    """Draw a panel per cell, on common axes if `shared`, which go from 0 to 1 if `unit`.

    A cell that was not trained has no panel.
    """
    budgets = list(dict.fromkeys(grid[cell].budget for cell in cells))
    horizons = list(dict.fromkeys(grid[cell].horizon for cell in cells))
    rows, columns = max(1, len(budgets)), max(1, len(horizons))
    lines = -(-len(marks) // (5 if columns > 2 else 2))
    below = 0.45 + 0.2 * (lines + bool(labels[0]))
    size = (min(WIDTH, 2.3 * max(columns, 2) + 0.6), (2.0 if shared else 2.2) * rows + below)
    figure, axes = panels(rows, columns, size, sharex=shared, sharey=shared)
    if not cells:
        axes[0, 0].set_title("no cell was trained")
    at = {
        cell: (budgets.index(grid[cell].budget), horizons.index(grid[cell].horizon))
        for cell in cells
    }
    for place, axis in np.ndenumerate(axes):
        axis.set_visible(place in at.values() or not cells)
    for cell, (y, x) in at.items():
        axis = axes[y, x]
        draw(axis, cell, grid[cell].horizon)
        axis.set_title(cell)
        if unit:
            axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axis.set_xticks(*UNIT)
            axis.set_yticks(*UNIT)
        if shared:  # the outermost panels of a row and column may be absent
            axis.tick_params(
                labelbottom=(y + 1, x) not in at.values(), labelleft=(y, x - 1) not in at.values()
            )
    figure.supxlabel(labels[0], y=(0.1 + 0.2 * lines) / size[1])
    figure.supylabel(labels[1], x=0.1 / size[0])
    legend_below(figure, marks, columns=-(-len(marks) // lines))
    across, down = (0.2, 0.3) if shared else (0.5, 0.5)
    margins(figure, bottom=below, across=across, down=down)
    save(figure, path, name)
