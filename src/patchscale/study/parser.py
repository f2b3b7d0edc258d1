"""Parser of a command's words whose errors are one line, as those of the stages are."""

import argparse
from pathlib import Path
from typing import NoReturn

from patchscale.study.errors import ADDRESS, InputError


class Parser(argparse.ArgumentParser):
    """Parser that raises InputError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the words."""
        raise InputError(f"{message}; `{self.prog} --help` says what is allowed")


def local_file(word: str) -> Path:
    """Return the path of a file of this machine; refuse an address, which may hold a password."""
    if ADDRESS.search(word):
        raise argparse.ArgumentTypeError("a file of this machine is needed, not an address")
    return Path(word)


def parser(command: str, description: str, *examples: str) -> Parser:
    """Return the parser of a command; its help ends with the examples, a line each."""
    lines = [f"  patchscale {command} {example}".rstrip() for example in examples]
    return Parser(
        prog=f"patchscale {command}",
        description=description,
        epilog="\n".join(["examples:" if lines[1:] else "example:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
