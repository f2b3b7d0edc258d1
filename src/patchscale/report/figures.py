"""Figures of loss against size, of skill and of the searches, as deterministic SVG."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.backtest.scores import Scores
from patchscale.report.comparison import Difference
from patchscale.report.finding import SIGNIFICANCE
from patchscale.report.style import (
    BASELINES,
    BLUE,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    Style,
    in_two_columns,
    legend_below,
    margins,
    panels,
    same_height,
    save,
)


@dataclass(frozen=True)
class LossPanel:
    """Panel of one horizon in the figure of loss against size."""

    sessions: int
    """Sessions looked ahead."""
    n: int
    """Days of the test year."""
    cells: list[tuple[str, int, Scores]]
    """Budget, counted parameters and test scores of each trained cell."""
    absent: list[tuple[str, int]]
    """Budget and parameters of each cell that is not trained."""
    baselines: dict[str, float]
    """Test log-loss of each baseline."""


def loss_vs_n(rows: dict[str, LossPanel], path: Path) -> None:
    """Draw test log-loss against N, a panel per horizon: each seed, their ensemble, baselines.

    Parameters
    ----------
    rows
        Panel of each horizon.
    path
        File of the figure.
    """
    figure, axes = in_two_columns(len(rows), 2.6, 1.1)
    for axis, (horizon, row) in zip(axes, rows.items(), strict=True):
        seeds = [(n, s.log_loss) for _, n, test in row.cells for s in test.seeds.values()]
        axis.plot(*zip(*seeds, strict=True) if seeds else ((), ()), "_", color=BLUE, alpha=0.6)
        losses = [test.log_loss for _, _, test in row.cells]
        axis.errorbar(
            [n_params for _, n_params, _ in row.cells],
            [loss.value for loss in losses],
            yerr=[
                [loss.value - loss.low for loss in losses],
                [loss.high - loss.value for loss in losses],
            ],
            fmt="o",
            color=BLUE,
            capsize=3,
        )
        for name, loss in row.baselines.items():
            axis.axhline(loss, **BASELINES[name], linewidth=1)
        for _, n_params in row.absent:
            axis.annotate(
                "not\nrun",
                (n_params, 0.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                color=GREY,
            )
        axis.set_xscale("log")
        sizes = {budget: n for budget, n, _ in row.cells} | dict(row.absent)
        ticks = sorted((n, budget) for budget, n in sizes.items())
        axis.set_xticks(*zip(*ticks, strict=True))
        axis.minorticks_off()
        axis.set_xlim(ticks[0][0] / 2, ticks[-1][0] * 2)
        ahead = f"{row.sessions} session{'s' * (row.sessions > 1)} ahead"
        axis.set_title(f"{horizon}: {ahead}, n {row.n}")
    same_height(axes)
    figure.supylabel("test log-loss (lower is better)", x=0.1 / WIDTH)
    marks: dict[str, Style] = {
        "PatchTST, ensemble of seeds, 95 % interval": {
            "color": BLUE,
            "marker": "o",
            "linestyle": "",
        },
        "one seed": {"color": BLUE, "marker": "_", "linestyle": "", "alpha": 0.6},
        **{name.replace("_", " "): style for name, style in BASELINES.items()},
    }
    figure.supxlabel("parameters", y=0.55 / figure.get_figheight())
    legend_below(figure, marks, columns=4)
    margins(figure, bottom=1.05, across=0.45, down=0.55)
    save(figure, path, "loss_vs_n")


def skill_map(
    budgets: list[str],
    horizons: list[str],
    singles: dict[str, Difference],
    ensembles: dict[str, Difference],
    path: Path,
) -> None:
    """Draw each cell's skill over the bar on two maps of budgets and horizons.

    Parameters
    ----------
    budgets, horizons
        Rows, smallest on top, and columns.
    singles, ensembles
        Comparisons of each trained cell with the bar: single seeds on average, ensemble of seeds.
    path
        File of the figure.
    """
    size = (1.75 * len(horizons) + 0.9, 0.95 * len(budgets) + 1.7)
    figure, grid = panels(2, 1, size)
    axes = grid[:, 0]
    rows = budgets[::-1]
    ends = [
        end
        for of in (singles, ensembles)
        for row in of.values()
        for end in (row.skill.low, row.skill.high)
    ]
    reach = max(map(abs, ends), default=0.01)  # skills within the intervals get pale colours
    for axis, name, cells in zip(
        axes, ("single seeds on average", "ensemble of seeds"), (singles, ensembles), strict=True
    ):
        skills = [
            [cells[f"{b}-{h}"].skill.value if f"{b}-{h}" in cells else np.nan for h in horizons]
            for b in rows
        ]
        axis.pcolormesh(skills, cmap="PuOr", vmin=-reach, vmax=reach, edgecolor="white")
        for y, budget in enumerate(rows):
            for x, horizon in enumerate(horizons):
                cell = cells.get(f"{budget}-{horizon}")
                if cell is None:
                    text, colour = "not run", GREY
                else:
                    skill, mark = cell.skill, "*" if cell.dm_p_holm < SIGNIFICANCE else ""
                    text = f"{skill.value:+.1%}{mark}\n[{skill.low:+.1%}, {skill.high:+.1%}]"
                    colour = INK if abs(skill.value) < 0.6 * reach else "white"
                centre = {"ha": "center", "va": "center"}
                axis.text(x + 0.5, y + 0.5, text, color=colour, **centre)
        axis.set_xticks(np.arange(len(horizons)) + 0.5, horizons)
        axis.set_yticks(np.arange(len(rows)) + 0.5, rows)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_title(f"{name}: log-loss saved against the bar\n95 % interval, * Holm p < 0.05")
    margins(figure, bottom=0.3, top=0.5, down=0.8)
    save(figure, path, "skill")


def searches(rows: dict[str, dict[str, pd.DataFrame]], path: Path) -> None:
    """Draw each search: validation log-loss by trial, and importance of each parameter.

    Parameters
    ----------
    rows
        For each cell: `trials`, a table of `trial, state, value, losses`, and `importance`, a table
        of `parameter, importance`.
    path
        File of the figure.
    """
    columns = max(1, len(rows))
    figure, grid = panels(2, columns, (min(WIDTH, 3.2 * columns), 5.2), height_ratios=(3, 2))
    if not rows:
        grid[0, 0].set_title("no search was made")
    for column, (cell, row) in enumerate(rows.items()):
        axis, trials = grid[0, column], row["trials"]
        done = trials[trials["state"] == "COMPLETE"]
        pruned = trials[trials["state"] == "PRUNED"]
        axis.plot(done["trial"], done["value"], "o", color=BLUE, markersize=4, label="completed")
        axis.plot(
            pruned["trial"],
            pruned["losses"].map(np.mean).astype(float),
            "x",
            color=GREY,
            markersize=5,
            label="pruned",
        )
        axis.step(
            [*done["trial"], len(trials) - 1],
            [*done["value"].cummin(), done["value"].min()],
            where="post",
            color=BLUE,
            linewidth=1,
            label="best so far",
        )
        if trials["state"].iloc[0] == "COMPLETE":
            axis.axhline(
                trials["value"].iloc[0], color=ORANGE, linestyle="--", label="trial 0, the table"
            )
        axis.set_title(cell)
        axis.set_xlabel("trial")
        bars = row["importance"][::-1]
        grid[1, column].barh(bars["parameter"], bars["importance"], color=BLUE)
        grid[1, column].set_xlim(0, 1)
        grid[1, column].set_xlabel("importance, first seed")
    same_height(grid[0])
    grid[0, 0].set_ylabel("validation log-loss")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(4, 2 * columns), frameon=False)
    margins(figure, left=1.15, across=1.0, down=0.5)
    save(figure, path, "searches")
