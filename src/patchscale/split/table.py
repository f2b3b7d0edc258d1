"""Reading of a split table without the labels that a stage must not see."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import pandas as pd

from patchscale.study.errors import InputError
from patchscale.study.tables import read_table

SUBSETS = ("train", "val", "test")
COLUMNS = ("date", "label", "contiguous", "scattered")
Division = Literal["contiguous", "scattered"]


def read_split(
    path: Path, labels_of: Collection[str], division: Division = "contiguous"
) -> pd.DataFrame:
    """Read `date, label, subset` of a split file; labels of subsets not named are NaN.

    Labels of test are for stages that judge, and for `read_walk`, which returns none of its test
    year. A search reads the `scattered` division.

    Parameters
    ----------
    path
        Output of stage split.
    labels_of
        Subsets whose labels are returned.
    division
        Division of the dates that column `subset` holds.

    Raises
    ------
    InputError
        As `read_table`, or a label is neither 0 nor 1.
    """
    table = read_table(path, COLUMNS)
    wrong = ~table["label"].isin((0, 1))
    if wrong.any():
        first = table[wrong].iloc[0]
        raise InputError(
            f"{path}: label of {first['date']:%Y-%m-%d} is {first['label']}; 0 or 1 is needed"
        )
    subset = table[division]
    label = table["label"].astype(float).where(subset.isin(labels_of))
    return pd.DataFrame({"date": table["date"], "label": label, "subset": subset})
