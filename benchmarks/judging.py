"""Measure the judging: the baselines, all backtests and the report, with 10,000 draws each.

    python3 dev.py -- python benchmarks/judging.py

Every stage is a process of its own, in an empty folder with the study's files. A cell that is not
trained gets the predictions of a trained one of its horizon, so that all are judged. Once one
after the other and once two side by side, as a person with two cores would; medians of three rounds
after one that is not counted.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from patchscale.study import paths
from patchscale.study.files import read_arrow, read_json, write_arrow, write_json
from patchscale.study.params import Params, load_params

ROUNDS = 3
LIMIT = 60.0
READ = ("data", "metrics", "plots", "stages", "params.yaml", "grid.yaml")


def fill(root: Path, params: Params) -> None:
    """Give every absent cell the predictions, card and curves of a trained one."""
    cards = {cell: root / paths.card(cell) for cell in params.cells}
    horizon_of = {cell: row.horizon for cell, row in params.cells.items()}
    trained = {horizon_of[cell]: cell for cell in cards if read_json(cards[cell])["trained"]}
    for cell, card in cards.items():
        if not read_json(card)["trained"]:
            source = trained[horizon_of[cell]]
            own = read_json(card)["n_params"]
            write_json(card, read_json(cards[source]) | {"cell": cell, "n_params": own})
            table = read_arrow(root / paths.predictions(source))
            chances = table.columns[2:]
            table[chances] = 0.01 + (0.9 + own / 1e11) * table[chances]  # no two cells alike
            write_arrow(root / paths.predictions(cell), table)
            shutil.copy(root / paths.plot("curves", source), root / paths.plot("curves", cell))


def stage(root: Path, script: str, *words: str) -> float:
    """Run a stage; return its seconds."""
    started = time.perf_counter()
    command = [sys.executable, f"stages/{script}.py", *words]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return time.perf_counter() - started


def whole(root: Path, params: Params, workers: int) -> dict[str, float]:
    """Run everything; return the seconds of the clock and those of each kind of stage."""
    started = time.perf_counter()
    taken = {}
    with ThreadPoolExecutor(workers) as pool:
        for script, names in (("baselines", params.horizons), ("backtest", params.cells)):
            taken[script] = sum(pool.map(lambda name, kind=script: stage(root, kind, name), names))
    taken["report"] = stage(root, "report")
    return {"clock": time.perf_counter() - started} | taken


def main() -> None:
    """Print a line for one and for two workers."""
    params = load_params()
    seconds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in READ:
            source = Path(name)
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("weights"))
            else:
                shutil.copy(source, root)
        fill(root, params)
        for round_ in range(ROUNDS + 1):
            for workers, rows in seconds.items():
                row = whole(root, params, workers)
                if round_:
                    rows.append(row)
    print(f"{'seconds':<16}{'clock':>8}{'baselines':>11}{'backtest':>10}{'report':>8}")
    for workers, rows in seconds.items():
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        text = f"{workers} at a time".ljust(16) + f"{middle['clock']:8.1f}"
        text += f"{middle['baselines']:11.1f}{middle['backtest']:10.1f}{middle['report']:8.1f}"
        print(text + ("" if middle["clock"] <= LIMIT else f"  over {LIMIT:.0f}"))


if __name__ == "__main__":
    sys.exit(main() if Path("dvc.yaml").exists() else "run it in the repository's root")
