"""A study of random bars with tiny models that were never trained, without git and DVC."""

from pathlib import Path

import pandas as pd
import torch
import yaml
from conftest import ROOT, random_bars
from toy import toy_grid, toy_params

from patchscale.bars import PRICES, canonical_csv, forward_adjust
from patchscale.download.calendar import exchange_sessions
from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import WARM_UP, tier_features
from patchscale.model.size import count_params, solve_d_ff
from patchscale.model.weights import build, save_weights
from patchscale.split.dates import make_split
from patchscale.split.labels import touch_labels
from patchscale.study import paths
from patchscale.study.files import digest, write_arrow, write_csv, write_json, write_text
from patchscale.study.params import load_best, load_params
from patchscale.train.inputs import shape_of

SEEDS = 2
CALIBRATION = pd.DataFrame(
    {
        "predicted": [0.1, 0.4, 0.8],
        "observed": [0.2, 0.5, 0.7],
        "observed_low": [0.1, 0.4, 0.6],
        "observed_high": [0.3, 0.6, 0.8],
        "n": [25, 26, 27],
    }
)


def forecast_study(folder: Path) -> Path:
    """Write the files that `predict` reads into a folder: data to 2012, models of two horizons."""
    raw = toy_params({"1K": 6320})
    raw["budgets"]["1K"] |= {"settings": "table"}
    raw["publish"] = {"1K": SEEDS}
    grid = toy_grid(raw)
    for name, content in (("params", raw), ("grid", grid)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "space.yaml").write_text((ROOT / "space.yaml").read_text())
    params = load_params(folder)
    data, tier = params.data, params.features.tier
    days = exchange_sessions(data)
    bars = random_bars(len(days)).round({name: 2 for name in PRICES}).assign(date=days)
    write_text(folder / paths.raw("gspc", data.series), canonical_csv(bars))
    adjusted = forward_adjust(bars)
    write_arrow(folder / paths.features(tier), drop_warm_up(compute_tier(adjusted, tier)))
    kinds = {feature.name: feature.kind for feature in tier_features(tier)}
    write_json(folder / paths.kinds(tier), kinds)
    for horizon, ahead in params.horizons.items():
        labels = touch_labels(adjusted, params.target, ahead)
        usable = labels.notna() & (labels.index >= WARM_UP + params.split.longest_context - 1)
        split = make_split(adjusted.loc[usable, "date"], labels[usable], data, params.split, ahead)
        write_arrow(folder / paths.split(horizon), split)
    _write_search(folder, grid["cells"]["1K-h1"], len(kinds))
    shape = shape_of(load_best(params, "1K-h1", folder), params.window, len(kinds))
    for cell in params.cells:
        rows = []
        for seed in range(SEEDS):
            model = build(shape, "32-true", seed, base_rate=0.3)
            torch.nn.init.normal_(model.head.weight, std=0.1)  # else every forecast is 0.3
            path = folder / paths.published_weights(cell, seed)
            save_weights(path, model.state_dict())
            rows.append({"seed": seed, "sha256": digest(path)})
        facts = {"trained": True, "dataset": "gspc", "replicates": rows}
        write_json(folder / paths.card(cell), facts)
        write_json(folder / paths.backtest_metrics(cell), {"test": {"log_loss": 0.5}})
        write_csv(folder / paths.plot("calibration", cell), CALIBRATION)
    for horizon in params.horizons:
        bar = {"har_logistic": {"test": {"log_loss": 0.4 if horizon == "h1" else 0.6}}}
        write_json(folder / paths.baseline_metrics(horizon), bar)
        write_csv(folder / paths.plot("calibration", f"bar-{horizon}"), CALIBRATION)
    return folder


def _write_search(folder: Path, row: dict[str, int], n_features: int) -> None:
    """Write data/hpo/1K-h1/best.yaml as a search without trials does."""
    params = load_params(folder)
    window = params.window
    shape = {
        "n_features": n_features,
        "patch_length": window.patch_length,
        "n_patches": window.n_patches,
        "d_model": row["d_model"],
        "n_layers": row["n_layers"],
    }
    d_ff = solve_d_ff(params.budgets["1K"].n_params, **shape)
    best = {
        "cell": "1K-h1",
        "trial": 0,
        "n_params": count_params(**shape, d_ff=d_ff),
        "d_ff": d_ff,
        **{name: row[name] for name in ("d_model", "n_layers", "n_heads")},
        **params.budgets["1K"].start.model_dump(),
    }
    write_text(folder / paths.best("1K-h1"), yaml.safe_dump(best))
