"""Style shared by all figures: colours, panels, margins, and deterministic SVG."""

import io
import re
from html import escape
from pathlib import Path
from typing import Any

from patchscale.report.captions import CAPTIONS
from patchscale.study.files import write_text

Style = dict[str, Any]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito (2008)
GREEN, PURPLE = "#009E73", "#CC79A7"
INK = "#1A1A1A"
"""Text on a coloured field, which stays dark where a page turns black text light."""
WIDTH = 8.6
"""Width of a large figure, inches: as wide as a README is shown, so that texts keep their size."""
SMALL = 9
"""Size of the smallest text, points."""
COORDINATES = re.compile(r' (?:d|x|y|transform)="[^"]*"')
"""Attributes whose numbers are rounded to hundredths of a point, which halves the files."""
BASELINES: dict[str, Style] = {
    "prior": {"color": GREY, "linestyle": ":"},
    "persistence": {"color": GREY, "linestyle": "-."},
    "vol_logistic": {"color": ORANGE, "linestyle": "--"},
    "har_logistic": {"color": PURPLE, "linestyle": "--"},
    "boosting": {"color": GREEN, "linestyle": "--"},
}


def panels(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """Return a figure and its grid of axes."""
    import matplotlib as mpl  # the import takes 1.5 s

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "svg.hashsalt": "patchscale",
            "svg.fonttype": "none",
            "path.simplify_threshold": 0.3,  # points, a third of a pixel
            "font.size": SMALL,
            "axes.titlesize": SMALL + 0.5,
            "axes.labelsize": SMALL,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "legend.fontsize": SMALL,
            "figure.labelsize": SMALL,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def in_two_columns(count: int, above: float, below: float) -> tuple[Any, list[Any]]:
    """Return a large figure and that many axes, at least one, on a common scale of N.

    Parameters
    ----------
    count
        Number of panels.
    above, below
        Height of a row of panels, and of what is below them all, inches.
    """
    rows, columns = max(1, (count + 1) // 2), min(2, max(1, count))
    figure, grid = panels(rows, columns, (WIDTH, above * rows + below), sharex=True)
    axes = list(grid.flat)
    for axis in axes:
        axis.tick_params(labelbottom=True)
    for axis in axes[max(1, count) :]:
        axis.set_visible(False)
    return figure, axes[: max(1, count)]


def margins(
    figure: Any,
    left: float = 0.75,
    bottom: float = 0.9,
    top: float = 0.3,
    across: float = 0.2,
    down: float = 0.3,
    right: float = 0.15,
) -> None:
    """Set the margins around panels and between them, in inches.

    Automatic layouts measure all texts, which takes seconds.
    """
    width, height = figure.get_size_inches()
    rows, columns = figure.axes[0].get_subplotspec().get_gridspec().get_geometry()
    panel_width = (width - left - right - across * (columns - 1)) / columns
    panel_height = (height - bottom - top - down * (rows - 1)) / rows
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=across / panel_width,
        hspace=down / panel_height,
    )


def save(figure: Any, path: Path, name: str) -> None:
    """Write a figure as an SVG file whose bytes depend on the figure only.

    Parameters
    ----------
    figure
        The figure.
    path
        Its file.
    name
        Its name, whose caption becomes the file's title and description.
    """
    from matplotlib import pyplot as plt

    caption = CAPTIONS[name]
    content = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Title": caption.title}
    figure.savefig(content, format="svg", metadata=metadata)
    plt.close(figure)
    described = f"</title>\n <desc>{escape(caption.description)}</desc>"
    svg = (
        content.getvalue().replace("</title>", described, 1).replace("<svg ", '<svg role="img" ', 1)
    )
    write_text(path, COORDINATES.sub(_rounded, svg))


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])


def legend_below(figure: Any, marks: dict[str, Style], columns: int) -> None:
    """Put one legend for all panels under the figure, with a name for each line style."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **style) for style in marks.values()]
    figure.legend(handles, list(marks), loc="lower center", ncols=columns, frameon=False)


def same_height(axes: Any) -> None:
    """Widen the y limits of axes about their middles, so that a unit has the same length."""
    limits = [axis.get_ylim() for axis in axes]
    half = max(high - low for low, high in limits) / 2
    for axis, (low, high) in zip(axes, limits, strict=True):
        axis.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
