"""Speed-up by a fan-out, its cost per stage, and the cost of a large dvc.lock.

    python3 dev.py -- python benchmarks/fanout.py speed --rounds 3
    python3 dev.py -- python benchmarks/fanout.py overhead --stages 400
    python3 dev.py -- python benchmarks/fanout.py lock --stages 1000

`speed` trains four 2M cells of one seed and two epochs, one and two at a time by turns, always
in a fresh copy; it needs idle cores. `overhead` fans out stages that do nothing, twice.
`lock` reads and writes, as DVC does, a dvc.lock whose entries are like that of train@2M-h1.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """\
stages:
  cell:
    matrix:
      n: {numbers}
    cmd: python -c "open('out/${{item.n}}', 'w').write('${{item.n}}')"
    deps:
    - params.yaml
    outs:
    - out/${{item.n}}
"""


def seconds(*words: str, cwd: Path) -> float:
    """Run a command and return the seconds it took."""
    begun = time.perf_counter()
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def fan_out(cwd: Path, *words: str) -> float:
    """Fan out and return the seconds it took."""
    return seconds(sys.executable, "-m", "patchscale.fanout", *words, cwd=cwd)


def speed(rounds: int, folder: Path) -> dict[str, object]:
    """Return the seconds of each round with one job and with two jobs at a time."""
    import yaml

    first = folder / "first"
    seconds("git", "clone", "-q", str(ROOT), str(first), cwd=folder)
    seconds("dvc", "pull", "-q", cwd=first)
    params = yaml.safe_load((first / "params.yaml").read_text())
    params["budgets"]["2M"]["run"]["seeds"] = 1
    params["budgets"]["2M"]["settings"] = "table"
    params["budgets"]["2M"]["start"]["epochs"] = 2
    params["hpo"]["trials"] = 0
    (first / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    seconds("dvc", "repro", "-q", "--glob", "hpo@2M-*", cwd=first)
    taken: dict[str, list[float]] = {"1": [], "2": []}
    for number in range(rounds):
        for jobs in ("1", "2") if number % 2 == 0 else ("2", "1"):
            shutil.copytree(first, folder / "copy", symlinks=True)
            taken[jobs].append(fan_out(folder / "copy", "train@2M-*", "--jobs", jobs))
            shutil.rmtree(folder / "copy")
            print(f"round {number}: {jobs} at a time {taken[jobs][-1]:.1f} s", file=sys.stderr)
    ratios = [one / two for one, two in zip(taken["1"], taken["2"], strict=True)]
    return {"seconds": taken, "ratios": ratios, "median ratio": statistics.median(ratios)}


def overhead(stages: int, engine: str, folder: Path) -> dict[str, float]:
    """Return the seconds of fan-outs of one and of many stages, and of each additional stage."""
    taken = {}
    for count in (1, stages):
        path = folder / f"{engine}{count}"
        path.mkdir()
        for name in ("params.yaml", "grid.yaml"):
            shutil.copy(ROOT / name, path)
        (path / "dvc.yaml").write_text(EMPTY.format(numbers=list(range(count))))
        (path / "out").mkdir()
        seconds("git", "init", "-q", cwd=path)
        seconds("dvc", "init", "-q", cwd=path)
        taken[count] = fan_out(path, "--engine", engine, "--jobs", "1")
    each = (taken[stages] - taken[1]) / (stages - 1)
    again = fan_out(path, "--engine", engine, "--jobs", "1")
    repro = seconds("dvc", "repro", "-q", cwd=path)
    return {
        "one": taken[1],
        str(stages): taken[stages],
        "each": each,
        "nothing stale": again,
        "dvc repro, nothing stale": repro,
    }


def lock(stages: int, folder: Path) -> dict[str, float]:
    """Return the size and lines of a dvc.lock, and the seconds to read it and to change it."""
    import yaml
    from dvc.utils.serialize import load_yaml, modify_yaml

    entry = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["train@2M-h1"]
    text = yaml.safe_dump(entry, sort_keys=False, indent=2)
    body = "".join(f"    {line}\n" for line in text.splitlines())
    file = folder / "dvc.lock"
    file.write_text(
        "schema: '2.0'\nstages:\n" + "".join(f"  cell@{n}:\n{body}" for n in range(stages))
    )
    found: dict[str, float] = {"bytes": file.stat().st_size, "lines": body.count("\n") * stages}
    begun = time.perf_counter()
    load_yaml(file)
    found["read"] = time.perf_counter() - begun
    begun = time.perf_counter()
    with modify_yaml(file) as content:
        content["stages"]["another"] = entry
    found["write"] = time.perf_counter() - begun
    return found


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benchmark", choices=["speed", "overhead", "lock"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", type=int, default=400)
    options = parser.parse_args()
    os.environ.pop("DVC_ROOT", None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.benchmark == "speed":
            found: object = speed(options.rounds, folder)
        elif options.benchmark == "lock":
            found = lock(options.stages, folder)
        else:
            found = {
                engine: overhead(options.stages, engine, folder) for engine in ("local", "ray")
            }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
