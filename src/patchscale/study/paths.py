"""Paths of the study's files, relative to the repository root."""

import re
from pathlib import Path

from patchscale.study.errors import InputError, shown

NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
"""Pattern of every name in params.yaml and grid.yaml: it becomes a file and a word of a command."""
SYMBOL = r"\^?[A-Za-z0-9][A-Za-z0-9.=_-]{0,31}"
"""Pattern of the symbol of a series, which becomes a file."""
PARAMS = Path("params.yaml")
GRID = Path("grid.yaml")
SPACE = Path("space.yaml")
STUDY = (PARAMS, GRID, SPACE)
"""Files that hold the parameters of a study."""
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
INPUTS = Path("inputs")
CHECKED = Path("data/params.checked")
HEADLINE = Path("metrics/headline.json")
SCALING = Path("metrics/scaling.json")
SCALING_CSV = Path("plots/scaling.csv")
VERDICT = Path("metrics/verdict/details.json")
VERDICT_METRICS = Path("metrics/verdict.json")
LOSSES = Path("data/losses")
VERDICT_CSV = Path("plots/verdict.csv")
DIFFERENCE_CSV = Path("plots/difference.csv")
RESULTS = Path("docs/results.md")
RESULTS_PAGE = Path("docs/results.html")


def safe(text: str, pattern: str = f"{NAME}(-{NAME})?") -> str:
    """Return a name, or two joined by a hyphen, that may become part of a path.

    Raises
    ------
    InputError
        The text has another form, such as that of a path to another folder.
    """
    if not re.fullmatch(pattern, text):
        raise InputError(f"{shown(text)} is not allowed as a name; it must match {pattern}")
    return text


def raw(dataset: str, series: str) -> Path:
    """Return the path of the canonical bars of a series, without the ^ of an index."""
    return bars(dataset) / f"{safe(series, SYMBOL).removeprefix('^')}.csv"


def validation(dataset: str) -> Path:
    """Return the path of the report of the data checks."""
    return Path(f"metrics/download/{safe(dataset)}.json")


def features(tier: str) -> Path:
    """Return the path of the feature table of a tier."""
    return Path(f"data/features/{safe(tier)}.arrow")


def kinds(tier: str) -> Path:
    """Return the path of the kind, level or stationary, of every column of a tier."""
    return Path(f"data/features/{safe(tier)}.json")


def split(horizon: str) -> Path:
    """Return the path of the labels and subsets of a horizon."""
    return Path(f"data/split/{safe(horizon)}.arrow")


def best(cell: str) -> Path:
    """Return the path of the architecture and settings that a search found."""
    return Path(f"data/hpo/{safe(cell)}/best.yaml")


def hpo(cell: str, name: str) -> Path:
    """Return the path of another output of a search, such as trials.arrow or history.csv."""
    return best(cell).with_name(name)


def settings(budget: str) -> Path:
    """Return the path of what the cells of a budget train with."""
    return Path(f"data/settings/{safe(budget)}.yaml")


def walk(name: str) -> Path:
    """Return the path of the probabilities of all test years, of a budget or of the baselines."""
    return Path(f"data/walk/{safe(name)}.arrow")


def walk_metrics(budget: str) -> Path:
    """Return the path of what is known of a budget's walk forward, without labels of test."""
    return Path(f"metrics/walk/{safe(budget)}.json")


def costs(cell: str) -> Path:
    """Return the path of the seconds and memory of a search's trials (ignored by git)."""
    return Path(f"runs/hpo-{safe(cell)}/costs.arrow")


def hpo_metrics(cell: str) -> Path:
    """Return the path of the metrics of a search."""
    return Path(f"metrics/hpo/{safe(cell)}.json")


def weights(cell: str, seed: int) -> Path:
    """Return the path of the trained weights of a replicate (ignored by git)."""
    return Path(f"models/{safe(cell)}/seed{seed}.safetensors")


def live(cell: str, seed: int) -> Path:
    """Return the path of the DVCLive folder of a replicate (ignored by git)."""
    return Path(f"runs/{safe(cell)}-seed{seed}")


def published_weights(cell: str, seed: int) -> Path:
    """Return the path of the published weights of a replicate, a DVC output."""
    return Path(f"data/weights/{safe(cell)}/seed{seed}.safetensors")


def card(cell: str) -> Path:
    """Return the path of the card of a cell: all that is needed to rebuild and check its model."""
    return Path(f"metrics/cards/{safe(cell)}.json")


def predictions(cell: str) -> Path:
    """Return the path of the probabilities of validation and test dates, without labels."""
    return Path(f"data/predictions/{safe(cell)}.arrow")


def train_metrics(cell: str) -> Path:
    """Return the path of the metrics of a cell's training."""
    return Path(f"metrics/train/{safe(cell)}.json")


def backtest_metrics(cell: str) -> Path:
    """Return the path of the metrics of a cell's evaluation and backtest."""
    return Path(f"metrics/backtest/{safe(cell)}.json")


def baseline_metrics(horizon: str) -> Path:
    """Return the path of the metrics of the baselines of a horizon."""
    return Path(f"metrics/baselines/{safe(horizon)}.json")


def losses(name: str) -> Path:
    """Return the path of the daily log-losses of a cell, or of the baselines of a horizon."""
    return LOSSES / f"{safe(name)}.arrow"


def trades(cell: str) -> Path:
    """Return the path of the trades of a cell in the test year."""
    return Path(f"data/trades/{safe(cell)}.csv")


def bars(dataset: str) -> Path:
    """Return the folder of the canonical bars of a data set."""
    return Path(f"data/raw/{safe(dataset)}")


def figure(name: str) -> Path:
    """Return the path of a figure of the whole study."""
    return Path(f"plots/{safe(name)}.svg")


def plot(kind: str, name: str) -> Path:
    """Return the path of a plot's table; kinds are curves, equity, calibration, ..."""
    return Path(f"plots/{safe(kind)}/{safe(name)}.csv")
