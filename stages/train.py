"""Train the replicates of a cell; write its probabilities, curves, card and figures.

Labels of test dates are never loaded here. A cell whose budget is not trained (study.train)
leaves outputs that say so.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from patchscale import config, paths
from patchscale.cell import assemble
from patchscale.checkpoint import fingerprint, load_weights, resume_path, save_weights
from patchscale.errors import InputError
from patchscale.files import digest, read_arrow, read_json, write_arrow, write_csv, write_json
from patchscale.splits import read_split
from patchscale.stage import run
from patchscale.train import Settings, Trained, log_loss, predict, refuse_if_large, train

CODE = ("cell", "model", "windows", "train")


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
    refuse_if_large(best.n_params)
    torch.set_num_threads(params.train.threads)
    torch.use_deterministic_algorithms(True)

    tier = params.features.tier
    table, kinds = read_arrow(paths.features(tier)), read_json(paths.kinds(tier))
    split = read_split(paths.split(horizon), labels_of={"train", "val"})
    inputs = assemble(table, kinds, split, params.model, best)
    settings = Settings(
        **best.model_dump(include={"lr", "weight_decay", "warmup_steps", "epochs"}),
        **params.train.model_dump(include={"batch_size", "patience", "min_delta", "clip"}),
    )
    facts = {
        "shape": asdict(inputs.shape),
        "settings": asdict(settings),
        "normalisation": params.model.normalisation,
        "threads": params.train.threads,
        "torch": torch.__version__.split("+")[0],
        "device": "cpu",
        "precision": "float32",
    }
    sources = [paths.features(tier), paths.split(horizon)]
    sources += [Path(f"src/patchscale/{module}.py") for module in CODE]
    name = f"{cell}-{fingerprint(facts, sources)}"
    states = [resume_path(f"{name}-seed{seed}") for seed in range(params.train.seeds)]

    replicates, probabilities = [], {}
    for seed, state in enumerate(states):
        print(f"{cell} seed {seed}: {best.n_params:,} parameters", file=sys.stderr)
        trained = train(inputs, settings, seed, state, max_hours=limit)
        save_weights(paths.weights(cell, seed), trained.model.state_dict())
        trained.model.load_state_dict(load_weights(paths.weights(cell, seed)))
        probability = predict(trained.model, inputs.windows, inputs.judged_rows).double()
        probabilities[f"p_seed{seed}"] = probability.numpy()
        replicates.append(trained)
    seeds = pd.DataFrame(probabilities, index=inputs.judged.index)
    predictions = pd.concat([inputs.judged, seeds.mean(axis=1).rename("p"), seeds], axis=1)
    write_arrow(paths.predictions(cell), predictions)
    write_csv(paths.plot("curves", cell), pd.concat(curve(k, t) for k, t in enumerate(replicates)))
    write_json(
        paths.card(cell),
        {
            "cell": cell,
            "trained": True,
            "n_params": best.n_params,
            "dataset": params.dataset,
            "data_as_of": f"{table['date'].iloc[-1]:%Y-%m-%d}",
            "features": kinds,
            "replicates": [replicate(cell, k, trained) for k, trained in enumerate(replicates)],
            **facts,
        },
    )
    is_val = (predictions["subset"] == "val").to_numpy()
    logits = torch.logit(torch.from_numpy(predictions["p"].to_numpy()[is_val]))
    epochs = [trained.best_epoch for trained in replicates]
    write_json(
        paths.train_metrics(cell),
        {
            "trained": True,
            "n_params": best.n_params,
            "budget_ratio": best.n_params / params.budgets[budget].n_params,
            "seeds": params.train.seeds,
            "best_epoch": sum(epochs) / len(epochs),
            "val": {
                "log_loss": log_loss(logits, inputs.val.labels),
                "n": len(inputs.val.labels),
                "positives": int(inputs.val.labels.sum()),
            },
        },
    )
    for state in states:
        state.unlink(missing_ok=True)


def replicate(cell: str, seed: int, trained: Trained) -> dict[str, float | int | str]:
    weights = paths.weights(cell, seed)
    return {
        "seed": seed,
        "best_epoch": trained.best_epoch,
        "val_log_loss": trained.history[trained.best_epoch - 1]["val_log_loss"],
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
