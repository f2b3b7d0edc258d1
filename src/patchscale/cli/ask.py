"""Command `patchscale ask`: run one experiment and show its figures beside the committed ones."""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from patchscale.check import check
from patchscale.cli.figures import table
from patchscale.fanout.repository import set_parameters
from patchscale.study import paths
from patchscale.study.errors import InputError, without_secrets
from patchscale.study.files import digest, read_json
from patchscale.study.params import load_params, load_space
from patchscale.study.parser import parser
from patchscale.study.safe_yaml import read_yaml
from patchscale.workspace.committed import git
from patchscale.workspace.preserve import preserved, refuse_changed_files, refuse_changed_outputs

KEYS = {
    "budget": ("model.budget", "size, such as 20M"),
    "horizon": ("model.horizon", "sessions ahead, such as h3"),
    "dataset": ("dataset", "key of `datasets`, such as ixic"),
    "csv": ("datasets.csv.path", "your own bars, a file in inputs/"),
    "tier": ("features.tier", "features, such as a100"),
    "theta": ("target.theta", "move that makes a label 1, such as 0.005"),
    "side": ("target.side", "side of the move, up or down"),
    "cost-bps": ("backtest.cost_bps", "cost of a trade, such as 5"),
    "cash-rate": ("backtest.cash_rate", "what cash earns a year, such as 0.02"),
}
"""Parameter that each option sets, and what it means."""
JUDGING = {"backtest", "model"}
"""Sections of params.yaml that change no training."""
SEARCHING = {*JUDGING, "budgets", "hpo", "publish", "walk"}
"""Sections that do not change what a search sees; those of hpo and budgets are the user's."""
NUMBERS = {"theta", "cost-bps", "cash-rate"}
"""Options whose parameter is a number; that of the others is text."""
APPLIED = "Experiment results have been applied to your workspace."
COSTS = {
    "judged": "no training, unless the cell has no results yet; ten seconds to a minute",
    "trained": "a training without a search, with the settings of `start`; about a minute for 2M, "
    "half an hour for 20M. The committed figures come from a search: --search makes one as well",
    "searched": "a search, about seven minutes, and a training; a minute for 2M, half an hour for "
    "20M",
}
"""What to expect on two cores, by what has to be done."""


def main(*words: str) -> None:
    """Run the experiment, print its figures, and leave the workspace as it was."""
    options = _options(words)
    root, figures = Path.cwd(), paths.HEADLINE.as_posix()
    settings, cost = settings_of(options)
    refuse_changed_files(root)
    refuse_settings(root, options)
    refuse_changed_outputs(root)
    name = options.name or free_name(root, settings)
    command = ["dvc", "exp", "run", "--name", name]
    command += [word for setting in settings for word in ("-S", setting)] + ["headline"]
    print(without_secrets(shlex.join(command)), f"expected: {COSTS[cost]}", sep="\n", flush=True)
    committed = json.loads(git(root, "show", f"HEAD:{figures}"))
    labels = labels_of(root)
    with preserved(root, options.keep):
        if code := call(command):
            print(f"patchscale ask: dvc ended with {code}; nothing is kept", file=sys.stderr)
            sys.exit(code)
        found, same = read_json(root / figures), labels_of(root) == labels
    print("\n" + table({"committed": committed, name: found}, same))
    if options.keep:
        print("Its files are in the workspace; `patchscale reset` goes back.")
    else:
        print(f"The workspace is as it was; `dvc exp apply {name}` brings the files.")


def _options(words: tuple[str, ...]) -> argparse.Namespace:
    command = parser(
        "ask",
        "Run an experiment from what is committed, and print its figures beside the committed\n"
        "ones. The experiment stays in DVC under its name (`dvc exp show`); the workspace is left\n"
        "as it was, also after Ctrl-C.",
        "--horizon h3",
        "--theta 0.005 --budget 20K",
        "--cost-bps 5 -S backtest.threshold.min_recall=0.2",
        "--csv inputs/my.csv -S datasets.csv.start=2004-01-02 -S datasets.csv.walk=null",
    )
    for option, (key, meaning) in KEYS.items():
        value = option.rpartition("-")[2].upper()
        command.add_argument(f"--{option}", metavar=value, help=f"{meaning} ({key})")
    command.add_argument(
        "-S", metavar="KEY=VALUE", action="append", default=[], help="any parameter, as for dvc"
    )
    command.add_argument(
        "--search",
        action=argparse.BooleanOptionalAction,
        help="search settings first, or train with those of `start`, where something is trained "
        "(default: no search)",
    )
    command.add_argument("--name", help="name of the experiment (default: ask-...)")
    command.add_argument("--keep", action="store_true", help="leave its files in the workspace")
    options = command.parse_args(words)
    if options.csv and options.dataset:
        command.error("--csv and --dataset exclude each other")
    if not options.S and not given_by(options):
        command.error("nothing is asked")
    return options


def given_by(options: argparse.Namespace) -> dict[str, str]:
    """Return the options of `KEYS` that are given, with their words."""
    words = {name: getattr(options, name.replace("-", "_"), None) for name in KEYS}
    return {name: text for name, text in words.items() if text is not None}


def _word(name: str, text: str) -> str:
    """Return an option's word as `-S` takes it: `3` is no number where a name is needed."""
    looks_else = re.fullmatch(r"[-+.\deE]*|true|false|null|nan|inf", text, re.I)
    return f"'{text}'" if looks_else and name not in NUMBERS else text


def settings_of(options: argparse.Namespace) -> tuple[list[str], str]:
    """Return the settings that `-S` gets, and the key in `COSTS` of what they entail.

    Without `--search`, a change of what a search sees leaves the search out; a search that is not
    stale is never touched.
    """
    given = given_by(options)
    settings = [f"{KEYS[name][0]}={_word(name, text)}" for name, text in given.items()]
    settings = [*(["dataset=csv"] if options.csv else []), *settings, *options.S]
    sections = {re.split(r"[.=]", setting.lstrip("+~"))[0] for setting in settings}
    if sections <= JUDGING:
        return settings, "judged"
    stale = not sections <= SEARCHING
    if options.search is False or (options.search is None and stale and "hpo" not in sections):
        return [*settings, "hpo.trials=0"], "trained"
    searched = stale or "hpo" in sections
    return settings, "searched" if searched and "hpo.trials=0" not in settings else "trained"


def refuse_settings(root: Path, options: argparse.Namespace) -> None:
    """Raise InputError, with what stages `check` and `download` would say, before anything runs.

    A file that cannot be read is named before any setting is tried, and the parameter of an option
    by its option.
    """
    with _named_from(root):
        for file in (*paths.STUDY, paths.PIPELINE):
            read_yaml(root / file)
    with TemporaryDirectory() as name, _named_from(folder := Path(name), given_by(options)):
        for file in paths.STUDY:
            shutil.copy(root / file, folder)
        set_parameters(folder, settings_of(options)[0])
        params = load_params(folder)
        check(params, load_space(folder))
        if params.data.source == "csv":  # Yahoo is asked by the stage only
            from patchscale.download.checks import check_dataset  # with pandas, which takes longer
            from patchscale.download.sources import fetch  # than all else that starts here

            check_dataset(fetch(params.data), params.data, f"datasets.{params.dataset}")


@contextmanager
def _named_from(folder: Path, given: Iterable[str] = ()) -> Iterator[None]:
    """Let an InputError name files without their folder, and parameters by the given options."""
    try:
        yield
    except InputError as error:
        line = str(error).replace(f"{folder}{os.sep}", "")
        for option in given:
            key, meaning = KEYS[option]
            if line.startswith(start := f"{paths.PARAMS}: {key}: "):
                line = f"--{option}: {line.removeprefix(start)} ({meaning})"
        raise InputError(line) from None


def labels_of(root: Path) -> str:
    """Return the digest of the days and labels that metrics/headline.json is of."""
    horizon = read_yaml(root / paths.PARAMS)["model"]["horizon"]
    return digest(root / paths.split(horizon))


def free_name(root: Path, settings: list[str]) -> str:
    """Return a name for an experiment, made of its settings, that none has yet."""
    told = [without_secrets(each) for each in settings if not each.startswith("hpo.")]
    pairs = [each.partition("=") for each in told]
    words = ["ask", *(f"{key.rpartition('.')[2]}-{value}" for key, _, value in pairs)]
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words))
    stem = re.sub(r"\.{2,}", ".", plain)[:50].strip("-.")
    refs = git(root, "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    taken = {ref.rpartition("/")[2] for ref in refs}
    names = (stem if count == 1 else f"{stem}-{count}" for count in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def call(command: list[str]) -> int:
    """Run DVC and return its exit code; stop it and wait where this process is interrupted.

    What it prints is shown, without the line that its results were applied to the workspace, where
    they do not stay; stderr, such as progress, is not touched. A terminal sends Ctrl-C to DVC and
    its stage as well. Another signal reaches this process only, and its children get SIGINT, which
    they answer as they do Ctrl-C.
    """
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = dict(os.environ) | {"PATH": programs, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            _show(process)
        except KeyboardInterrupt as error:
            if str(error) != "SIGINT":
                for child in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):
                        child.send_signal(signal.SIGINT)
            _show(process)
            process.wait()
            raise
    return process.returncode


def _show(process: "subprocess.Popen[str]") -> None:
    """Show what a process prints until it has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() != APPLIED:
            print(line, end="", flush=True)
