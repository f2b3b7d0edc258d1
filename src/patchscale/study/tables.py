"""Reading of tables with a row per day; what they hold is checked where it enters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.files import read_arrow, read_json

SUBSET_COLUMNS = ("subset", "contiguous", "scattered")
"""Columns of text; the others hold numbers."""
SUBSETS_OF_DAYS = ("train", "val", "test", "purged")
"""Words that may stand in them."""
KINDS = ("level", "stationary")
RESTORE = "`dvc checkout` restores what its stage wrote"


def read_table(path: Path, columns: Sequence[str], *, more: bool = False) -> pd.DataFrame:
    """Read a table of days.

    Parameters
    ----------
    path
        Arrow file.
    columns
        Its columns, `date` first.
    more
        Whether columns of numbers may follow.

    Raises
    ------
    InputError
        The file is missing or damaged; it has other columns or no rows; a date does not come
        after the one before; a number is not finite or a word is unknown.
    """
    table = read_arrow(path)
    found = list(map(str, table))
    if found[: len(columns)] != list(columns) or (len(found) > len(columns) and not more):
        raise InputError(f"{path}: columns {_short(found)}; needed: {_short(columns)}; {RESTORE}")
    if table.empty:
        raise InputError(f"{path}: no rows; {RESTORE}")
    dates = table["date"]
    late = ~(dates.diff().iloc[1:] > pd.Timedelta(0)).to_numpy()  # also where a date is missing
    if late.any():
        day = dates.iloc[1 + int(late.argmax())]
        raise InputError(f"{path}: {_day(day)} does not come after the date before it; {RESTORE}")
    for name in found[1:]:
        _refuse_values(path, table, name)
    return table


def _refuse_values(path: Path, table: pd.DataFrame, name: str) -> None:
    values = table[name]
    if name in SUBSET_COLUMNS:
        good, needed = values.isin(SUBSETS_OF_DAYS), f"one of {', '.join(SUBSETS_OF_DAYS)}"
    elif values.dtype.kind in "iuf":
        good, needed = pd.Series(np.isfinite(values.to_numpy())), "a finite number"
    else:
        raise InputError(f"{path}: column {name} holds no numbers; {RESTORE}")
    if not good.all():
        row = int((~good).to_numpy().argmax())
        raise InputError(
            f"{path}: {name} of {_day(table['date'].iloc[row])} is {shown(str(values.iloc[row]))}; "
            f"{needed} is needed; {RESTORE}"
        )


def read_losses(name: str, first: str) -> pd.DataFrame:
    """Read the daily losses of a cell, or of the baselines of a horizon.

    Parameters
    ----------
    name
        Name of the table.
    first
        Its first column of losses.

    Raises
    ------
    InputError
        As `read_table`.
    """
    return read_table(paths.losses(name), ["date", "subset", first], more=True)


def read_kinds(path: Path) -> dict[str, str]:
    """Read the kind of each feature of a tier.

    Raises
    ------
    InputError
        The file is missing or damaged, or a feature has no kind.
    """
    kinds = read_json(path)
    if not isinstance(kinds, dict) or not kinds:
        raise InputError(f"{path}: no features; a kind for each is needed; {RESTORE}")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise InputError(
                f"{path}: {name[:40]}: {shown(str(kind))} is not allowed; {' or '.join(KINDS)} is "
                f"needed; {RESTORE}"
            )
    return kinds


def read_features(
    tier: str, days: pd.Series, root: Path = Path()
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the feature table of a tier, and the kind of each of its columns.

    Parameters
    ----------
    tier
        Name of the tier.
    days
        Dates that the table must have.
    root
        Folder of the study.

    Raises
    ------
    InputError
        As `read_table` and `read_kinds`, or a date is missing.
    """
    path = root / paths.features(tier)
    kinds = read_kinds(root / paths.kinds(tier))
    table = read_table(path, ["date"], more=True)
    if sorted(found := list(map(str, table))[1:]) != sorted(kinds):
        raise InputError(
            f"{path}: columns {_short(found)}; needed: {_short(list(kinds))}; {RESTORE}"
        )
    if (missing := days[~days.isin(table["date"])]).size:
        raise InputError(
            f"{path}: {missing.size} dates of the split are missing, the first "
            f"{_day(missing.iloc[0])}; `dvc repro` makes both from the same bars"
        )
    return table, kinds


def _day(value: pd.Timestamp) -> str:
    return "an empty date" if pd.isna(value) else f"{value:%Y-%m-%d}"


def _short(names: Sequence[str]) -> str:
    text = ", ".join(map(str, names))
    return text if len(text) <= 80 else f"{text[:77]}..."
