"""Stage check: refuse wrong parameters before any stage touches an output."""

import os
import subprocess
from pathlib import Path

from patchscale.check import check
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import write_text
from patchscale.study.params import load_params, load_space
from patchscale.study.stage import run


def way_back() -> str:
    """Return how to undo parameters that are not as committed; nothing where git cannot tell."""
    copy = Path(os.environ.get("DVC_ROOT", ".")).resolve() != Path.cwd()  # a queued experiment
    words = ("git", "diff", "--quiet", "HEAD", "--", *map(str, paths.STUDY))
    try:
        changed = subprocess.run(words, capture_output=True, check=False).returncode == 1
    except FileNotFoundError:
        changed = False
    undo = "; `python3 dev.py reset` goes back to what is committed"
    return undo if changed and not copy else ""


def main() -> None:
    try:
        check(load_params(), load_space())
    except InputError as error:
        # `dvc exp run -S` leaves a file with a time that hides an edit of the same size from git,
        # and `git checkout` would not restore it.
        for file in paths.STUDY:
            if file.exists():
                file.touch()
        raise InputError(f"{error}{way_back()}") from None
    write_text(paths.CHECKED, "params.yaml holds what the stages expect\n")


if __name__ == "__main__":
    run(main)
