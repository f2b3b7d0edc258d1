"""Train the replicates of a cell; write its probabilities, curves, card and figures.

Labels of test dates are never loaded here. A cell that is not trained leaves outputs that say so.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd
import torch

from patchscale.model.patchtst import predict
from patchscale.model.weights import load_model, save_weights
from patchscale.runtime.checkpoint import Checkpoint, fingerprint, resume_path
from patchscale.runtime.lockfile import file_lock
from patchscale.runtime.pool import train_replicas
from patchscale.runtime.replica import Replica
from patchscale.runtime.tracking import Run, trackers, tracking
from patchscale.study import paths
from patchscale.study.files import digest, write_arrow, write_csv, write_json
from patchscale.study.params import Best, Cell, Params, load_params
from patchscale.study.stage import code_of, max_hours, run
from patchscale.study.tables import read_kinds
from patchscale.train.engine import log_loss
from patchscale.train.inputs import Inputs, read_inputs
from patchscale.train.loop import Trained
from patchscale.train.settings import origin_of, settings_for, settings_of

TrainAll = Callable[[list[Replica], str], list[Trained]]


def main(cell: str) -> None:
    """Train the cell, or write that it is not trained."""
    params = load_params()
    row = params.cells[cell]
    best = settings_of(params, cell)
    if not params.budgets[row.budget].trained[row.horizon]:
        write_absent(cell, row, best)
        return
    train_all, is_first = processes(params.budgets[row.budget].run.processes)
    inputs = read_inputs(params, cell, best)
    replicas, card = plan(params, cell, best, inputs)
    if is_first:
        print(described(params, cell, best, replicas), file=sys.stderr)
    with file_lock(resume_path(f"{cell}.lock")) if is_first else nullcontext():
        trained = train_all(replicas, cell)
        if is_first:
            write_results(params, cell, card, replicas, trained)
            for replica in replicas:
                replica.checkpoint.discard()


def processes(number: int) -> tuple[TrainAll, bool]:
    """Return what trains replicates, and whether this process is the first of its kind.

    With several processes a replicate, this one starts them and ends with their exit code.
    """
    if number == 1:
        return train_replicas, True
    from patchscale.runtime.processes import launch, train_sharded
    from patchscale.train.sharded import rank, size

    if size() == 1:
        sys.exit(launch(number))
    return train_sharded, rank() == 0


def plan(
    params: Params, cell: str, best: Best, inputs: Inputs
) -> tuple[list[Replica], dict[str, Any]]:
    """Return the replicates of a cell, and what its card says of all of them."""
    row, tier = params.cells[cell], params.features.tier
    rules = params.budgets[row.budget].run
    samples = len(inputs.train.rows)
    settings = settings_for(best, params.train, rules.precision, samples, rules.processes)
    facts = {
        "shape": asdict(inputs.shape),
        "settings": asdict(settings),
        "normalisation": params.window.normalisation,
        "threads": rules.threads,
        "torch": torch.__version__.split("+")[0],
        **({"processes": rules.processes} if rules.processes > 1 else {}),
    }
    sources = [paths.features(tier), paths.split(row.horizon)]
    identity = fingerprint(facts, sources + code_of("train"))
    card = {
        "n_params": best.n_params,
        "settings_from": origin_of(params, cell, best),
        "dataset": params.dataset,
        "data_as_of": f"{inputs.as_of:%Y-%m-%d}",
        "features": read_kinds(paths.kinds(tier)),
        **facts,
    }
    shown = card | {"data": {path.stem: digest(path) for path in sources}}
    replicas = [
        Replica(
            f"{cell} seed {seed}",
            inputs,
            settings,
            seed,
            Checkpoint(resume_path(f"{cell}-seed{seed}-{identity}")),
            rules.threads,
            max_hours=max_hours(),
            track=partial(
                tracking,
                paths.live(cell, seed),
                Run(cell, seed, identity, shown, **trackers()),
            ),
        )
        for seed in range(rules.seeds)
    ]
    return replicas, card


def described(params: Params, cell: str, best: Best, replicas: list[Replica]) -> str:
    """Return in one line where a cell's settings come from, and the schedule that follows."""
    settings = replicas[0].settings
    how = "of the table" if best.score is None else f"of trial {best.trial} of a search"
    if params.cells[best.cell].budget != params.cells[cell].budget:
        how += f", transferred from {best.cell}"
    return (
        f"{cell}: settings {how}; {settings.epochs} epochs, {replicas[0].steps} steps of "
        f"{settings.batch_size}, rate {settings.lr:.2g} after {settings.warmup:.0%} of them, then "
        f"down to 0; dropout {best.dropout:.2g}, decay {settings.weight_decay:.2g}; "
        f"{len(replicas)} seeds"
    )


def write_results(
    params: Params,
    cell: str,
    card: dict[str, Any],
    replicas: list[Replica],
    trained: list[Trained],
) -> None:
    """Write weights, probabilities, curves, card and figures of a trained cell."""
    inputs = replicas[0].inputs
    torch.set_num_threads(replicas[0].threads)
    of_seeds = {f"p_seed{each.seed}": probabilities(cell, each) for each in replicas}
    seeds = pd.DataFrame(of_seeds, index=inputs.judged.index)
    predictions = pd.concat([inputs.judged, seeds.mean(axis=1).rename("p"), seeds], axis=1)
    write_arrow(paths.predictions(cell), predictions)
    curves = pd.concat(curve(seed, each) for seed, each in enumerate(trained))
    write_csv(paths.plot("curves", cell), curves)
    rows = [replicate(cell, seed, each) for seed, each in enumerate(trained)]
    write_json(paths.card(cell), {"cell": cell, "trained": True, "replicates": rows} | card)
    is_val = (predictions["subset"] == "val").to_numpy()
    logits = torch.logit(torch.from_numpy(predictions["p"].to_numpy()[is_val]))
    budget = params.budgets[params.cells[cell].budget]
    write_json(
        paths.train_metrics(cell),
        {
            "trained": True,
            "n_params": card["n_params"],
            "budget_ratio": card["n_params"] / budget.n_params,
            "seeds": len(trained),
            "kept_epoch": sum(each.kept_epoch for each in trained) / len(trained),
            "val": {
                "log_loss": log_loss(logits, inputs.val.labels),
                "n": len(inputs.val.labels),
                "positives": int(inputs.val.labels.sum()),
            },
        },
    )


def probabilities(cell: str, replica: Replica) -> Any:
    """Save the weights of a replicate; return what the saved ones predict, shape (judged days,)."""
    weights, inputs = paths.weights(cell, replica.seed), replica.inputs
    save_weights(weights, replica.checkpoint.best())
    model = load_model(weights, inputs.shape)
    return predict(model, inputs.windows, inputs.judged_rows).double().numpy()


def replicate(cell: str, seed: int, trained: Trained) -> dict[str, float | int | str | bool]:
    """Return what the card says of one replicate."""
    weights = paths.weights(cell, seed)
    return {
        "seed": seed,
        "kept_epoch": trained.kept_epoch,
        "val_log_loss": trained.history[trained.kept_epoch - 1]["val_log_loss"],
        "micro_batch": trained.plan.micro_batch,
        "recompute": trained.plan.recompute,
        "sha256": digest(weights),
        "bytes": weights.stat().st_size,
    }


def curve(seed: int, trained: Trained) -> pd.DataFrame:
    """Return the learning curve of one replicate: seed, epoch and both log-losses."""
    history = pd.DataFrame(trained.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.insert(0, "seed", seed)
    return history


def write_absent(cell: str, row: Cell, best: Best) -> None:
    """Write the outputs of a cell that is not trained, and say how to train it."""
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
    print(
        f"{cell}: not trained (budgets.{row.budget}.trained.{row.horizon}: false); to train it: "
        f"dvc exp run -S '{row.to_train}' train@{cell}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
