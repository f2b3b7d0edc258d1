"""Make a few optimiser steps of a cell as its stage would; print plan, peak memory and speed.

    python3 dev.py -- python benchmarks/cell_memory.py 2B-h1 --steps 2

A process a cell: the peak is that of the process, imports included.
"""

import argparse
import time

import torch

from patchscale.study.params import load_params
from patchscale.train import device
from patchscale.train.engine import Engine
from patchscale.train.inputs import read_inputs
from patchscale.train.schedule import epoch_batches
from patchscale.train.settings import settings_for, settings_of


def main() -> None:
    """Print a line for the plan and one for every step."""
    parser = argparse.ArgumentParser(description="Measure memory and speed of a cell's steps.")
    parser.add_argument("cell", help="such as 2B-h1")
    parser.add_argument("--steps", type=int, default=2)
    words = parser.parse_args()
    params = load_params()
    run = params.budgets[params.cells[words.cell].budget].run
    best = settings_of(params, words.cell)
    inputs = read_inputs(params, words.cell, best)
    settings = settings_for(best, params.train, run.precision, len(inputs.train.rows))
    torch.set_num_threads(run.threads)
    free = device.available(settings.device)
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
            f"samples/s, peak {device.peak(settings.device) / 2**30:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
