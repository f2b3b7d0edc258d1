"""A toy study: the pipeline with tiny budgets, in a repository with real git and real DVC."""

import json
import os
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from conftest import ROOT
from dvc.repo import Repo
from repository import CONFIG, Repository

BUDGETS = {"1K": 6320, "2K": 12320}
HORIZONS = {"h1": 1, "h3": 3}
DATES = {
    "start": "2004-01-02",
    "end": "2012-12-31",
    "validation_from": "2011-01-03",
    "test_from": "2012-01-03",
}
"""Nine years of bars, which pass the size gates of the split."""
WALK = {"first": 2011, "last": 2012}
"""Test years of the toy study."""
SPACE = {
    "d_model": [16, 24],
    "n_layers": [1, 2],
    "n_heads": [2, 4],
    "lr": [0.001, 0.01],
    "weight_decay": [0.0005, 0.005],
    "dropout": [0.05, 0.3],
    "epochs": [2, 3],
}


def toy_params(
    budgets: dict[str, int] = BUDGETS, horizons: dict[str, int] = HORIZONS
) -> dict[str, Any]:
    """Return a params.yaml with tiny budgets; the smallest is searched and published."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    smallest = next(iter(budgets))
    params["datasets"]["gspc"] |= DATES | {"walk": {**WALK}}
    params["datasets"]["csv"] |= DATES | {"walk": {**WALK}}
    params["walk"] = {"years": [WALK["last"]]}
    params["features"]["tiers"] = ["a20"]
    params["horizons"] = horizons
    params["window"]["context_length"] = 20
    params["budgets"] = {
        name: {
            "n_params": n_params,
            "settings": "search" if name == smallest else "transfer",
            "trained": dict.fromkeys(horizons, True),
            "start": {"lr": 0.003, "dropout": 0.1, "weight_decay": 0.001, "epochs": 2},
            "run": {
                "seeds": 2 if name == smallest else 1,
                "processes": 1,
                "threads": 1,
                "precision": "32-true" if name == smallest else "bf16-mixed",
            },
            "walk": {"seeds": 1, "horizons": [*horizons] if name == smallest else []},
        }
        for name, n_params in budgets.items()
    }
    params["publish"] = {smallest: 1}
    params["hpo"] |= {"base": smallest, "trials": 3, "seeds": 2, "batch": 2, "startup": 2}
    params["model"]["budget"] = smallest
    return params


def toy_grid(params: dict[str, Any]) -> dict[str, Any]:
    """Return the grid.yaml of these params; the first half of the horizons is searched."""
    horizons = list(params["horizons"])
    searches = horizons[: len(horizons) // 2]
    return {
        "searches": searches,
        "cells": {
            f"{budget}-{horizon}": {
                "budget": budget,
                "horizon": horizon,
                "search": horizon if horizon in searches else searches[0],
                "d_model": 16,
                "n_layers": n_layers,
                "n_heads": 2,
            }
            for n_layers, budget in enumerate(params["budgets"], 1)
            for horizon in horizons
        },
    }


class Study(Repository):
    """A repository with the stages of the study.

    A stage trains its replicates and trials one after the other, in its own process: to start
    processes that import torch would take longer than the training.
    """

    def environment(self) -> dict[str, str]:
        """Return the environment of every command."""
        return super().environment() | {"OMP_NUM_THREADS": "1"}

    def read(self, name: str) -> Any:
        """Return the content of a YAML file."""
        return yaml.safe_load((self.path / name).read_text())

    def write(self, name: str, content: Any) -> None:
        """Write a YAML file."""
        (self.path / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def figures(self, name: str) -> Any:
        """Return the content of a JSON file."""
        return json.loads((self.path / name).read_text())

    def changed_stages(self) -> set[str]:
        """Return the stages whose own dependencies, parameters or outputs changed."""
        environment = patch.dict(os.environ, self.environment(), clear=True)
        with environment, chdir(self.path), Repo() as repo:
            return set(repo.status())

    def copy(self, path: Path) -> "Study":
        """Return a copy with the same history, cache and workspace."""
        shutil.copytree(self.path, path, symlinks=True)
        return Study(path)


def toy_repository(path: Path, params: dict[str, Any]) -> Study:
    """Return a repository with the code, these params and their grid, in which nothing has run."""
    for name in ("src", "stages", "inputs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, path / name, ignore=ignored)
    for name in ("dvc.yaml", ".gitignore", ".gitattributes", ".dvcignore"):
        shutil.copy(ROOT / name, path)
    repo = Study(path)
    repo.write("params.yaml", params)
    repo.write("grid.yaml", toy_grid(params))
    repo.write("space.yaml", SPACE)
    repo.do("git", "init", "-q", "-b", "main")
    repo.do("dvc", "init", "-q")
    (path / ".dvc/config").write_text(CONFIG)
    shutil.copytree(ROOT / ".dvc/plots", path / ".dvc/plots")
    return repo
