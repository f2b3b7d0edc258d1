"""Measure one training step of a cell against other packages' encoders and the bare matmuls.

    python3 dev.py -- python benchmarks/train_step.py 2M-h1 20M-h3 --threads 1 2 --json steps.json

Every contestant makes the same step on the same batch of 256 contexts of all features: forward,
backward, gradient clipping, AdamW. Peers are in `peers.py`. The floor is the step's matmuls with
nothing between them. Rounds are interleaved, after one that is not counted; medians. A ratio is the
fastest peer's time divided by the contestant's. Where the processor only emulates bfloat16, it
is left out and the floor is of float32.

The precisions of a model share its weights and its optimiser; all models of a cell are in memory
at once, 16 bytes a parameter each. A cell too large for that takes one peer a run (--peers).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peers import ENCODERS, installed, n_params, peer
from torch import Tensor, nn
from torch.nn import functional as F

from patchscale.features.tiers import tier_features
from patchscale.model.patchtst import PatchTST, PatchTSTConfig
from patchscale.study.params import load_params
from patchscale.train.device import emulates_bfloat16
from patchscale.train.inputs import shape_of
from patchscale.train.settings import settings_of

BATCH = 256
PRECISIONS = (torch.float32,) if emulates_bfloat16("cpu") else (torch.float32, torch.bfloat16)
LOWEST = PRECISIONS[-1]

Step = Callable[[], None]


def adamw(model: nn.Module) -> torch.optim.AdamW:
    """Return the optimiser that every contestant has."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def title(name: str, precision: torch.dtype) -> str:
    """Return the name of a contestant."""
    return f"{name} {str(precision).removeprefix('torch.')}"


FLOOR = title("floor", LOWEST)


def step_of(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    precision: torch.dtype,
) -> Step:
    """Return a function that makes one training step."""
    x, y = batch

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = F.binary_cross_entropy_with_logits(model(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def floor_of(shape: PatchTSTConfig) -> Step:
    """Return a function that makes a step's matmuls, forward and backward, and nothing else."""
    tokens, d, ff = BATCH * shape.n_patches, shape.d_model, shape.d_ff
    pairs = []
    for rows, columns in ((d, 3 * d), (d, d), (d, ff), (ff, d)):
        x, w, g = (
            torch.randn(size, dtype=LOWEST)
            for size in ((tokens, rows), (rows, columns), (tokens, columns))
        )
        pairs.append((x, w, g))

    def step() -> None:
        for _ in range(shape.n_layers):
            for x, w, g in pairs:
                x @ w
                g @ w.T
                x.T @ g

    return step


def ours(
    shape: PatchTSTConfig, batch: tuple[Tensor, Tensor], compiled: bool
) -> tuple[dict[str, Step], int]:
    """Return our steps by name, and the number of parameters."""
    model = PatchTST(shape).train()
    optimizer = adamw(model)
    steps = {title("ours", each): step_of(model, optimizer, batch, each) for each in PRECISIONS}
    if compiled:
        torch.compiler.reset()  # compiled code holds the number of threads
        faster = PatchTST(shape).train()
        for layer in faster.layers:  # as patchscale.train.engine does
            layer.compile(dynamic=False)
        name = f"{title('ours', LOWEST)} compiled"
        steps[name] = step_of(faster, adamw(faster), batch, LOWEST)
    return steps, n_params(model)


def contestants(
    shape: PatchTSTConfig, peers: list[str], compiled: bool
) -> tuple[dict[str, Step], dict[str, int]]:
    """Return the steps to time by name, and the numbers of parameters."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, shape.context_length, shape.n_features)
    batch = x, (torch.rand(BATCH) < 0.3).float()
    steps, count = ours(shape, batch, compiled)
    counts = dict.fromkeys(steps, count)
    for name in peers:
        model = peer(name, shape).train()
        optimizer = adamw(model)
        for precision in PRECISIONS:
            steps[title(name, precision)] = step_of(model, optimizer, batch, precision)
            counts[title(name, precision)] = n_params(model)
    steps[FLOOR] = floor_of(shape)
    return steps, counts


def measure(
    shape: PatchTSTConfig, peers: list[str], rounds: int, compiled: bool
) -> dict[str, dict[str, Any]]:
    """Time every contestant in turn; return a row each, seconds first."""
    steps, counts = contestants(shape, peers, compiled)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    rivals = {name: value for name, value in middle.items() if name.startswith(tuple(peers))}
    float32 = min(value for name, value in rivals.items() if name.endswith("float32"))
    return {
        name: {
            "seconds": value,
            "times_float32_peer": float32 / value,
            "times_any_peer": min(rivals.values()) / value,
            "share_of_floor": middle[FLOOR] / value,
            "n_params": counts.get(name),
        }
        for name, value in middle.items()
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"  {'':<24}{'seconds':>9}{'x float32 peer':>16}{'x any peer':>12}{'of floor':>10}"]
    lines[0] += f"{'parameters':>14}"
    for name, row in rows.items():
        line = f"  {name:<24}{row['seconds']:>9.3f}{row['times_float32_peer']:>16.2f}"
        line += f"{row['times_any_peer']:>12.2f}{row['share_of_floor']:>10.0%}"
        lines.append(line + (f"{row['n_params']:>14,}" if row["n_params"] else ""))
    return "\n".join(lines)


def main() -> None:
    """Print a table a cell and number of threads."""
    parser = argparse.ArgumentParser(description="Time training steps.")
    parser.add_argument("cells", nargs="+", help="such as 2M-h1")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=ENCODERS, help="without it, all installed")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--json", type=Path, help="write the same there")
    words = parser.parse_args()
    params = load_params()
    peers = [name for name in installed() if name in (words.peers or ENCODERS)]
    versions = {name.removesuffix(".nn"): version(name.removesuffix(".nn")) for name in peers}
    measured: list[dict[str, Any]] = []
    found = {"rounds": words.rounds, "versions": versions, "measured": measured}
    for cell in words.cells:
        best = settings_of(params, cell)
        shape = shape_of(best, params.window, len(tier_features(params.features.tier)))
        for threads in words.threads:
            torch.set_num_threads(threads)
            rows = measure(shape, peers, words.rounds, words.compile)
            print(f"{cell}: {shape.d_model} wide, {shape.n_layers} layers, {threads} thread(s)")
            print(table(rows), flush=True)
            measured.append({"cell": cell, "threads": threads, "contestants": rows})
            if words.json:
                words.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
