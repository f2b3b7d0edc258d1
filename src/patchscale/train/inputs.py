"""A cell's model shape, windows and samples, assembled from the study's tables."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from patchscale.model.patchtst import PatchTSTConfig
from patchscale.model.windows import Windows
from patchscale.split.table import Division, read_split
from patchscale.study import paths
from patchscale.study.params import Best, Params, Window
from patchscale.study.tables import read_features


@dataclass(frozen=True)
class Samples:
    """Rows of the feature table and their labels, as float 0 / 1."""

    rows: Tensor
    labels: Tensor

    @property
    def base_rate(self) -> float:
        """Share of positive labels, with one more of either class."""
        return (float(self.labels.sum()) + 1) / (len(self.labels) + 2)


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
    as_of: pd.Timestamp
    """Last day of the feature table."""


def shape_of(best: Best, window: Window, n_features: int) -> PatchTSTConfig:
    """Return the shape of the model that `best` describes."""
    return PatchTSTConfig(
        n_features=n_features,
        **window.model_dump(include={"context_length", "patch_length", "stride"}),
        **best.model_dump(include={"d_model", "n_layers", "n_heads", "d_ff", "dropout"}),
    )


def read_inputs(
    params: Params,
    cell: str,
    best: Best,
    *,
    division: Division = "contiguous",
    root: Path = Path(),
) -> Inputs:
    """Return the inputs of a cell from the study's files; test labels stay unread.

    `division` is the split: `contiguous` to train with, `scattered` to search with.
    """
    tier, horizon = params.features.tier, params.cells[cell].horizon
    split = read_split(root / paths.split(horizon), labels_of={"train", "val"}, division=division)
    table, kinds = read_features(tier, split["date"], root)
    return assemble(table, kinds, split, params.window, best)


def assemble(
    table: pd.DataFrame, kinds: dict[str, str], split: pd.DataFrame, window: Window, best: Best
) -> Inputs:
    """Return a cell's inputs.

    Parameters
    ----------
    table
        Feature table: `date` and the columns of `kinds`.
    kinds
        `level` or `stationary` for each feature.
    split
        Split table as `read_split` returns it.
    window, best
        Context, patches and normalisation; architecture.
    """
    position = pd.Series(np.arange(len(table)), index=pd.DatetimeIndex(table["date"]))
    rows = torch.from_numpy(position.loc[split["date"]].to_numpy().copy())
    labels = torch.from_numpy(split["label"].to_numpy(dtype=np.float32))
    subset = split["subset"].to_numpy()

    def samples(name: str) -> Samples:
        chosen = torch.from_numpy(subset == name)
        return Samples(rows[chosen], labels[chosen])

    train = samples("train")
    judged = np.isin(subset, ("val", "test"))
    return Inputs(
        shape=shape_of(best, window, len(kinds)),
        windows=Windows(
            table[list(kinds)].to_numpy(dtype=float),
            list(kinds.values()),
            train.rows.numpy(),
            window.context_length,
            window.normalisation,
        ),
        train=train,
        val=samples("val"),
        judged=pd.DataFrame({"date": split["date"], "subset": subset})[judged],
        judged_rows=rows[torch.from_numpy(judged)],
        as_of=table["date"].iloc[-1],
    )
