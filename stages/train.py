"""Train the replicates of a cell; write its probabilities, curves, card and figures.

Labels of test dates are never loaded here. A cell whose budget is not trained (study.train)
leaves outputs that say so.
"""

import math
import os
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from patchscale import config, paths
from patchscale.cell import assemble
from patchscale.checkpoint import Checkpoint, fingerprint, load_model, resume_path, save_weights
from patchscale.engine import device_of_this_machine, log_loss, worth_compiling
from patchscale.errors import InputError
from patchscale.files import digest, read_arrow, read_json, write_arrow, write_csv, write_json
from patchscale.model import predict
from patchscale.replica import Replica, train_replicas
from patchscale.schedule import Settings
from patchscale.splits import read_split
from patchscale.stage import run
from patchscale.stopping import exclusive
from patchscale.tracking import Run
from patchscale.train import Trained

CODE = ("cell", "engine", "memory", "model", "optim", "schedule", "train", "windows")


def main(cell: str) -> None:
    params = config.load_params(paths.PARAMS)
    budget, horizon = config.split_cell(cell)
    best = config.load_best(paths.best(params.cells[cell].search))
    if not params.study.train[budget]:
        write_absent(cell, best)
        print(
            f"{cell}: not trained (study.train.{budget}: false); to train it: "
            f"dvc exp run -S 'study.train={{{budget}: true}}' train@{cell}",
            file=sys.stderr,
        )
        return
    limit = max_hours()
    tier = params.features.tier
    table, kinds = read_arrow(paths.features(tier)), read_json(paths.kinds(tier))
    split = read_split(paths.split(horizon), labels_of={"train", "val"})
    inputs = assemble(table, kinds, split, params.model, best)
    device = device_of_this_machine()
    steps = best.epochs * math.ceil(len(inputs.train.rows) / params.train.batch_size)
    settings = Settings(
        **best.model_dump(include={"lr", "weight_decay", "warmup_steps", "epochs"}),
        **params.train.model_dump(include={"batch_size", "patience", "min_delta", "clip"}),
        precision=params.train.precision[budget],
        device=device,
        compiled=worth_compiling(steps, device),
    )
    threads, seeds = params.train.threads[budget], params.train.seeds[budget]
    facts = {
        "shape": asdict(inputs.shape),
        "settings": asdict(settings),
        "normalisation": params.model.normalisation,
        "threads": threads,
        "torch": torch.__version__.split("+")[0],
    }
    sources = [paths.features(tier), paths.split(horizon)]
    identity = fingerprint(facts, sources + [Path(f"src/patchscale/{name}.py") for name in CODE])
    described = {
        "n_params": best.n_params,
        "dataset": params.dataset,
        "data_as_of": f"{table['date'].iloc[-1]:%Y-%m-%d}",
        "features": kinds,
        **facts,
    }
    data = {path.stem: digest(path) for path in sources}
    replicas = [
        Replica(
            inputs,
            settings,
            Run(cell, seed, identity, described | {"data": data}, **params.tracking.model_dump()),
            Checkpoint(resume_path(f"{cell}-seed{seed}-{identity}")),
            paths.live(cell, seed),
            threads,
            limit,
        )
        for seed in range(seeds)
    ]
    with exclusive(resume_path(f"{cell}.lock")):
        trained = train_replicas(replicas)
        torch.set_num_threads(threads)
        probabilities = {}
        for seed, replica in enumerate(replicas):
            weights = paths.weights(cell, seed)
            save_weights(weights, replica.checkpoint.best())
            model = load_model(weights, inputs.shape)
            p = predict(model, inputs.windows, inputs.judged_rows).double()
            probabilities[f"p_seed{seed}"] = p.numpy()
        mean = pd.DataFrame(probabilities, index=inputs.judged.index)
        predictions = pd.concat([inputs.judged, mean.mean(axis=1).rename("p"), mean], axis=1)
        write_arrow(paths.predictions(cell), predictions)
        curves = pd.concat(curve(seed, each) for seed, each in enumerate(trained))
        write_csv(paths.plot("curves", cell), curves)
        rows = [replicate(cell, seed, each) for seed, each in enumerate(trained)]
        write_json(
            paths.card(cell), {"cell": cell, "trained": True, "replicates": rows} | described
        )
        is_val = (predictions["subset"] == "val").to_numpy()
        logits = torch.logit(torch.from_numpy(predictions["p"].to_numpy()[is_val]))
        write_json(
            paths.train_metrics(cell),
            {
                "trained": True,
                "n_params": best.n_params,
                "budget_ratio": best.n_params / params.budgets[budget].n_params,
                "seeds": seeds,
                "best_epoch": sum(each.best_epoch for each in trained) / seeds,
                "val": {
                    "log_loss": log_loss(logits, inputs.val.labels),
                    "n": len(inputs.val.labels),
                    "positives": int(inputs.val.labels.sum()),
                },
            },
        )
        for replica in replicas:
            replica.checkpoint.discard()


def replicate(cell: str, seed: int, trained: Trained) -> dict[str, float | int | str | bool]:
    weights = paths.weights(cell, seed)
    return {
        "seed": seed,
        "best_epoch": trained.best_epoch,
        "val_log_loss": trained.history[trained.best_epoch - 1]["val_log_loss"],
        "micro_batch": trained.plan.micro_batch,
        "recompute": trained.plan.recompute,
        "sha256": digest(weights),
        "bytes": weights.stat().st_size,
    }


def curve(seed: int, trained: Trained) -> pd.DataFrame:
    history = pd.DataFrame(trained.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.insert(0, "seed", seed)
    return history


def write_absent(cell: str, best: config.Best) -> None:
    """Write the outputs of a cell that is not trained."""
    fact = {"trained": False, "n_params": best.n_params}
    write_json(paths.card(cell), {"cell": cell, **fact})
    write_json(paths.train_metrics(cell), fact)
    columns = ["seed", "epoch", "train_log_loss", "val_log_loss"]
    write_csv(paths.plot("curves", cell), pd.DataFrame(columns=columns))
    nothing = {"date": "datetime64[ns]", "subset": "str", "p": "float64"}
    write_arrow(
        paths.predictions(cell),
        pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in nothing.items()}),
    )


def max_hours() -> float:
    """Return the longest training that may start, from the environment."""
    text = os.environ.get("PATCHSCALE_MAX_HOURS", "2")
    try:
        hours = float(text)
    except ValueError:
        hours = float("nan")
    if not hours > 0:
        raise InputError(
            f"PATCHSCALE_MAX_HOURS: {text!r} is not allowed; a positive number of hours is needed"
        )
    return hours


if __name__ == "__main__":
    run(main)
