"""Print the data dictionary: python -m patchscale.features.dictionary > docs/features.md."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from patchscale.features import catalogue, indicators, rolling
from patchscale.features.formulas import CALENDAR, FORMULAS, NUMPY, SHARED, Namespace
from patchscale.features.tiers import TIERS, WARM_UP, Feature, read_catalogue


def code(formula: str) -> str:
    """Return a formula without its citation."""
    return formula.partition("#")[0].strip()


def words(formula: str) -> list[str]:
    """Return the names in a formula."""
    return re.findall(r"[a-z_]\w*", code(formula))


NAMED = {name for formula in FORMULAS.values() for name in words(formula)}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: value
    for module in (rolling, indicators)
    for name, value in inspect.getmembers(module, inspect.isfunction)
    if name in NAMED
}
CITATION = re.compile(r"\(([^()]*(?:\d{4}|Chaikin|TA-Lib)[^()]*)\)\.$")
SECTIONS = {
    "every tier": (
        catalogue.SCALE,
        "The level of volatility, which normalisation takes out of a window. First in every tier.",
    ),
    "a20": (catalogue.A20, "The first tier: those of every tier and these 20."),
    "a25": (catalogue.BAR, "a20 and the adjusted bar, which the wider tiers do not contain."),
    "a50": (catalogue.A50, "a20 and these 30."),
    "a100": (catalogue.A100, "a50 and these 50."),
    "a200": (catalogue.A200, "a100 and these 100."),
    "a20c, a25c, a50c, a100c, a200c": (
        catalogue.VIX,
        "The tier named before the c, and these 13. They need a data set with a volatility index.",
    ),
}
HEAD = f"""# Features

This page is printed by `python -m patchscale.features.dictionary` from
`src/patchscale/features/catalogue.py`. The formulas below are the ones that are evaluated.

Every feature is a function of bars up to its own day. Bars are forward-adjusted for dividends and
splits. Every tier drops the first {WARM_UP} sessions, the longest warm-up, so that all tiers have
the same dates. `level` features are standardised inside each context window, `stationary` ones
with statistics of the training dates. Where a denominator is zero, a feature has a neutral value:
the last argument of `ratio`, or the value named with the function.

`vix` is the close of the volatility index. {", ".join(NUMPY)} are functions of NumPy. To add a
feature, add its line to the catalogue.
"""


def sources(formula: str) -> set[str]:
    """Return the citations of a formula, of its functions and of the series it names."""
    found = {comment} if (comment := formula.partition("#")[2].strip()) else set()
    for name in words(formula):
        if name in FUNCTIONS:
            found |= {part for part in citation(name).split("; ") if part}
        elif name in FORMULAS and FORMULAS[name] != formula:
            found |= sources(FORMULAS[name])
    return found


def citation(function: str) -> str:
    """Return the citation at the end of a docstring or of its first sentence."""
    text = meaning(FUNCTIONS[function])
    ends = [CITATION.search(part) for part in (text, text.partition(". ")[0] + ".")]
    return next((end[1] for end in ends if end), "")


def meaning(function: Callable[..., Any]) -> str:
    """Return a docstring on one line, without its first word Return."""
    return " ".join((function.__doc__ or "").split()).removeprefix("Return ")


def row(*cells: str) -> str:
    """Return a table row."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(features: tuple[Feature, ...]) -> Iterator[str]:
    """Yield the rows of a table of features."""
    yield row("name", "kind", "family", "warm-up", "formula", "source")
    yield row("---", "---", "---", "---:", "---", "---")
    for feature in features:
        formula = f"`{code(feature.formula)}`"
        cited = "; ".join(sorted(sources(feature.formula), key=lambda s: ("TA-Lib" in s, s)))
        yield row(
            f"`{feature.name}`", feature.kind, feature.family, str(feature.warm_up), formula, cited
        )


def dictionary() -> str:
    """Return the text of docs/features.md."""
    lines = [HEAD, row("tier", "features", "level", "stationary"), row(*["---", *["---:"] * 3])]
    for tier, features in TIERS.items():
        level = sum(feature.kind == "level" for feature in features)
        lines.append(row(tier, *map(str, (len(features), level, len(features) - level))))
    for tier, (text, sentence) in SECTIONS.items():
        lines += ["", f"## {tier}", "", sentence, "", *table(read_catalogue(text))]
    lines += ["", "## Shared series", "", row("name", "formula"), row("---", "---")]
    lines += [row(f"`{name}`", f"`{code(formula)}`") for name, formula in SHARED.items()]
    lines += [row(f"`{name}`", meaning(series)) for name, series in CALENDAR.items()]
    lines += ["", "## Functions", "", row("function", "meaning"), row("---", "---")]
    for name, function in FUNCTIONS.items():
        arguments = ", ".join(inspect.signature(function).parameters)
        lines.append(row(f"`{name}({arguments})`", meaning(function)))
    lines.append(row("`last_week(weekly)`", meaning(Namespace.last_week)))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(dictionary())
