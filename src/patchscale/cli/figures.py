"""Figures of several answers beside each other, as text."""

from typing import Any


def table(answers: dict[str, dict[str, Any]]) -> str:
    """Return a table of figures: a row each, and a column for each answer.

    `name_low` and `name_high` become the interval of `name`.
    """
    columns = {title: cells(flat(figures)) for title, figures in answers.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [("", *columns)]
    rows += [(name, *(column.get(name, "") for column in columns.values())) for name in names]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def flat(figures: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the figures of nested sections by their dotted names; other text is left out."""
    found: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, int | float) or not prefix:
            found[f"{prefix}{key}"] = value
    return found


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


def number(value: Any) -> str:
    """Return a figure as text."""
    if value is None:
        return "undefined"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
