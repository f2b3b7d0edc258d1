"""Read a split table without the labels that a stage must not see."""

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
    """Read a split file's `date, label, subset`, with the labels of the named subsets only.

    Every other label comes back as NaN. Only the stages that judge (baselines, backtest) may ask
    for test; a search reads the `scattered` division.
    """
    table = read_arrow(path)
    subset = table[division]
    label = table["label"].astype(float).where(subset.isin(labels_of))
    return pd.DataFrame({"date": table["date"], "label": label, "subset": subset})
