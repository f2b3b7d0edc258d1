#!/usr/bin/env python3
"""Make the environment and run the project in it; needs git and Python 3.11-3.13 with pip only.

    python3 dev.py repro             environment, published results, pipeline, proof, finding
    python3 dev.py test              environment, ruff, mypy and the quick tests
    python3 dev.py test --all        the same with all tests
    python3 dev.py verify            re-hash, regenerate and recompute what dvc.lock trusts
    python3 dev.py fanout --dry-run  run stale stages side by side, here or on a Ray cluster
    python3 dev.py reset             back to what is committed, after an experiment
    python3 dev.py refresh spy       download a data set anew and compare; changes nothing
    python3 dev.py -- dvc metrics diff    any command in the environment

The environment is .venv: the packages of requirements.lock, whose hashes are checked, and the torch
build that fits the machine. A second call finds the stamp of the first and installs nothing.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "stamp"
UV = ROOT / ".uv" / "bin" / ("uv.exe" if os.name == "nt" else "uv")
# Not sys.executable: in an activated .venv that is the Python of the environment to be made.
BASE = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
TORCH = "torch==2.13.0"
UNCHANGED = re.compile(rb"^Stage '[^']+' didn't change, skipping\s*$")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def fail(line: str) -> None:
    """Print an error of one line and exit with code 2, the code of bad input."""
    print(f"dev.py: {line}", file=sys.stderr)
    sys.exit(2)


def call(*command: object) -> int:
    """Run a command in the environment and return its exit code."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=environment()).returncode


def must(*command: object) -> None:
    """Run a command in the environment; exit with its code if it fails."""
    if code := call(*command):
        sys.exit(code)


def work_of(*command: object) -> int:
    """Run a DVC command as `call` does, without its lines on stages that need no work.

    Other lines are shown as they come; what goes to stderr, such as progress, is not touched.
    """
    words, env = [str(part) for part in command], environment() | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() and not UNCHANGED.search(line):
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
    return process.returncode


def environment() -> dict[str, str]:
    """Return the environment variables of all commands."""
    env = dict(os.environ)
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["VIRTUAL_ENV"] = str(VENV)
    # uv ships certificates of its own; those of a company's proxy are in the system's store.
    env.setdefault("UV_SYSTEM_CERTS", "true")
    # compiled modules halve the time in which dvc and torch start; they are written once
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.pop("PYTHONHOME", None)
    env.pop("PYTHONPATH", None)
    return env


def stamp() -> str:
    """Return the hash of all that determines the environment: Python, folder and three files."""
    digest = hashlib.sha256(f"{sys.version} {BASE} {ROOT}".encode())
    for name in ("requirements.lock", "pyproject.toml", "dev.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install_uv() -> None:
    """Install the pinned uv into .uv with pip, which works without venv and under PEP 668."""
    pin = ROOT / "tools" / "uv.txt"
    installed = ROOT / ".uv" / "uv.txt"
    if installed.exists() and installed.read_bytes() == pin.read_bytes():
        return
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
        "--upgrade",
        "--require-hashes",
        "-r",
        pin,
    )
    shutil.copyfile(pin, installed)


def install(*arguments: object) -> None:
    """Install packages into .venv; what is built on the way is built with the locked setuptools."""
    options = ("--quiet", "--python", PYTHON, "--build-constraints", "requirements.lock")
    must(UV, "pip", "install", *options, *arguments)


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver is installed."""
    return shutil.which("nvidia-smi") is not None


def install_torch() -> None:
    """Install the CPU build of torch on Linux without a GPU, else the build on PyPI.

    PyPI's build is also taken where the CPU build cannot be had. The version is exact; the file has
    no pinned hash, because it comes from one of several places (docs/decisions.md).
    """
    if sys.platform == "linux" and not has_gpu():
        # pip, unlike uv, uses the find-links of the machine if the index cannot be reached.
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
    install(TORCH)


def setup() -> None:
    """Make .venv unless its stamp is current."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        fail(f"Python {sys.version.split()[0]} found, 3.11 to 3.13 needed")
    if STAMP.exists() and STAMP.read_text() == stamp() and PYTHON.exists():
        return
    print("dev.py: making .venv (once; about a minute)", file=sys.stderr)
    install_uv()
    must(UV, "venv", "--quiet", "--clear", "--python", BASE, VENV)
    install("--require-hashes", "-r", "requirements.lock")
    install_torch()
    install("--no-deps", "-e", ".")
    STAMP.write_text(stamp())


def before_pull() -> None:
    """Restore damaged objects and refuse what would lead DVC out of the repository."""
    must(PYTHON, "-m", "patchscale.workspace.restore")
    must(PYTHON, "-m", "patchscale.verify", "--level", "published")


def repro() -> None:
    """Pull the published results, run stale stages, verify quickly and print the finding."""
    before_pull()
    # DVC makes paths of names in the parameters, and a forged dvc.lock lets it skip this stage
    must(PYTHON, "stages/check.py")
    if code := call("dvc", "pull", "--quiet"):
        print("dev.py: `dvc pull` failed; without --quiet it says more", file=sys.stderr)
        sys.exit(code)
    if code := work_of("dvc", "repro"):
        sys.exit(code)
    must(PYTHON, "-m", "patchscale.verify", "--quick")
    finding = (ROOT / "docs/results.md").read_text(encoding="utf-8").split("\n\n")[2]
    print("", *textwrap.wrap(finding, 100), sep="\n", flush=True)
    must(PYTHON, "-m", "patchscale.cli.figures")
    print("", f"Results: {ROOT / 'docs/results.html'}", sep="\n")


def test(arguments: list[str]) -> None:
    """Run ruff, mypy and pytest: quick tests, or all with `--all`; other words go to pytest."""
    chosen = [] if "--all" in arguments else ["-m", "not slow"]
    chosen += [word for word in arguments if word != "--all"]
    must("ruff", "check", ".")
    must("ruff", "format", "--check", ".")
    must("mypy")
    must(PYTHON, "-m", "pytest", *chosen)


def main(arguments: list[str]) -> int:
    """Run the command of a command line and return its exit code."""
    match arguments:
        case ["repro"]:
            setup()
            repro()
        case ["test", *rest]:
            setup()
            test(rest)
        case ["verify" | "refresh" | "fanout" as command, *rest]:
            setup()
            module = "verify.refresh" if command == "refresh" else command
            return call(PYTHON, "-m", f"patchscale.{module}", *rest)
        case ["reset"]:
            setup()
            return call(PYTHON, "-m", "patchscale.workspace.reset")
        case ["--", *words] if words:
            setup()
            if words[:2] == ["dvc", "pull"]:
                before_pull()
            return call(*words)
        case [] | ["-h"] | ["--help"]:
            print(__doc__.strip())
        case _:
            allowed = "repro, test, verify, fanout, reset, refresh, -- CMD"
            fail(f"{' '.join(arguments)!r} is not a command; allowed: {allowed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
