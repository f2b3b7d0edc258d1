"""Figures of a cell, alone or beside those of another answer, as text.

`python3 dev.py repro` prints those of metrics/headline.json with this module.
"""

import textwrap
from typing import Any

from patchscale.study import paths
from patchscale.study.files import read_json

ORDER = ("cell", "n", "loss", "gap", "excess", "auc", "sharpe", "val_loss")
"""Figures, most important first; others follow."""
RELATIVE = ("gap", "excess")
"""Figures less those of the bar, or of holding the market, on the same days."""
WIDTH = 100
"""Columns of a sentence under a table."""


def table(answers: dict[str, dict[str, Any]], same_labels: bool = True) -> str:
    """Return a table of figures: a row each, a column for each answer, and what the second adds.

    `name_low` and `name_high` become the interval of `name`.

    Parameters
    ----------
    answers
        Figures by the title of their column.
    same_labels
        Whether all are of the same days and labels. Otherwise a line says which figures cannot be
        compared, and these have no difference.
    """
    columns = {title: cells(figures) for title, figures in answers.items()}
    names = sorted(dict.fromkeys(name for each in columns.values() for name in each), key=_rank)
    rows = [("", *columns)]
    rows += [(name, *(column.get(name, "") for column in columns.values())) for name in names]
    if len(answers) > 1:
        first, second, *_ = answers.values()
        compared = [name for name in names if same_labels or name in RELATIVE]
        added = [difference(first, second, name) if name in compared else "" for name in names]
        rows = [(*row, end) for row, end in zip(rows, ("difference", *added), strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if not same_labels:
        others = [name for name in names if name not in ("cell", "n", *RELATIVE)]
        said = (
            f"Labels or days differ, so {', '.join(others)} cannot be compared; "
            f"{' and '.join(RELATIVE)}, each against a rival on the same days, can."
        )
        lines += ["", *textwrap.wrap(said, WIDTH)]
    return "\n".join(lines)


def _rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def cells(figures: dict[str, Any]) -> dict[str, str]:
    """Return what a table shows of each figure."""
    ends = {f"{name}_{end}" for name in figures for end in ("low", "high")}
    shown = {}
    for name, value in figures.items():
        if name in ends:
            continue
        text = number(value)
        if f"{name}_low" in figures:
            low, high = (number(figures.get(f"{name}_{end}")) for end in ("low", "high"))
            text += f" [{low}, {high}]"
        shown[name] = text
    return shown


def difference(first: dict[str, Any], second: dict[str, Any], name: str) -> str:
    """Return a figure of the second answer less that of the first; nothing if one has none."""
    before, after = first.get(name), second.get(name)
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return ""
    return f"{after - before:+,.{4 if float in (type(before), type(after)) else 0}f}"


def number(value: Any) -> str:
    """Return a figure as text."""
    if value is None:
        return "undefined"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(table({"": read_json(paths.HEADLINE)}))
