"""A cell's model shape, windows and samples, assembled from the study's tables."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from patchscale.config import Best, Model
from patchscale.model import PatchTSTConfig
from patchscale.windows import Windows


@dataclass(frozen=True)
class Samples:
    """Rows of the feature table and their labels, as float 0 / 1."""

    rows: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Inputs:
    """What training and prediction of a cell read."""

    shape: PatchTSTConfig
    windows: Windows
    train: Samples
    val: Samples
    judged: pd.DataFrame
    """`date, subset` of the validation and test dates."""
    judged_rows: Tensor


def assemble(
    table: pd.DataFrame, kinds: dict[str, str], split: pd.DataFrame, model: Model, best: Best
) -> Inputs:
    """Return a cell's inputs.

    Parameters
    ----------
    table
        Feature table: `date` and the columns of `kinds`.
    kinds
        `level` or `stationary` for each feature.
    split
        Split table, whose `contiguous` column divides the dates; test labels may be NaN.
    model, best
        Context, patches and normalisation; architecture.
    """
    position = pd.Series(np.arange(len(table)), index=pd.DatetimeIndex(table["date"]))
    rows = torch.from_numpy(position.loc[split["date"]].to_numpy().copy())
    labels = torch.from_numpy(split["label"].to_numpy(dtype=np.float32))
    subset = split["contiguous"].to_numpy()

    def samples(name: str) -> Samples:
        chosen = torch.from_numpy(subset == name)
        return Samples(rows[chosen], labels[chosen])

    train = samples("train")
    judged = np.isin(subset, ("val", "test"))
    return Inputs(
        shape=PatchTSTConfig(
            n_features=len(kinds),
            context_length=model.context_length,
            patch_length=model.patch_length,
            stride=model.stride,
            d_model=best.d_model,
            n_layers=best.n_layers,
            n_heads=best.n_heads,
            d_ff=best.d_ff,
            dropout=best.dropout,
        ),
        windows=Windows(
            table[list(kinds)].to_numpy(dtype=float),
            list(kinds.values()),
            train.rows.numpy(),
            model.context_length,
            model.normalisation,
        ),
        train=train,
        val=samples("val"),
        judged=pd.DataFrame({"date": split["date"], "subset": subset})[judged],
        judged_rows=rows[torch.from_numpy(judged)],
    )
