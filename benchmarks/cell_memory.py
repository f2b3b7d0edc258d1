"""Make a few optimiser steps of a cell as its stage would; print plan, peak memory and speed.

    python3 dev.py -- python benchmarks/cell_memory.py 2B-h1 --steps 2

A process a cell: the peak is that of the process, imports included.
"""

import argparse
import time

import torch

from patchscale import config, memory, paths
from patchscale.cell import assemble
from patchscale.engine import Engine, device_of_this_machine
from patchscale.files import read_arrow, read_json
from patchscale.schedule import Settings, epoch_batches
from patchscale.splits import read_split


def main() -> None:
    """Print a line for the plan and one for every step."""
    parser = argparse.ArgumentParser(description="Measure memory and speed of a cell's steps.")
    parser.add_argument("cell", help="such as 2B-h1")
    parser.add_argument("--steps", type=int, default=2)
    words = parser.parse_args()
    params = config.load_params(paths.PARAMS)
    budget, horizon = config.split_cell(words.cell)
    best = config.load_best(paths.best(params.cells[words.cell].search))
    tier = params.features.tier
    split = read_split(paths.split(horizon), labels_of={"train", "val"})
    table, kinds = read_arrow(paths.features(tier)), read_json(paths.kinds(tier))
    inputs = assemble(table, kinds, split, params.model, best)
    device = device_of_this_machine()
    settings = Settings(
        **best.model_dump(include={"lr", "weight_decay", "warmup_steps", "epochs"}),
        **params.train.model_dump(include={"batch_size", "patience", "min_delta", "clip"}),
        precision=params.train.precision[budget],
        device=device,
    )
    torch.set_num_threads(params.train.threads[budget])
    free = memory.available(device)
    engine = Engine(inputs, settings, seed=0)
    plan = engine.choose(free, [])
    engine.follow(plan)
    engine.model.train()
    print(
        f"{words.cell}: N = {best.n_params:,}, {settings.precision}, {plan}, "
        f"{plan.expected / 2**30:.1f} GiB expected, {free / 2**30:.1f} GiB available",
        flush=True,
    )
    batches = epoch_batches(len(inputs.train.rows), settings.batch_size, seed=0, epoch=0)
    for number, batch in enumerate(batches[: words.steps], 1):
        started = time.perf_counter()
        loss = float(engine.step(batch, settings.lr / 100))
        seconds = time.perf_counter() - started
        print(
            f"step {number}: loss {loss:.4f}, {seconds:.1f} s, {len(batch) / seconds:.1f} "
            f"samples/s, peak {memory.peak(device) / 2**30:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
