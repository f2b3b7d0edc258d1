"""Measure time and memory of the feature tiers, and how time grows with the number of sessions.

    python3 dev.py -- python benchmarks/features.py

Each figure is the median of three new processes with one thread that import, compute and write.
Bars are a random walk. The peak is the resident memory of the process.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import TIERS
from patchscale.study.files import write_arrow

ROUNDS = 3
SESSIONS = 8_400
CASES = {
    "all tiers": (SESSIONS, ",".join(TIERS), 6.0),
    "a200c": (SESSIONS, "a200c", 4.0),
    "a200c at 8 k": (8_000, "a200c", None),
    "a200c at 32 k": (32_000, "a200c", None),
    "a200c at 128 k": (128_000, "a200c", None),
}


def walk(sessions: int) -> pd.DataFrame:
    """Return bars of a random walk."""
    random = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(0.01 * random.standard_normal(sessions)) / 10)
    opens = close * np.exp(0.002 * random.standard_normal(sessions))
    spread = np.exp(0.005 * random.random((2, sessions)))
    return pd.DataFrame(
        {
            "date": pd.bdate_range("1700-01-04", periods=sessions),
            "open": opens,
            "high": np.maximum(opens, close) * spread[0],
            "low": np.minimum(opens, close) / spread[1],
            "close": close,
            "volume": random.integers(1_000_000, 5_000_000, sessions).astype(float),
        }
    )


def compute(sessions: int, tiers: str, folder: str) -> None:
    """Compute and write tiers; print the seconds of the computation and the peak memory."""
    bars = walk(sessions)
    vix = bars.assign(close=10 + 10 * np.random.default_rng(1).random(sessions))
    started = time.perf_counter()
    for tier in tiers.split(","):
        table = drop_warm_up(compute_tier(bars, tier, "XNYS", vix))
        write_arrow(Path(folder, f"{tier}.arrow"), table)
    seconds = time.perf_counter() - started
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Time every case in turn and print a table against the limits."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for name, (sessions, tiers, _) in CASES.items():
                started = time.perf_counter()
                words = [sys.executable, __file__, str(sessions), tiers, folder]
                done = subprocess.run(
                    words, check=True, capture_output=True, text=True, env=os.environ | threads
                )
                whole = time.perf_counter() - started
                computing, peak = map(float, done.stdout.split())
                runs[name].append((whole, computing, peak))
    print(f"{'':<16} process  compute  us/row  peak MB  limit")
    for name, taken in runs.items():
        whole, computing, peak = (statistics.median(column) for column in zip(*taken, strict=True))
        sessions, _, limit = CASES[name]
        mark = "" if limit is None or whole <= limit else "  over"
        print(
            f"{name:<16} {whole:7.2f} {computing:8.2f} {1e6 * computing / sessions:7.1f} "
            f"{peak:8.0f}  {limit or '':>5}{mark}"
        )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        compute(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    else:
        main()
