#!/usr/bin/env python3
"""Make the environment and run the project in it; needs git and Python 3.11-3.13 with pip only.

    python3 dev.py repro             environment, published results, pipeline, proof, headline
    python3 dev.py test              environment, ruff, mypy and the whole test suite
    python3 dev.py verify            re-hash, regenerate and recompute what dvc.lock trusts
    python3 dev.py fanout --dry-run  run stale stages side by side, here or on a Ray cluster
    python3 dev.py refresh spy       download a data set anew and compare; changes nothing
    python3 dev.py -- dvc metrics diff    any command in the environment

The environment is .venv, made from requirements.lock (without torch) and the torch build that
fits the machine. A second call finds it stamped and sets nothing up.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "stamp"
# not sys.executable: inside an activated .venv that would be what is to be made
BASE = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def fail(line: str) -> None:
    """Print one line and end as bad input does."""
    print(f"dev.py: {line}", file=sys.stderr)
    sys.exit(2)


def call(*command: object) -> int:
    """Run a command in the environment and return its exit code."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=environment()).returncode


def must(*command: object) -> None:
    """Run a command and end with its exit code if it fails."""
    if code := call(*command):
        sys.exit(code)


def environment() -> dict[str, str]:
    """Return the variables under which everything runs."""
    env = dict(os.environ)
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["VIRTUAL_ENV"] = str(VENV)
    # uv brings its own certificates; a machine behind a proxy has its own in the system's store.
    env.setdefault("UV_SYSTEM_CERTS", "true")
    env.pop("PYTHONHOME", None)
    env.pop("PYTHONPATH", None)
    return env


def stamp() -> str:
    """Return what the environment is a function of: lock, project metadata, this file, Python."""
    digest = hashlib.sha256(f"{sys.version} {BASE} {ROOT}".encode())
    for name in ("requirements.lock", "pyproject.toml", "dev.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def uv() -> Path:
    """Return uv from PATH, else bring it into .uv (works without venv and under PEP 668)."""
    found = shutil.which("uv")
    if found:
        return Path(found)
    own = ROOT / ".uv" / "bin" / ("uv.exe" if os.name == "nt" else "uv")
    if not own.exists():
        must(
            BASE,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-warn-script-location",
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
            "--target",
            ROOT / ".uv",
            "uv>=0.9",
        )
    return own


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver is installed."""
    return shutil.which("nvidia-smi") is not None


def install_torch(uv_path: Path) -> None:
    """Install PyPI's build with a GPU or off Linux, else the CPU build, else PyPI's."""
    if sys.platform == "linux" and not has_gpu():
        # Through pip: it goes on with the user's find-links when the index is out of reach.
        print("dev.py: torch, CPU build", file=sys.stderr)
        command = [
            BASE,
            "-m",
            "pip",
            "--python",
            PYTHON,
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-compile",
            "--retries",
            "1",
            "--root-user-action",
            "ignore",
            "--index-url",
            CPU_INDEX,
            TORCH,
        ]
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return
    print("dev.py: torch, PyPI build (on Linux 2.6 GB with CUDA)", file=sys.stderr)
    must(uv_path, "pip", "install", "--quiet", "--python", PYTHON, TORCH)


def setup() -> None:
    """Make .venv unless it is stamped with what it would be made from."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        fail(f"Python {sys.version.split()[0]} found, 3.11 to 3.13 needed")
    if STAMP.exists() and STAMP.read_text() == stamp() and PYTHON.exists():
        return
    print("dev.py: making .venv (once; about a minute)", file=sys.stderr)
    uv_path = uv()
    must(uv_path, "venv", "--quiet", "--clear", "--python", BASE, VENV)
    must(uv_path, "pip", "install", "--quiet", "--python", PYTHON, "-r", "requirements.lock")
    install_torch(uv_path)
    must(uv_path, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "-e", ".")
    STAMP.write_text(stamp())


def repro() -> None:
    """Pull what is published, bring the pipeline up to date, prove it, show the headline."""
    must("dvc", "pull", "--quiet")
    must("dvc", "repro")
    must(PYTHON, "-m", "patchscale.verify", "--quick")
    print(headline(json.loads((ROOT / "metrics/headline.json").read_text())))
    print("Results: docs/results.md   Plots: plots/*.svg, or `python3 dev.py -- dvc plots show`")


def headline(figures: dict) -> str:
    """Return metrics/headline.json as a table with intervals."""

    def with_interval(part: dict, name: str) -> str:
        if part[name] is None:
            return "undefined"
        low, high = part[f"{name}_low"], part[f"{name}_high"]
        ends = "interval undefined" if low is None else f"{low:.3f}, {high:.3f}"
        return f"{part[name]:.3f} [{ends}]"

    val, test, strategy = figures["val"], figures["test"], figures["strategy"]
    rows = [("", "validation", "test")]
    rows.append(("days / positives", *(f"{p['n']} / {p['positives']}" for p in (val, test))))
    for name in ("precision", "recall", "auc", "log_loss", "brier_skill"):
        rows.append((name, with_interval(val, name), with_interval(test, name)))
    rows.append(("p_range", *(f"{p['p_range']:.3f}" for p in (val, test))))
    gap = with_interval(figures, "minus_vol_logistic")
    rows.append(("log_loss minus volatility logistic", "", gap))
    rows.append(("strategy: Sharpe", "", with_interval(strategy, "sharpe")))
    held = f"{strategy['total_return']:+.1%} (buy and hold {strategy['buy_and_hold']:+.1%})"
    rows.append((f"strategy: return of {strategy['trades']} trades", "", held))
    title = (
        f"{figures['cell']}: {figures['n_params']:,} parameters, {figures['seeds']} seed(s), "
        f"data to {figures['data_as_of']}, brackets are 95 % intervals"
    )
    return "\n".join([title, *(f"{a:<36}{b:<24}{c}" for a, b, c in rows)])


def test(arguments: list[str]) -> None:
    """Lint, type-check and test; further arguments go to pytest."""
    must("ruff", "check", ".")
    must("ruff", "format", "--check", ".")
    must("mypy")
    must(PYTHON, "-m", "pytest", *arguments)


def main(arguments: list[str]) -> int:
    """Dispatch a command line."""
    match arguments:
        case ["repro"]:
            setup()
            repro()
        case ["test", *rest]:
            setup()
            test(rest)
        case ["verify" | "refresh" | "fanout" as command, *rest]:
            setup()
            return call(PYTHON, "-m", f"patchscale.{command}", *rest)
        case ["--", *words] if words:
            setup()
            return call(*words)
        case [] | ["-h"] | ["--help"]:
            print(__doc__.strip())
        case _:
            allowed = "repro, test, verify, fanout, refresh, -- CMD"
            fail(f"{' '.join(arguments)!r} is not a command; allowed: {allowed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
