"""Reading of a split table without the labels that a stage must not see."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import pandas as pd

from patchscale.study.files import read_arrow

SUBSETS = ("train", "val", "test")
Division = Literal["contiguous", "scattered"]


def read_split(
    path: Path, labels_of: Collection[str], division: Division = "contiguous"
) -> pd.DataFrame:
    """Read `date, label, subset` of a split file; labels of subsets not named are NaN.

    Only stages baselines and backtest may read labels of test. A search reads the `scattered`
    division.

    Parameters
    ----------
    path
        Output of stage split.
    labels_of
        Subsets whose labels are returned.
    division
        Division of the dates that column `subset` holds.
    """
    table = read_arrow(path)
    subset = table[division]
    label = table["label"].astype(float).where(subset.isin(labels_of))
    return pd.DataFrame({"date": table["date"], "label": label, "subset": subset})
