"""The names of the study's files, relative to the repository root."""

from pathlib import Path

PARAMS = Path("params.yaml")
GRID = Path("grid.yaml")
SPACE = Path("space.yaml")
PIPELINE = Path("dvc.yaml")
INPUTS = Path("inputs")
CHECKED = Path("data/params.checked")
HEADLINE = Path("metrics/headline.json")
SCALING = Path("metrics/scaling.json")
SCALING_CSV = Path("plots/scaling.csv")
RESULTS = Path("docs/results.md")


def raw(dataset: str, series: str) -> Path:
    """Canonical bars of one series; the ^ of an index is left out."""
    return Path(f"data/raw/{dataset}/{series.removeprefix('^')}.csv")


def validation(dataset: str) -> Path:
    """Report of the data checks."""
    return Path(f"metrics/download/{dataset}.json")


def features(tier: str) -> Path:
    """Feature table of a tier."""
    return Path(f"data/features/{tier}.arrow")


def kinds(tier: str) -> Path:
    """Kind of every column of a tier."""
    return Path(f"data/features/{tier}.json")


def split(horizon: str) -> Path:
    """Labels and subsets of a horizon."""
    return Path(f"data/split/{horizon}.arrow")


def best(cell: str) -> Path:
    """Best settings of a search."""
    return Path(f"data/hpo/{cell}/best.yaml")


def hpo(cell: str, name: str) -> Path:
    """Another output of a search: trials.arrow, history.csv and so on."""
    return best(cell).with_name(name)


def costs(cell: str) -> Path:
    """Seconds and memory of a search's trials, outside git and DVC: no two runs agree on them."""
    return Path(f"runs/hpo-{cell}/costs.arrow")


def hpo_metrics(cell: str) -> Path:
    """Figures of a search."""
    return Path(f"metrics/hpo/{cell}.json")


def weights(cell: str, seed: int) -> Path:
    """Trained weights, outside git and DVC."""
    return Path(f"models/{cell}/seed{seed}.safetensors")


def live(cell: str, seed: int) -> Path:
    """DVCLive's directory of a replicate, outside git and DVC."""
    return Path(f"runs/{cell}-seed{seed}")


def published_weights(cell: str, seed: int) -> Path:
    """Trained weights as a DVC output."""
    return Path(f"data/weights/{cell}/seed{seed}.safetensors")


def card(cell: str) -> Path:
    """Everything needed to rebuild and check a cell's model."""
    return Path(f"metrics/cards/{cell}.json")


def predictions(cell: str) -> Path:
    """Probabilities for validation and test dates, without labels."""
    return Path(f"data/predictions/{cell}.arrow")


def train_metrics(cell: str) -> Path:
    """Figures of a cell's training."""
    return Path(f"metrics/train/{cell}.json")


def backtest_metrics(cell: str) -> Path:
    """Figures of a cell's evaluation and backtest."""
    return Path(f"metrics/backtest/{cell}.json")


def baseline_metrics(horizon: str) -> Path:
    """Figures of the baselines of a horizon."""
    return Path(f"metrics/baselines/{horizon}.json")


def losses(name: str) -> Path:
    """Daily log-losses of a cell, or of the baselines of a horizon."""
    return Path(f"data/losses/{name}.arrow")


def trades(cell: str) -> Path:
    """Trades of a cell in the test year."""
    return Path(f"data/trades/{cell}.csv")


def figure(name: str) -> Path:
    """Figure of the whole study."""
    return Path(f"plots/{name}.svg")


def plot(kind: str, name: str) -> Path:
    """Table behind a plot: curves, equity, calibration, precision_recall or headline."""
    return Path(f"plots/{kind}/{name}.csv")
