"""Stage check: refuse wrong parameters before any stage touches an output."""

from patchscale.check import check
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import write_text
from patchscale.study.params import load_params, load_space
from patchscale.study.stage import run


def main() -> None:
    try:
        check(load_params(), load_space())
    except InputError:
        # `dvc exp run -S` leaves a file with a time that hides an edit of the same size from git,
        # and `git checkout` would not restore it.
        for file in (paths.PARAMS, paths.GRID, paths.SPACE):
            if file.exists():
                file.touch()
        raise
    write_text(paths.CHECKED, "params.yaml holds what the stages expect\n")


if __name__ == "__main__":
    run(main)
