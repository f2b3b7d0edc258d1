"""Stage settings: write what the cells of each budget train with.

A walk depends on the file of its budget alone, so that the search of another budget does not make
it stale.
"""

import yaml

from patchscale.study import paths
from patchscale.study.files import write_text
from patchscale.study.params import Best, load_params
from patchscale.study.stage import run
from patchscale.train.settings import settings_of

OF_THE_SEARCH = {"score", "best_score", "standard_error", "seed", "versions"}
"""Fields of a search's result with which nothing is trained."""


def main() -> None:
    params = load_params()
    for budget in params.budgets:
        chosen = {
            cell: fields(settings_of(params, cell))
            for cell, row in params.cells.items()
            if row.budget == budget
        }
        write_text(paths.settings(budget), yaml.safe_dump({"cells": chosen}, sort_keys=False))


def fields(best: Best) -> dict[str, str | int | float]:
    """Return architecture and settings as plain values."""
    return best.model_dump(exclude=OF_THE_SEARCH)


if __name__ == "__main__":
    run(main)
