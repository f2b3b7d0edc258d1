"""Entry point `patchscale`: find the command and call it; only its own code is imported."""

import importlib
import os
import sys
from typing import NamedTuple

from patchscale.study.errors import InputError, shown
from patchscale.study.stage import run


class Command(NamedTuple):
    """A command: the module whose `main` takes its words, and what it does."""

    module: str
    summary: str


COMMANDS = {
    "import-csv": Command("cli.import_csv", "make a vendor's export a data set of the study"),
    "predict": Command("cli.predict", "forecast the sessions after the last close"),
    "features": Command("cli.features", "say what a feature is, or print the dictionary"),
    "verify": Command("verify.__main__", "check that the code produces the published results"),
    "fanout": Command("fanout.__main__", "run stale stages side by side"),
    "refresh": Command("verify.refresh", "download a data set anew and compare it"),
    "reset": Command("cli.reset", "go back to what is committed, after an experiment"),
}
HELP = ("-h", "--help")


def overview() -> str:
    """Return the help of the program."""
    rows = [f"  {name:<12}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: patchscale COMMAND ...",
            "",
            "A scaling study of PatchTST on daily index data. Run it in the folder of the study.",
            "",
            *rows,
            "",
            "`patchscale COMMAND --help` explains a command. Stages are run by `dvc repro`.",
            "",
            "example: patchscale import-csv ~/Downloads/SPY.csv",
        ]
    )


def call(*words: str) -> None:
    """Run the command that the first word names, with the other words.

    Raises
    ------
    InputError
        There is no such command.
    """
    if not words or words[0] in HELP:
        print(overview())
        return
    name, *rest = words
    if name not in COMMANDS:
        allowed = ", ".join(COMMANDS)
        raise InputError(f"{shown(name)} is not a command; allowed: {allowed}")
    importlib.import_module(f"patchscale.{COMMANDS[name].module}").main(*rest)


def main() -> None:
    """Run the command line of this process; end with the exit codes of the stages."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.argv[0] = f"patchscale {name}" if name in COMMANDS else "patchscale"
    try:
        run(call)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
