"""A study of random bars for walks forward: its tables, parameters and test years."""

from pathlib import Path

import pandas as pd
from conftest import ROOT, random_bars

from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import WARM_UP, tier_features
from patchscale.split.dates import make_split
from patchscale.split.labels import touch_labels
from patchscale.study import paths
from patchscale.study.files import write_arrow, write_json
from patchscale.study.params import Best, Params, load_params

BARS = random_bars(2400, seed=3)
"""Bars from 2000 to the middle of March 2009."""
YEAR = 2006
"""A test year with years after it."""
HORIZONS = {"h1": 1, "h5": 5}
TIER = "a20"
BEST = Best(
    cell="2M-h1",
    trial=0,
    n_params=1,
    d_model=8,
    n_layers=1,
    n_heads=2,
    d_ff=8,
    lr=0.01,
    dropout=0.1,
    weight_decay=0.0,
    epochs=1,
)


def walk_params() -> Params:
    """Return the study's parameters with the period of the bars and test years 2006 and 2008."""
    raw = load_params(ROOT).model_dump()
    dates = {"start": "2000-01-03", "end": f"{BARS['date'].iloc[-1]:%Y-%m-%d}"}
    dates |= {"validation_from": "2006-01-02", "test_from": "2008-01-02"}
    raw["datasets"][raw["dataset"]] |= dates | {"walk": {"first": 2004, "last": 2008}}
    raw["walk"] = {"years": [YEAR, 2008]}
    raw["horizons"] = HORIZONS
    return Params.model_validate(raw).with_grid(load_params(ROOT).grid)


def write_tables(root: Path, bars: pd.DataFrame, params: Params) -> None:
    """Write the features and the split of every horizon, as their stages would."""
    features = drop_warm_up(compute_tier(bars, TIER))
    write_arrow(root / paths.features(TIER), features)
    kinds = {feature.name: feature.kind for feature in tier_features(TIER)}
    write_json(root / paths.kinds(TIER), kinds)
    for name, ahead in params.horizons.items():
        labels = touch_labels(bars, params.target, ahead)
        first = WARM_UP + params.split.longest_context - 1
        chosen = labels.notna() & (labels.index >= first)
        table = make_split(bars["date"][chosen], labels[chosen], params.data, params.split, ahead)
        write_arrow(root / paths.split(name), table)
