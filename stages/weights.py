"""Publish the weights of a cell's first replicate as a DVC output, if they are of its card."""

import shutil

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_json, replacing
from patchscale.study.stage import run


def main(cell: str) -> None:
    first = read_json(paths.card(cell), "replicates")["replicates"][0]
    trained = paths.weights(cell, first["seed"])
    if not trained.is_file() or digest(trained) != first["sha256"]:
        raise InputError(
            f"{trained}: {'differs from its card' if trained.is_file() else 'missing'}; "
            f"`dvc repro --single-item --force train@{cell}` trains it again"
        )
    with replacing(paths.published_weights(cell, first["seed"])) as temporary:
        shutil.copyfile(trained, temporary)


if __name__ == "__main__":
    run(main)
