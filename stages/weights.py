"""Publish the weights of a cell's first seeds as a DVC output, if they are those of its card."""

import shutil

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_json, replacing
from patchscale.study.params import load_params
from patchscale.study.stage import run


def main(cell: str) -> None:
    params = load_params()
    seeds = params.publish[params.cells[cell].budget]
    replicates = read_json(paths.card(cell), "replicates")["replicates"][:seeds]
    for each in replicates:
        trained = paths.weights(cell, each["seed"])
        if not trained.is_file() or digest(trained) != each["sha256"]:
            raise InputError(
                f"{trained}: {'differs from its card' if trained.is_file() else 'missing'}; "
                f"`dvc repro --single-item --force train@{cell}` trains it again"
            )
    for each in replicates:
        with replacing(paths.published_weights(cell, each["seed"])) as temporary:
            shutil.copyfile(paths.weights(cell, each["seed"]), temporary)


if __name__ == "__main__":
    run(main)
