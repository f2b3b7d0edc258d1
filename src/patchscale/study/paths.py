"""Paths of the study's files, relative to the repository root."""

from pathlib import Path

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
RESULTS = Path("docs/results.md")


def raw(dataset: str, series: str) -> Path:
    """Return the path of the canonical bars of a series, without the ^ of an index."""
    return Path(f"data/raw/{dataset}/{series.removeprefix('^')}.csv")


def validation(dataset: str) -> Path:
    """Return the path of the report of the data checks."""
    return Path(f"metrics/download/{dataset}.json")


def features(tier: str) -> Path:
    """Return the path of the feature table of a tier."""
    return Path(f"data/features/{tier}.arrow")


def kinds(tier: str) -> Path:
    """Return the path of the kind, level or stationary, of every column of a tier."""
    return Path(f"data/features/{tier}.json")


def split(horizon: str) -> Path:
    """Return the path of the labels and subsets of a horizon."""
    return Path(f"data/split/{horizon}.arrow")


def best(cell: str) -> Path:
    """Return the path of the architecture and settings that a search found."""
    return Path(f"data/hpo/{cell}/best.yaml")


def hpo(cell: str, name: str) -> Path:
    """Return the path of another output of a search, such as trials.arrow or history.csv."""
    return best(cell).with_name(name)


def costs(cell: str) -> Path:
    """Return the path of the seconds and memory of a search's trials (ignored by git)."""
    return Path(f"runs/hpo-{cell}/costs.arrow")


def hpo_metrics(cell: str) -> Path:
    """Return the path of the metrics of a search."""
    return Path(f"metrics/hpo/{cell}.json")


def weights(cell: str, seed: int) -> Path:
    """Return the path of the trained weights of a replicate (ignored by git)."""
    return Path(f"models/{cell}/seed{seed}.safetensors")


def live(cell: str, seed: int) -> Path:
    """Return the path of the DVCLive folder of a replicate (ignored by git)."""
    return Path(f"runs/{cell}-seed{seed}")


def published_weights(cell: str, seed: int) -> Path:
    """Return the path of the published weights of a replicate, a DVC output."""
    return Path(f"data/weights/{cell}/seed{seed}.safetensors")


def card(cell: str) -> Path:
    """Return the path of the card of a cell: all that is needed to rebuild and check its model."""
    return Path(f"metrics/cards/{cell}.json")


def predictions(cell: str) -> Path:
    """Return the path of the probabilities of validation and test dates, without labels."""
    return Path(f"data/predictions/{cell}.arrow")


def train_metrics(cell: str) -> Path:
    """Return the path of the metrics of a cell's training."""
    return Path(f"metrics/train/{cell}.json")


def backtest_metrics(cell: str) -> Path:
    """Return the path of the metrics of a cell's evaluation and backtest."""
    return Path(f"metrics/backtest/{cell}.json")


def baseline_metrics(horizon: str) -> Path:
    """Return the path of the metrics of the baselines of a horizon."""
    return Path(f"metrics/baselines/{horizon}.json")


def losses(name: str) -> Path:
    """Return the path of the daily log-losses of a cell, or of the baselines of a horizon."""
    return Path(f"data/losses/{name}.arrow")


def trades(cell: str) -> Path:
    """Return the path of the trades of a cell in the test year."""
    return Path(f"data/trades/{cell}.csv")


def figure(name: str) -> Path:
    """Return the path of a figure of the whole study."""
    return Path(f"plots/{name}.svg")


def plot(kind: str, name: str) -> Path:
    """Return the path of a plot's table; kinds are curves, equity, calibration, ..."""
    return Path(f"plots/{kind}/{name}.csv")
