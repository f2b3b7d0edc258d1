"""Train the replicates of a cell; write its probabilities, curves, card and figures.

Labels of test dates are never loaded here. A cell whose budget is not trained (study.train)
leaves outputs that say so.
"""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from patchscale import config, paths
from patchscale.cell import read_inputs
from patchscale.checkpoint import Checkpoint, fingerprint, load_model, resume_path, save_weights
from patchscale.engine import log_loss, settings_for
from patchscale.files import digest, read_json, write_arrow, write_csv, write_json
from patchscale.model import predict
from patchscale.replica import Replica, train_replicas
from patchscale.stage import max_hours, run
from patchscale.stopping import exclusive
from patchscale.tracking import Run, tracking
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
    processes, first, train_all = params.train.processes[budget], True, train_replicas
    if processes > 1:
        from patchscale.processes import launch, rank, size
        from patchscale.sharded import train_sharded

        if size() == 1:
            sys.exit(launch(processes))
        first, train_all = rank() == 0, train_sharded
    limit = max_hours()
    inputs = read_inputs(params, cell, best)
    settings = settings_for(best, params.train, budget, len(inputs.train.rows))
    threads, seeds = params.train.threads[budget], params.train.seeds[budget]
    facts = {
        "shape": asdict(inputs.shape),
        "settings": asdict(settings),
        "normalisation": params.model.normalisation,
        "threads": threads,
        "torch": torch.__version__.split("+")[0],
        **({"processes": processes} if processes > 1 else {}),
    }
    tier = params.features.tier
    sources = [paths.features(tier), paths.split(horizon)]
    identity = fingerprint(facts, sources + [Path(f"src/patchscale/{name}.py") for name in CODE])
    described = {
        "n_params": best.n_params,
        "dataset": params.dataset,
        "data_as_of": f"{inputs.as_of:%Y-%m-%d}",
        "features": read_json(paths.kinds(tier)),
        **facts,
    }
    data = {path.stem: digest(path) for path in sources}
    shown = described | {"data": data}
    replicas = []
    for seed in range(seeds):
        tracked = Run(cell, seed, identity, shown, **params.tracking.model_dump())
        replicas.append(
            Replica(
                f"{cell} seed {seed}",
                inputs,
                settings,
                seed,
                Checkpoint(resume_path(f"{cell}-seed{seed}-{identity}")),
                threads,
                max_hours=limit,
                track=partial(tracking, paths.live(cell, seed), tracked),
            )
        )
    with exclusive(resume_path(f"{cell}.lock")) if first else nullcontext():
        trained = train_all(replicas, cell)
        if not first:
            return
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


if __name__ == "__main__":
    run(main)
