"""A published model as a folder for the Hugging Face Hub: weights, config.json and a card.

`model.safetensors` is the first seed, `seed1.safetensors` and so on are the others. config.json
has all that turns features into the input of the model.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from patchscale.backtest.judge import BENCHMARK
from patchscale.forecast.published import read_card, shape_of_cell, weights_of
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.files import read_json, write_json, write_text
from patchscale.study.params import Params
from patchscale.study.tables import read_features

METRICS = ("log_loss", "auc", "brier_skill", "precision", "recall")
"""Figures of the test year that the card has, in this order."""
TASK = "time-series-forecasting"
CARD = """\
# PatchTST {cell}

{n_params:,} parameters. The sigmoid of its logit is the probability that, within {ahead}
session(s), the {event}. Trained on daily bars of {series} with the study
patchscale, whose model card says how and with which limits. Not investment advice.

| test year | figure | 95 % interval |
|---|---|---|
{rows}

The figures are of the mean of {judged} seed(s); {here} of them {verb} here: {files}. Read the
log-loss beside that of the bar, a logistic regression on the volatility of the last day, week and
month (HAR), which is {bar}.

```python
import json

import torch
from safetensors.torch import load_file

from patchscale.model.patchtst import PatchTST, PatchTSTConfig

config = json.load(open("config.json"))
model = PatchTST(PatchTSTConfig(**config["shape"])).eval()
model.load_state_dict(load_file("model.safetensors"))
window = torch.zeros(1, config["shape"]["context_length"], config["shape"]["n_features"])
print(torch.sigmoid(model(window)))
```

The window holds the last sessions, newest last, and a column for each of `features` in config.json.
With `normalisation` `kind`, a feature of kind `level` is standardised with mean and standard
deviation of its window, a `stationary` one with the `mean` and `std` beside it, which are of the
training days.
"""


def export(params: Params, cell: str, folder: Path, root: Path = Path()) -> list[Path]:
    """Write a cell's published seeds, config.json and README.md; return the files.

    Raises
    ------
    InputError
        There is no such cell, its weights are not published or not here, or the folder is not
        empty.
    """
    if cell not in params.cells or params.cells[cell].budget not in params.publish:
        allowed = [name for name, row in params.cells.items() if row.budget in params.publish]
        raise InputError(f"{shown(cell)} has no published weights; allowed: {', '.join(allowed)}")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"--to: {folder} is not empty; a new folder is needed")
    seeds = range(params.publish[params.cells[cell].budget])
    weights = [weights_of(params, cell, seed, root) for seed in seeds]
    names = ["model.safetensors", *(f"seed{seed}.safetensors" for seed in seeds[1:])]
    texts = config(params, cell, root), card(params, cell, names, root)
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in zip(weights, names, strict=True):
        shutil.copyfile(source, folder / name)
    write_json(folder / "config.json", texts[0])
    write_text(folder / "README.md", texts[1])
    return [folder / name for name in (*names, "config.json", "README.md")]


def config(params: Params, cell: str, root: Path) -> dict[str, Any]:
    """Return what config.json holds: shape, features with their statistics, target."""
    horizon = params.cells[cell].horizon
    split = read_split(root / paths.split(horizon), labels_of={"train"})
    table, kinds = read_features(params.features.tier, split["date"], root)
    days = split.loc[split["subset"] == "train", "date"]
    train = table.loc[table["date"].isin(days), list(kinds)].to_numpy(dtype=float)
    statistics = zip(kinds.items(), train.mean(axis=0), train.std(axis=0), strict=True)
    return {
        "model_type": "patchtst-mixing",
        "cell": cell,
        "shape": asdict(shape_of_cell(params, cell, root)),
        "normalisation": params.window.normalisation,
        "features": [
            {"name": name, "kind": kind, "mean": float(mean), "std": float(std)}
            for (name, kind), mean, std in statistics
        ],
        "horizon": params.horizons[horizon],
        "target": params.target.model_dump(),
        "trained_to": f"{days.iloc[-1]:%Y-%m-%d}",
    }


def card(params: Params, cell: str, names: list[str], root: Path) -> str:
    """Return README.md: front matter of the Hub, figures of the test year, and how to load."""
    facts = read_card(params, cell, root)
    test = read_json(root / paths.backtest_metrics(cell), "test")["test"]
    bars = read_json(root / paths.baseline_metrics(params.cells[cell].horizon), BENCHMARK)
    found = {name: test[name] for name in METRICS if test.get(name) is not None}
    result = {
        "task": {"type": TASK},
        "dataset": {"name": params.data.series, "type": params.dataset, "split": "test"},
        "metrics": [{"type": name, "value": value} for name, value in found.items()],
    }
    front = {
        "license": "mit",
        "library_name": "pytorch",
        "pipeline_tag": TASK,
        "tags": ["patchtst", "time-series", "finance", "scaling", "safetensors"],
        "metrics": list(found),
        "model-index": [{"name": f"patchscale-{cell}", "results": [result]}],
    }
    target = params.target
    rows = []
    for name, value in found.items():
        low, high = (test.get(f"{name}_{end}") for end in ("low", "high"))
        interval = "undefined" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        rows.append(f"| {name} | {value:.4f} | {interval} |")
    body = CARD.format(
        cell=cell,
        n_params=shape_of_cell(params, cell, root).n_params,
        ahead=params.horizons[params.cells[cell].horizon],
        event=f"{target.price} reaches the last close {target.sign * target.theta:+.1%}",
        series=params.data.series,
        rows="\n".join(rows),
        judged=len(facts["replicates"]),
        here=len(names),
        verb="is" if len(names) == 1 else "are",
        files=", ".join(names),
        bar=f"{bars[BENCHMARK]['test']['log_loss']:.4f}",
    )
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n{body}"
