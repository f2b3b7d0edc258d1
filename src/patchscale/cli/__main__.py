"""Entry point `patchscale`: find the command and call it; only its own code is imported."""

import os
import sys
from collections.abc import Callable

from patchscale.study.errors import InputError, shown
from patchscale.study.stage import run

COMMANDS = {
    "import-csv": "make a vendor's export a data set of the study",
    "ask": "run an experiment and compare its figures with the committed ones",
    "predict": "forecast the sessions after the last close",
    "export": "write a model as a folder for the Hugging Face Hub",
    "features": "say what a feature is, or print the dictionary",
    "verify": "check that the code produces the published results",
    "fanout": "run stale stages side by side",
    "refresh": "download a data set anew and compare it",
    "reset": "go back to what is committed, after an experiment",
}
"""What each command does."""
HELP = ("-h", "--help")


def overview() -> str:
    """Return the help of the program."""
    rows = [f"  {name:<12}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: patchscale COMMAND ...",
            "       patchscale --version",
            "",
            "A scaling study of PatchTST on daily index data. Run it in the folder of the study.",
            "",
            *rows,
            "",
            "`patchscale COMMAND --help` explains a command. Stages are run by `dvc repro`.",
            "",
            "example: patchscale ask --horizon h3",
        ]
    )


def main_of(name: str) -> Callable[..., None]:
    """Return the `main` of a command; the imports of the others are not made."""
    match name:
        case "import-csv":
            from patchscale.cli.import_csv import main
        case "ask":
            from patchscale.cli.ask import main
        case "predict":
            from patchscale.cli.predict import main
        case "export":
            from patchscale.cli.export import main
        case "features":
            from patchscale.cli.features import main
        case "verify":
            from patchscale.verify.__main__ import main
        case "fanout":
            from patchscale.fanout.__main__ import main
        case "refresh":
            from patchscale.verify.refresh import main
        case "reset":
            from patchscale.cli.reset import main
        case _:
            raise InputError(f"{shown(name)} is not a command; allowed: {', '.join(COMMANDS)}")
    return main


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
    if words == ("--version",):
        from importlib.metadata import version

        print(f"patchscale {version('patchscale')}")
        return
    name, *rest = words
    main_of(name)(*rest)


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
