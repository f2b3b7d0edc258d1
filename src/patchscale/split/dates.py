"""Division of prediction dates into training, validation and test, with purging.

A sample is a prediction date. Its context may begin before a boundary, but its label may not
depend on sessions after one.
"""

import numpy as np
import pandas as pd

from patchscale.split.table import SUBSETS
from patchscale.split.walk import in_order
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, Split


def contiguous(dates: pd.Series, dataset: Dataset, horizon: int) -> np.ndarray:
    """Return the subset of each date, in order of time: train, val, test.

    The last `horizon` dates before validation and before test are `purged`, because their labels
    depend on sessions after the boundary.
    """
    return in_order(dates, (dataset.validation_from, dataset.test_from), horizon)


def scattered(dates: pd.Series, dataset: Dataset, horizon: int, split: Split) -> np.ndarray:
    """Return the subset of each date for the search: validation blocks all over the history.

    The dates before test are tiled by blocks of `scattered.block` sessions. About
    `scattered.fraction` of them are validation blocks, in which every date is a sample: the
    history is divided into as many periods of equal length, and a seeded draw takes one block of
    each. Two kinds of training dates are purged: those whose label depends on sessions of a block,
    and the `horizon` + `split.embargo` dates after a block, whose contexts contain most of it.
    """
    end = int(np.searchsorted(dates.to_numpy(), np.datetime64(dataset.test_from)))
    subset = np.full(len(dates), "train", dtype=object)
    block = split.scattered.block
    starts = np.arange(0, end - block + 1, block)
    count = max(1, round(split.scattered.fraction * end / block))
    random = np.random.default_rng(split.scattered.seed)
    chosen = [random.choice(period) for period in np.array_split(starts, count) if len(period)]
    validation = np.zeros(len(dates), dtype=bool)
    for start in chosen:
        validation[start : start + block] = True
    for start in chosen:
        subset[max(0, start - horizon) : start] = "purged"
        subset[start + block : start + block + horizon + split.embargo] = "purged"
    subset[validation] = "val"
    subset[max(0, end - horizon) : end] = "purged"
    subset[end:] = "test"
    return subset


def make_split(
    dates: pd.Series, labels: pd.Series, dataset: Dataset, split: Split, horizon: int
) -> pd.DataFrame:
    """Return the split table `date, label, contiguous, scattered`.

    Parameters
    ----------
    dates, labels
        Prediction dates with features and a full context, and their labels (no NaN).
    dataset, split
        Boundaries, smallest sizes, and rules of the scattered division.
    horizon
        Number of sessions after its date on which a label depends.

    Raises
    ------
    InputError
        A subset has fewer samples, or fewer of one class, than `split` requires.
    """
    table = pd.DataFrame(
        {
            "date": dates.to_numpy(),
            "label": labels.to_numpy().astype("int8"),
            "contiguous": contiguous(dates, dataset, horizon),
            "scattered": scattered(dates, dataset, horizon, split),
        }
    )
    for column, names in (("contiguous", SUBSETS), ("scattered", ("train", "val"))):
        for name in names:
            chosen = table.loc[table[column] == name, "label"]
            n, positives = len(chosen), int(chosen.sum())
            fewest = min(positives, n - positives)
            if n < split.min_samples or fewest < split.min_class:
                raise InputError(
                    f"split.{column}, h={horizon}: {name} has {n} samples, {positives} positive; "
                    f"needed: {split.min_samples} samples (split.min_samples), "
                    f"{split.min_class} of each class (split.min_class)"
                )
    return table
