"""Walk forward: for each test year, training on all years before it but the last, validation.

It stands apart from `split.dates`, so that only what it does itself makes a walk stale.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.split.table import SUBSETS, read_split
from patchscale.study.errors import InputError
from patchscale.study.params import Split

DAYS = {"horizon": "str", "year": "int64", "date": "datetime64[ns]", "subset": "str"}
"""First columns, with their types, of a table of forecasts of all test years."""


def no_forecasts(names: Iterable[str]) -> pd.DataFrame:
    """Return a table of forecasts without rows, given the columns of probabilities."""
    kinds = DAYS | dict.fromkeys(names, "float64")
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def in_order(dates: pd.Series, starts: tuple[str, str], horizon: int) -> np.ndarray:
    """Return the subset of each date, in order of time: train, val, test.

    The last `horizon` dates before validation and before test are `purged`, because their labels
    depend on sessions after the boundary.

    Parameters
    ----------
    dates
        Prediction dates, ascending.
    starts
        First days of validation and of test, as ISO 8601 dates.
    horizon
        Number of sessions after its date on which a label depends.
    """
    subset = np.full(len(dates), "test", dtype=object)
    for name, start in zip(("val", "train"), reversed(starts), strict=True):
        edge = int(np.searchsorted(dates.to_numpy(), np.datetime64(start)))
        subset[:edge] = name
        subset[max(0, edge - horizon) : edge] = "purged"
    return subset


def walk_forward(dates: pd.Series, year: int, horizon: int) -> pd.Series:
    """Return the subset of each date up to the end of a test year, with the index of `dates`.

    Test is the year, validation the calendar year before it, training everything before that.
    Dates after the year are dropped.
    """
    known = dates[dates < pd.Timestamp(year + 1, 1, 1)]
    starts = (f"{year - 1:04}-01-01", f"{year:04}-01-01")
    return pd.Series(in_order(known, starts, horizon), index=known.index)


def read_walk(path: Path, year: int, horizon: int, rules: Split) -> pd.DataFrame:
    """Read `date, label, subset` of a test year from a split file.

    Labels of test and of purged dates are NaN, and no date after the year is returned.

    Parameters
    ----------
    path
        Output of stage split.
    year
        Test year.
    horizon
        Number of sessions after its date on which a label depends.
    rules
        Smallest subsets, and fewest training samples of one class.

    Raises
    ------
    InputError
        As `read_split`, or a subset has fewer samples than `rules` require, or training has fewer
        of one class.
    """
    table = read_split(path, labels_of={"train", "val", "test", "purged"})
    subset = walk_forward(table["date"], year, horizon)
    table = table.loc[subset.index].assign(subset=subset)
    counts = {name: int((subset == name).sum()) for name in SUBSETS}
    few = min(counts, key=counts.__getitem__)
    if counts[few] < rules.min_samples:
        raise InputError(
            f"{path}, test year {year}: {few} has {counts[few]} samples; needed: "
            f"{rules.min_samples} (split.min_samples)"
        )
    classes = table.loc[subset == "train", "label"].value_counts()
    if (fewest := min(classes.get(0, 0), classes.get(1, 0))) < rules.min_class:
        raise InputError(
            f"{path}, test year {year}: train has {fewest} samples of one class; needed: "
            f"{rules.min_class} (split.min_class)"
        )
    table["label"] = table["label"].where(subset.isin(("train", "val")))
    return table.reset_index(drop=True)


def years_searched(files: Iterable[Path]) -> set[int]:
    """Return the years with days on whose labels settings were chosen, given the split files.

    These are the training and validation days of the scattered division, on which searches are
    made.
    """
    found: set[int] = set()
    for path in files:
        split = read_split(path, labels_of={"train"}, division="scattered")
        found |= set(split.loc[split["subset"].isin(("train", "val")), "date"].dt.year)
    return found
