"""Figures of all test years: differences to the bar against size, and the yearly slopes."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchscale.report.style import (
    BASELINES,
    BLUE,
    GREY,
    WIDTH,
    Style,
    in_two_columns,
    legend_below,
    margins,
    panels,
    save,
)
from patchscale.verdict.sign_flip import Corrected
from patchscale.verdict.slope import SlopeTest

SHORT = {
    "prior": "prior",
    "persistence": "persistence",
    "vol_logistic": "volatility",
    "har_logistic": "HAR",
    "boosting": "boosting",
}
SINGLE: Style = {"color": BLUE, "marker": "o", "markersize": 5}
ENSEMBLE: Style = {"color": BLUE, "marker": "D", "markersize": 5, "markerfacecolor": "white"}
ASIDE = 1.15
"""Factor of N by which the two marks of a size stand to the left and to the right of it."""
APART = 0.075
"""Least distance of two labels, as a share of the height of a panel."""


@dataclass(frozen=True)
class SizePanel:
    """Panel of one horizon in the figure of differences to the bar."""

    sessions: int
    """Sessions looked ahead."""
    n_params: dict[str, int]
    """Counted parameters of every budget."""
    singles: dict[str, Corrected]
    """Difference to the bar of each walked budget, of single seeds on average."""
    ensembles: dict[str, Corrected]
    """Likewise of the ensemble, where a budget has several seeds."""
    rivals: dict[str, float]
    """Mean difference to the bar of each baseline; zero for the bar."""
    notes: dict[str, str]
    """For each budget without all test years what is said on the axis of its cell."""


def size(rows: dict[str, SizePanel], bar: str, path: Path) -> None:
    """Draw the paired difference of log-loss to the bar against N, a panel per horizon.

    Parameters
    ----------
    rows
        Panel of each horizon; none if no year was walked.
    bar
        Name of the bar.
    path
        File of the figure.
    """
    figure, axes = in_two_columns(len(rows), 2.6, 1.0)
    if not rows:
        axes[0].set_title("no test year was walked")
    low, high = _limits(list(rows.values()))
    for axis, (horizon, row) in zip(axes, rows.items(), strict=False):
        for cells, style, aside in (
            (row.singles, SINGLE, 1 / ASIDE),
            (row.ensembles, ENSEMBLE, ASIDE),
        ):
            _draw(axis, row, cells, style, aside)
        for name, gap in row.rivals.items():
            if low < gap < high:
                axis.axhline(gap, **BASELINES[name], linewidth=1.2 if name == bar else 1.0)
        _label(axis, row.rivals, bar, (low, high))
        for budget, note in row.notes.items():
            at = (row.n_params[budget], 0.02)
            style = {"ha": "center", "color": GREY}
            axis.annotate(note, at, xycoords=("data", "axes fraction"), **style)
        axis.set_xscale("log")
        axis.set_xticks(list(row.n_params.values()), list(row.n_params))
        axis.minorticks_off()
        axis.set_xlim(min(row.n_params.values()) / 2, max(row.n_params.values()) * 2)
        axis.set_ylim(low, high)
        axis.tick_params(labelleft=axis.get_subplotspec().is_first_col())  # one scale
        axis.set_title(f"{horizon}: {row.sessions} session{'s' * (row.sessions > 1)} ahead")
    label = "log-loss less that of the bar, nats (below zero is better)"
    figure.supylabel(label, x=0.1 / WIDTH)
    figure.supxlabel("parameters", y=0.4 / figure.get_figheight())
    marks = {"single seeds on average": SINGLE, "ensemble of seeds": ENSEMBLE}
    legend_below(figure, {name: row | {"linestyle": ""} for name, row in marks.items()}, columns=2)
    margins(figure, left=0.85, bottom=0.9, across=1.6, down=0.55, right=1.55)
    save(figure, path, "size")


def _limits(rows: Collection[SizePanel]) -> tuple[float, float]:
    """Return limits that show zero, all intervals and near baselines, with room for notes."""
    cells = [cell for row in rows for cell in (*row.singles.values(), *row.ensembles.values())]
    ends = [end for cell in cells for end in (cell.mean.value, cell.mean.low, cell.mean.high)]
    low, high = float(np.nanmin([0.0, *ends])), float(np.nanmax([0.0, *ends]))
    near = high - low
    rivals = [gap for row in rows for gap in row.rivals.values()]
    low = min([low, *(gap for gap in rivals if gap > low - near / 3)])
    high = max([high, *(gap for gap in rivals if gap < high + near / 3)])
    room = max(high - low, 0.001)
    return low - 0.25 * room, high + 0.1 * room


def _draw(axis: Any, row: SizePanel, cells: dict[str, Corrected], style: Style, by: float) -> None:
    for budget, cell in cells.items():
        mean = cell.mean
        axis.errorbar(
            row.n_params[budget] * by,
            mean.value,
            yerr=[[mean.value - mean.low], [mean.high - mean.value]],
            capsize=2,
            linewidth=1.1,
            alpha=0.5 if budget in row.notes else 1.0,
            **style,
        )


def _label(axis: Any, rivals: dict[str, float], bar: str, limits: tuple[float, float]) -> None:
    """Write the names of the baselines right of the panel, those outside it with an arrow."""
    low, high = limits
    last = -np.inf
    ascending = sorted(rivals.items(), key=lambda item: item[1])
    heights = [float(np.clip((gap - low) / (high - low), 0.02, 0.98)) for _, gap in ascending]
    for place in range(len(heights)):  # the highest one keeps its place
        heights[place] = min(heights[place], 0.98 - APART * (len(heights) - 1 - place))
    for (name, gap), height in zip(ascending, heights, strict=True):
        last = max(height, last + APART)
        arrow = "↑ " if gap > high else "↓ " if gap < low else ""
        outside = f" {gap:+.3f}" if arrow else ""
        axis.annotate(
            f"{arrow}{'bar: ' * (name == bar)}{SHORT[name]}{outside}",
            (1.02, last),
            xycoords="axes fraction",
            va="center",
            color=BASELINES[name]["color"],
            fontweight="bold" if name == bar else "normal",
        )


def slopes(found: SlopeTest | None, seen: Collection[int], path: Path) -> None:
    """Draw the slope of each test year, with their mean and its interval.

    Parameters
    ----------
    found
        The primary test; None if it could not be made.
    seen
        Test years on whose days settings were chosen.
    path
        File of the figure.
    """
    figure, ((axis,),) = panels(1, 1, (5.6, 2.9))
    if found is None:
        axis.set_title("fewer than two sizes have all test years")
    else:
        mean = found.mean
        axis.axhline(0, color=GREY, linewidth=0.6)
        axis.axhline(mean.value, color=BLUE, linewidth=1.2)
        if np.isfinite(mean.low):
            axis.axhspan(mean.low, mean.high, color=BLUE, alpha=0.15, linewidth=0)
        for year, slope in found.slopes.items():
            fill = "white" if int(year) in seen else BLUE
            axis.plot(int(year), slope, "o", color=BLUE, markerfacecolor=fill, markersize=5)
        axis.set_xticks([int(year) for year in found.slopes])
        axis.set_title(f"slope over {len(found.sizes)} sizes; below zero bigger is better")
    axis.set_ylabel("log-loss per tenfold N, nats")
    marks: dict[str, Style] = {
        "settings saw the year": {"color": BLUE, "marker": "o", "mfc": "white", "linestyle": ""},
        "they did not": {"color": BLUE, "marker": "o", "linestyle": ""},
        "mean, 95 % interval": {"color": BLUE},
    }
    legend_below(figure, marks, columns=3)
    margins(figure, bottom=0.65)
    save(figure, path, "slopes")
