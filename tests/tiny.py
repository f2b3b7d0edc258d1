"""Small models, problems and parameters that tests share."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import ROOT

from patchscale.model.patchtst import PatchTSTConfig
from patchscale.runtime.checkpoint import Checkpoint
from patchscale.runtime.replica import Replica
from patchscale.runtime.tracking import Run, tracking
from patchscale.study.params import Best, Grid, Params, Space, Window, load_params
from patchscale.train.inputs import Inputs, assemble
from patchscale.train.settings import Settings

SHAPE = PatchTSTConfig(
    n_features=2,
    context_length=6,
    patch_length=3,
    stride=3,
    d_model=8,
    n_layers=2,
    n_heads=2,
    d_ff=16,
    dropout=0.0,
)
WINDOW = Window(context_length=6, patch_length=3, stride=3, normalisation="kind")
SETTINGS = Settings(
    lr=5e-3,
    weight_decay=0.01,
    warmup=0.16,
    epochs=5,
    batch_size=32,
    patience=10,
    min_delta=0.0,
    clip=1.0,
)
N_TRAIN, N_VAL = 160, 80
STEPS = N_TRAIN // SETTINGS.batch_size


def problem(*, learnable: bool = True, dropout: float = 0.1) -> Inputs:
    """Return a tiny cell whose label is the sign of the last bar, or a coin."""
    random = np.random.default_rng(0)
    n = 300
    table = pd.DataFrame(random.standard_normal((n, 2)), columns=["a", "b"])
    table.insert(0, "date", pd.bdate_range("2010-01-04", periods=n))
    label = table["a"] > 0 if learnable else random.random(n) < 0.5
    split = pd.DataFrame({"date": table["date"], "label": np.asarray(label, dtype=float)})[5:]
    names = ["train"] * N_TRAIN + ["purged"] * 5 + ["val"] * N_VAL
    split["subset"] = names + ["test"] * (len(split) - len(names))
    best = Best(
        cell="tiny-h1",
        trial=0,
        n_params=1000,
        d_model=8,
        n_layers=2,
        n_heads=2,
        d_ff=16,
        lr=0.01,
        dropout=dropout,
        weight_decay=0.0,
        epochs=1,
    )
    kinds = {"a": "stationary", "b": "stationary"}
    return assemble(table, kinds, split, WINDOW, best)


LONG = replace(SETTINGS, epochs=5000, patience=5000)


def replicas(
    path: Path, settings: Settings = SETTINGS, seeds: Sequence[int] = (0, 1)
) -> list[Replica]:
    """Return tiny trainings whose checkpoints are under a path."""
    return [
        Replica(
            f"tiny-h1 seed {seed}",
            problem(),
            settings,
            seed,
            Checkpoint(path / f"state{seed}"),
            threads=1,
            max_hours=100.0,
            track=partial(tracking, path / f"live{seed}", Run("tiny-h1", seed, "f", {})),
        )
        for seed in seeds
    ]


SIZE = {"n_features": 2, "patch_length": 3, "n_patches": 2}
SPACE = Space.model_validate(
    {
        "d_model": [8, 16],
        "n_layers": [1, 2],
        "n_heads": [2, 4],
        "lr": [0.001, 0.02],
        "weight_decay": [0.0001, 0.5],
        "dropout": [0.1, 0.5],
        "epochs": [2, 4],
    }
)
ROW = {
    "d_model": 8,
    "n_layers": 2,
    "n_heads": 2,
    "lr": 0.01,
    "weight_decay": 0.001,
    "dropout": 0.1,
    "epochs": 4,
}
N_PARAMS = 2400
SHAPE_KEYS = ("d_model", "n_layers", "n_heads")


def tiny_params(**rules: object) -> Params:
    """Return the study's parameters with one tiny budget and other rules of its search."""
    raw = load_params(ROOT).model_dump()
    start = {name: value for name, value in ROW.items() if name not in SHAPE_KEYS}
    run = {"seeds": 1, "processes": 1, "threads": 1, "precision": "32-true"}
    raw["window"] = WINDOW.model_dump()
    raw["budgets"] = {
        "tiny": {
            "n_params": N_PARAMS,
            "settings": "search",
            "trained": {"h1": True},
            "start": start,
            "run": run,
            "walk": {"seeds": 1, "horizons": []},
        }
    }
    raw["train"] |= {"batch_size": 64}
    raw["hpo"] |= {"base": "tiny", "trials": 6, "seeds": 2, "batch": 3, "startup": 3} | rules
    cell = {"budget": "tiny", "horizon": "h1", "search": "h1"}
    shape = {name: ROW[name] for name in SHAPE_KEYS}
    grid = Grid.model_validate({"searches": ["h1"], "cells": {"tiny-h1": cell | shape}})
    return Params.model_validate(raw).with_grid(grid)
