"""Parser of a command's words whose errors are one line, as those of the stages are."""

import argparse
from typing import NoReturn

from patchscale.study.errors import InputError


class Parser(argparse.ArgumentParser):
    """Parser that raises InputError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the words."""
        raise InputError(f"{message}; `{self.prog} --help` says what is allowed")


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
