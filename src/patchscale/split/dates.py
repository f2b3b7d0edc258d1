"""Which prediction dates train, validate and test; purged where labels would overlap.

A sample is a prediction date. Its context may reach back across a boundary, its label may not
reach forward across one.
"""

import numpy as np
import pandas as pd

from patchscale.split.table import SUBSETS
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, Split


def contiguous(dates: pd.Series, dataset: Dataset, horizon: int) -> np.ndarray:
    """Return the subset of each date: train < validation start <= val < test start <= test.

    The last `horizon` dates before each start are `purged`: their labels would look across it.
    """
    subset = np.full(len(dates), "test", dtype=object)
    for name, start in (("val", dataset.test_from), ("train", dataset.validation_from)):
        edge = int(np.searchsorted(dates.to_numpy(), np.datetime64(start)))
        subset[:edge] = name
        subset[max(0, edge - horizon) : edge] = "purged"
    return subset


def scattered(dates: pd.Series, dataset: Dataset, horizon: int, split: Split) -> np.ndarray:
    """Return the subset of each date for the search: validation blocks strewn over the history.

    Blocks of `scattered.block` sessions tile the pre-test dates; a seeded draw makes about
    `scattered.fraction` of them validation, every day of a block being a sample. Training dates
    whose label reaches into a block are purged, and so are the `horizon` + `split.embargo` dates
    after a block, whose contexts still hold most of it.
    """
    end = int(np.searchsorted(dates.to_numpy(), np.datetime64(dataset.test_from)))
    subset = np.full(len(dates), "train", dtype=object)
    block = split.scattered.block
    starts = np.arange(0, end - block + 1, block)
    count = max(1, round(split.scattered.fraction * end / block))
    chosen = np.random.default_rng(split.scattered.seed).choice(
        starts, min(count, len(starts)), replace=False
    )
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
        Prediction dates that have features, a full context and a label (no NaN), aligned.
    dataset, split
        Boundaries, sizes, seed.
    horizon
        Sessions the label looks ahead.

    Raises
    ------
    InputError
        Validation or test holds fewer samples, or fewer of one class, than `split` demands.
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
