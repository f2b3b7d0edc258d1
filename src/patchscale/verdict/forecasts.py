"""Reading of the forecasts of the walk-forward test years, and of their labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow
from patchscale.study.tables import RESTORE

KEYS = ["horizon", "year", "date", "subset"]
GROUP = ["horizon", "year"]
ENSEMBLE = "ensemble"
"""Forecast that is the mean probability of the seeds of a budget."""


def read_forecasts(path: Path, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Read `horizon, year, date, subset` and a column of probabilities per forecast.

    Parameters
    ----------
    path
        Output of stage walk.
    needed
        Forecasts that it must contain.

    Returns
    -------
    The table in order of horizon, year and date; without rows where nothing is walked.

    Raises
    ------
    InputError
        The file is missing or damaged, a column is missing, a subset is unknown, a row occurs
        twice, or a probability is not between 0 and 1.
    """
    table = read_arrow(path)
    found = list(map(str, table))
    if found[: len(KEYS)] != KEYS:
        raise InputError(f"{path}: must begin with the columns {', '.join(KEYS)}; {RESTORE}")
    if missing := [name for name in needed if name not in found]:
        raise InputError(f"{path}: columns {', '.join(missing)} are needed; {RESTORE}")
    if table.empty:
        return table
    names = found[len(KEYS) :]
    for name in names:
        values = table[name]
        if values.dtype.kind != "f" or not values.between(0, 1).all():
            raise InputError(f"{path}: {name}: a probability from 0 to 1 is needed; {RESTORE}")
    if not names or not table["subset"].isin(("val", "test")).all():
        raise InputError(f"{path}: subset: val or test is needed, with forecasts; {RESTORE}")
    if table.duplicated(["horizon", "year", "date"]).any():
        raise InputError(f"{path}: date: a day of a year occurs twice; {RESTORE}")
    ordered = table.sort_values(["horizon", "year", "date"], ignore_index=True)
    return ordered.astype(dict.fromkeys(names, "float64"))


def refuse_other_days(path: Path, table: pd.DataFrame, baselines: pd.DataFrame) -> None:
    """Refuse forecasts whose years have other days than the baselines have.

    Raises
    ------
    InputError
        A year has other days, or no baselines.
    """
    mine = table[KEYS].reset_index(drop=True)
    theirs = baselines[KEYS].merge(mine[GROUP].drop_duplicates(), on=GROUP)
    if not mine.equals(theirs):
        raise InputError(
            f"{path}: other days than those of the baselines; `dvc repro` makes both from the same "
            "split"
        )


def with_labels(
    path: Path, table: pd.DataFrame, labels: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Return forecasts with column `label`.

    Parameters
    ----------
    path
        File of the forecasts, for the message.
    table
        Forecasts, as `read_forecasts` returns them.
    labels
        For each horizon `date, label` of all dates.

    Raises
    ------
    InputError
        A day has no label.
    """
    every = pd.concat({name: each.set_index("date")["label"] for name, each in labels.items()})
    label = every.reindex(pd.MultiIndex.from_frame(table[["horizon", "date"]])).to_numpy()
    if pd.isna(label).any():
        first = table[pd.isna(label)].iloc[0]
        raise InputError(
            f"{path}: {first['date']:%Y-%m-%d} of {first['horizon']} has no label in data/split; "
            "`dvc repro` makes both from the same bars"
        )
    return table.assign(label=label)


def with_ensemble(table: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of a budget's seeds with column `ensemble`, their mean probability."""
    return table.assign(**{ENSEMBLE: table.drop(columns=KEYS).mean(axis=1)})
