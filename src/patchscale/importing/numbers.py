"""Numbers of an export: decimal point or comma, thousands, currency signs, K, M and B."""

import re

import pandas as pd

MISSING = {"", "-", "--", ".", "null", "none", "nan", "n/a", "#n/a", "na", "n.a.", "n.a"}
NOISE = re.compile(r"[\s'\u2019$\u20ac\u00a3\u00a5]|\b(?:USD|EUR|GBP|JPY|CHF)\b")
"""Spaces of all kinds, apostrophes between thousands, currencies."""
SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
FORM = r"[-+]?(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)?(?:{mark}\d*)?(?:[eE][-+]?\d+)?"


def is_missing(texts: pd.Series) -> "pd.Series[bool]":
    """Tell for each text whether it stands for no number."""
    return texts.str.lower().isin(MISSING)


def decimal_mark(texts: pd.Series) -> str | None:
    """Return `.` or `,`, whichever the whole column allows; None if it allows both.

    A text with both marks has its decimals after the last one. A mark that occurs twice in a text,
    or after which other than three digits follow, decides as well. What is a number with neither
    decides nothing.

    Parameters
    ----------
    texts
        All prices of a file.
    """
    plain = texts[~is_missing(texts)].str.replace(NOISE, "", regex=True)
    forms = [FORM.format(group=group, mark=mark) for group, mark in ((",", r"\."), (r"\.", ","))]
    plain = plain[plain.str.fullmatch("|".join(f"(?:{form})" for form in forms))]
    commas, points = plain.str.contains(",", regex=False), plain.str.contains(".", regex=False)
    if not commas.any():
        return "," if (plain.str.count(r"\.") > 1).any() else "."
    both = plain[commas & points]
    if len(both):
        return "," if (both.str.rfind(",") > both.str.rfind(".")).mean() > 0.5 else "."
    if (plain.str.count(",") > 1).any() or points.any():
        return "."
    thousands = plain[commas].str.fullmatch(r"[-+]?\d{1,3},\d{3}")
    return None if thousands.all() else ","


def numbers(texts: pd.Series, mark: str) -> "pd.Series[float]":
    """Return a column of numbers; NaN where the text is missing or no number.

    Parameters
    ----------
    texts
        Fields of a column.
    mark
        Decimal mark, `.` or `,`.
    """
    plain = texts.mask(is_missing(texts), "").str.replace(NOISE, "", regex=True)
    suffix = plain.str[-1:].str.upper().where(plain.str.len() > 1, "")
    factor = suffix.map(SUFFIXES).fillna(1.0).astype(float)
    plain = plain.where(factor == 1, plain.str[:-1])
    group = "," if mark == "." else "."
    form = FORM.format(group=re.escape(group), mark=re.escape(mark))
    plain = plain.where(plain.str.fullmatch(form), "")
    plain = plain.str.replace(group, "", regex=False).str.replace(mark, ".", regex=False)
    found: pd.Series[float] = pd.to_numeric(plain, errors="coerce").astype(float) * factor
    return found


def ratios(texts: pd.Series, mark: str) -> "pd.Series[float]":
    """Return split ratios: 2 for `2`, `2:1`, `2/1` and `2 for 1`; NaN for what is none."""
    parts = texts.str.extract(r"^\s*([\d.,]+)\s*(?::|/|for|-for-)\s*([\d.,]+)\s*$")
    ratio = numbers(parts[0].fillna(""), mark) / numbers(parts[1].fillna(""), mark)
    return ratio.fillna(numbers(texts, mark))
