"""Measure one training step of a cell against torch.nn's encoder and against the bare matmuls.

    python3 dev.py -- python benchmarks/train_step.py 2M-h1 20M-h3 --threads 1

Every contestant makes the same step on the same batch of 256 contexts of 20 features: forward,
backward, gradient clipping, AdamW. Peers are built to the cell's d_model, n_layers, n_heads and
d_ff, pre-norm, dropout on. The floor is the step's matmuls in bfloat16 with nothing between them.
Rounds are interleaved, after one that is not counted; medians. A ratio is the fastest peer's time
divided by ours.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchscale import config, paths
from patchscale.features import tier_features
from patchscale.model import PatchTST, PatchTSTConfig

BATCH = 256


def peer_of(shape: PatchTSTConfig) -> PatchTST:
    """Return a PatchTST whose layers are torch.nn's."""
    model = PatchTST(replace(shape, n_layers=0))
    for _ in range(shape.n_layers):
        model.layers.append(
            nn.TransformerEncoderLayer(
                shape.d_model,
                shape.n_heads,
                shape.d_ff,
                shape.dropout,
                "gelu",
                batch_first=True,
                norm_first=True,
            )
        )
    return model


def shape_of(cell: str, params: config.Params) -> PatchTSTConfig:
    """Return the shape that a cell trains, from the search's result."""
    best = config.load_best(paths.best(params.cells[cell].search))
    return PatchTSTConfig(
        n_features=len(tier_features(params.features.tier)),
        **params.model.model_dump(include={"context_length", "patch_length", "stride"}),
        **best.model_dump(include={"d_model", "n_layers", "n_heads", "d_ff", "dropout"}),
    )


def step_of(model: nn.Module, x: Tensor, y: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """Return a function that makes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = F.binary_cross_entropy_with_logits(model(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def floor_of(shape: PatchTSTConfig) -> Callable[[], None]:
    """Return a function that makes a step's matmuls, forward and backward, and nothing else."""
    tokens, d, ff = BATCH * shape.n_patches, shape.d_model, shape.d_ff
    pairs = []
    for rows, columns in ((d, 3 * d), (d, d), (d, ff), (ff, d)):
        x, w, g = (
            torch.randn(size, dtype=torch.bfloat16)
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


def contestants(shape: PatchTSTConfig, compiled: bool) -> dict[str, Callable[[], None]]:
    """Return the steps to time by name."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, shape.context_length, shape.n_features)
    y = (torch.rand(BATCH) < 0.3).float()
    steps = {
        "ours float32": step_of(PatchTST(shape).train(), x, y, torch.float32),
        "ours bfloat16": step_of(PatchTST(shape).train(), x, y, torch.bfloat16),
        "torch.nn float32": step_of(peer_of(shape).train(), x, y, torch.float32),
        "torch.nn bfloat16": step_of(peer_of(shape).train(), x, y, torch.bfloat16),
        "floor bfloat16": floor_of(shape),
    }
    if compiled:
        model = torch.compile(PatchTST(shape).train())
        steps["ours compiled"] = step_of(model, x, y, torch.bfloat16)
    return steps


def main() -> None:
    """Time every contestant in turn and print a table a cell."""
    parser = argparse.ArgumentParser(description="Time training steps.")
    parser.add_argument("cells", nargs="+", help="such as 2M-h1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    params = config.load_params(paths.PARAMS)
    for cell in words.cells:
        shape = shape_of(cell, params)
        steps = contestants(shape, words.compile)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for round_ in range(words.rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if round_:
                    seconds[name].append(time.perf_counter() - started)
        middle = {name: statistics.median(taken) for name, taken in seconds.items()}
        peer = min(value for name, value in middle.items() if name.startswith("torch.nn"))
        print(f"{cell}: {shape.d_model} wide, {shape.n_layers} layers, {words.threads} thread(s)")
        for name, value in middle.items():
            floor = middle["floor bfloat16"] / value
            print(f"  {name:<18} {value:7.3f} s  {peer / value:5.2f} x peer  {floor:4.0%} of floor")


if __name__ == "__main__":
    main()
