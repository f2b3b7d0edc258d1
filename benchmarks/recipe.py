"""Measure what the recipe of training promises, on validation days only; no test label is read.

    python3 dev.py -- python benchmarks/recipe.py table
    python3 dev.py -- python benchmarks/recipe.py sweep 20K 200K 2M 20M
    python3 dev.py -- python benchmarks/recipe.py ablation 2M 20M

`table` reads the published cards and curves, and makes four steps of every trained cell. `sweep`
trains each budget at h1, h3, h5 with rates in steps of two, on the blocks of the search.
`ablation` takes one element of the recipe away at a time, on the validation years. A
line of JSON is printed for every mean of seeds. All read data/ of the working folder.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTST
from patchscale.model.size import count_params, input_size, solve_d_ff
from patchscale.split.table import Division, read_split
from patchscale.study import paths
from patchscale.study.files import read_csv, read_json
from patchscale.study.params import Best, Params, load_params
from patchscale.study.tables import read_features
from patchscale.train import engine as engines
from patchscale.train.callbacks import Callbacks
from patchscale.train.device import prepare
from patchscale.train.engine import Engine
from patchscale.train.inputs import Inputs, assemble, read_inputs
from patchscale.train.loop import train
from patchscale.train.optim import allocate_moments
from patchscale.train.schedule import epoch_batches
from patchscale.train.settings import Settings, settings_for, settings_of

HORIZONS = ("h1", "h3", "h5")
RATES = [0.0005 * 2**k for k in range(6)]
SCALE = ("log_atr_pct", "log_rv_21d")


class Silent(Callbacks):
    """Callbacks that report nothing."""

    def report(self, line: str) -> None:
        """Drop the line."""


class Nothing:
    """A checkpoint that keeps nothing."""

    def load(self, *_: object) -> None:
        """Return that there is no earlier state."""

    def save(self, *_: object) -> None:
        """Keep nothing."""

    def save_best(self, *_: object) -> dict[str, str]:
        """Keep nothing."""
        return {}


def entropy(share: float) -> float:
    """Return the log-loss of forecasting the share itself, nats."""
    return -(share * math.log(share) + (1 - share) * math.log(1 - share))


def moved(inputs: Inputs, settings: Settings, steps: int = 4) -> float:
    """Return the largest rms change of 256 logits in one of the first steps at the peak rate."""
    engine = Engine(inputs, replace(settings, compiled=False), 0)
    batches = epoch_batches(len(inputs.train.rows), settings.batch_size, 0, 0)
    looked = inputs.windows(inputs.train.rows[:256])

    def logits() -> Tensor:
        engine.model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found: Tensor = engine.model(looked).float()
        engine.model.train()
        return found

    seen = [logits()]
    for batch in batches[:steps]:
        engine.step(batch, settings.lr)
        seen.append(logits())
    return max(float((b - a).square().mean().sqrt()) for a, b in pairwise(seen))


def table(params: Params, largest: int) -> None:
    """Print a row for every trained cell."""
    head = "cell      kept of epochs  below neighbours  train 1st - entropy  one step  val, single"
    print(head)
    losses: dict[str, list[float]] = {}
    for cell, row in params.cells.items():
        card = read_json(paths.card(cell), "trained")
        if not card["trained"]:
            continue
        best = settings_of(params, cell)
        inputs = read_inputs(params, cell, best)
        run = params.budgets[row.budget].run
        settings = settings_for(best, params.train, run.precision, len(inputs.train.rows))
        curves = read_csv(paths.plot("curves", cell))
        gap, start = [], []
        for replica in card["replicates"]:
            curve = curves[curves["seed"] == replica["seed"]].set_index("epoch")
            kept = replica["kept_epoch"]
            near = [e for e in range(kept - 2, kept + 3) if e in curve.index and e != kept]
            others = curve["val_log_loss"].loc[near]
            gap.append(others.mean() - curve["val_log_loss"].loc[kept])
            first = curve["train_log_loss"].iloc[0]
            start.append(first - entropy(float(inputs.train.labels.mean())))
        single = [replica["val_log_loss"] for replica in card["replicates"]]
        losses.setdefault(row.budget, []).append(statistics.mean(single))
        kept_of = {f"{r['kept_epoch']}/{settings.epochs}" for r in card["replicates"]}
        step = f"{moved(inputs, settings):8.2f}" if best.n_params <= largest else " " * 8
        print(
            f"{cell:<10}{', '.join(sorted(kept_of)):>14}{statistics.mean(gap):>18.4f}"
            f"{max(start):>21.4f}{step:>10}{statistics.mean(single):>13.4f}",
            flush=True,
        )
    for budget, each in losses.items():
        print(f"{budget:<5} mean over {len(each)} horizons: {statistics.mean(each):.4f}")


def inputs_of(params: Params, cell: str, best: Best, division: Division, tier: list[str]) -> Inputs:
    """Return the inputs of a cell with some of the tier's features."""
    horizon = params.cells[cell].horizon
    split = read_split(paths.split(horizon), labels_of={"train", "val"}, division=division)
    features, kinds = read_features(params.features.tier, split["date"])
    return assemble(features, {name: kinds[name] for name in tier}, split, params.window, best)


def losses(
    params: Params,
    cell: str,
    best: Best,
    division: Division,
    tier: list[str],
    seeds: int,
    **settings: Any,
) -> list[float]:
    """Return each seed's validation log-loss, of its end or, with patience, of its best epoch."""
    inputs = inputs_of(params, cell, best, division, tier)
    run = params.budgets[params.cells[cell].budget].run
    chosen = settings_for(best, params.train, run.precision, len(inputs.train.rows))
    chosen = replace(chosen, **settings)
    prepare(chosen.device, run.threads, chosen.compiled)
    found = []
    for seed in range(seeds):
        trained = train(inputs, chosen, seed, Nothing(), callbacks=Silent())
        found.append(trained.history[trained.kept_epoch - 1]["val_log_loss"])
    return found


def say(**row: Any) -> None:
    """Print a row as JSON, its losses as a mean with the spread of the seeds."""
    each = row.pop("losses")
    row["loss"] = round(statistics.mean(each), 4)
    row["seeds_sd"] = round(statistics.stdev(each), 4) if len(each) > 1 else None
    print(json.dumps(row), flush=True)


def sweep(params: Params, budgets: list[str], seeds: int) -> None:
    """Print the loss of every rate, budget and horizon, on the blocks of the search."""
    for budget in budgets:
        for horizon in HORIZONS:
            cell = f"{budget}-{horizon}"
            best = settings_of(params, cell)
            tier = list(read_json(paths.kinds(params.features.tier)))
            for rate in RATES:
                each = losses(params, cell, best, "scattered", tier, seeds, lr=rate)
                say(sweep=cell, rate=rate, losses=each)


@contextmanager
def first_version() -> Iterator[None]:
    """Draw weights with 0.02 and train all of them with one rate, as version 0.6.0 did."""

    def initialise(model: PatchTST, base_rate: float = 0.5) -> None:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(model.positions, std=0.02)
        for layer in model.layers:
            layer.share = 1.0  # type: ignore[assignment]

    def optimizer(model: PatchTST, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        group = {"params": list(model.parameters()), "share": 1.0}
        made = torch.optim.AdamW([group], lr=lr, weight_decay=weight_decay, fused=True)
        allocate_moments(made)
        return made

    with (
        patch.object(PatchTST, "initialise", initialise),
        patch.object(engines, "make_optimizer", optimizer),
    ):
        yield


def ablation(params: Params, cell: str, seeds: int) -> None:
    """Print the loss of the recipe and of the recipe without each of its elements."""
    row, window = params.cells[cell], params.window
    budget = params.budgets[row.budget]
    everything = list(read_json(paths.kinds(params.features.tier)))
    blind = [name for name in everything if name not in SCALE]
    best = settings_of(params, cell)

    def shaped(d_model: int, n_layers: int, n_heads: int, features: int) -> Best:
        size = input_size(window, features) | {"d_model": d_model, "n_layers": n_layers}
        d_ff = solve_d_ff(budget.n_params, **size)
        found = {"n_heads": n_heads, "d_ff": d_ff, "n_params": count_params(**size, d_ff=d_ff)}
        return best.model_copy(update=size | found)

    def loss(best: Best, tier: list[str] = everything, **settings: Any) -> list[float]:
        return losses(params, cell, best, "contiguous", tier, seeds, **settings)

    def as_before() -> list[float]:
        with first_version():
            return loss(best, lr=budget.start.lr)

    of_table = shaped(row.d_model, row.n_layers, row.n_heads, len(everything))
    variants: dict[str, Callable[[], list[float]]] = {
        "recipe": lambda: loss(best),
        "without volatility": lambda: loss(
            shaped(best.d_model, best.n_layers, best.n_heads, len(blind)), blind
        ),
        "normal 0.02, one rate": as_before,
        "best of 50 epochs, patience 10": lambda: loss(best, epochs=50, patience=10),
        "shape of the table": lambda: loss(of_table),
    }
    for name, measure in variants.items():
        begun = time.perf_counter()
        each = measure()
        say(ablation=cell, variant=name, losses=each, seconds=round(time.perf_counter() - begun))


def main() -> None:
    """Run one of the three measurements."""
    parser = argparse.ArgumentParser(description="Measure what the recipe promises.")
    parser.add_argument("what", choices=("table", "sweep", "ablation"))
    parser.add_argument("budgets", nargs="*", default=["2M", "20M"])
    parser.add_argument("--largest", type=float, default=3e8, help="parameters of a measured step")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of a sweep or an ablation")
    words = parser.parse_args()
    params = load_params()
    torch.set_num_threads(1)
    if words.what == "table":
        table(params, int(words.largest))
    elif words.what == "sweep":
        sweep(params, words.budgets, words.seeds)
    else:
        for budget in words.budgets:
            for horizon in HORIZONS:
                ablation(params, f"{budget}-{horizon}", words.seeds)


if __name__ == "__main__":
    main()
