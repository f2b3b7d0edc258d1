"""Command `patchscale reset`: go back to what is committed."""

from patchscale.study.parser import parser
from patchscale.workspace import reset


def main(*words: str) -> None:
    """Read the words, of which there are none, and reset."""
    parser(
        "reset",
        "Go back to what is committed: parameters, dvc.lock and all outputs. Source files, other\n"
        "edits and files that git does not track are left alone.",
        "",
    ).parse_args(words)
    reset.main()
