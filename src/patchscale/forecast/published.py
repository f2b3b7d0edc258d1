"""Published models: their cards, their weights and their shapes."""

from pathlib import Path
from typing import Any

from patchscale.model.patchtst import PatchTST, PatchTSTConfig
from patchscale.model.weights import load_weights
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_json
from patchscale.study.params import Params
from patchscale.study.tables import read_kinds
from patchscale.train.inputs import shape_of
from patchscale.train.settings import settings_of

RESTORE = "`dvc pull` brings the published ones"


def read_card(params: Params, cell: str, root: Path) -> dict[str, Any]:
    """Read the card of a trained cell; raise InputError if it is of another data set."""
    card: dict[str, Any] = read_json(root / paths.card(cell), "trained")
    if card["trained"] and card.get("dataset") != params.dataset:
        raise InputError(
            f"{paths.card(cell)}: dataset is {card.get('dataset')!r}, and params.yaml selects "
            f"{params.dataset!r}; `dvc repro` trains on that"
        )
    return card


def weights_of(params: Params, cell: str, seed: int, root: Path) -> Path:
    """Return the published weights of a replicate, whose content is that of its card."""
    path = root / paths.published_weights(cell, seed)
    card = read_card(params, cell, root)
    try:
        sums = {each["seed"]: each["sha256"] for each in card["replicates"]}
    except (KeyError, TypeError):
        raise InputError(
            f"{paths.card(cell)}: replicates: seed and sha256 of each are needed; {RESTORE}"
        ) from None
    if not path.is_file():
        raise InputError(f"{path}: missing; {RESTORE}")
    if digest(path) != sums.get(seed):
        raise InputError(f"{path}: not the weights of {paths.card(cell)}; {RESTORE}")
    return path


def seeds_here(params: Params, cell: str, root: Path) -> list[int]:
    """Return the seeds of a cell whose weights are here."""
    seeds = range(params.publish[params.cells[cell].budget])
    return [seed for seed in seeds if (root / paths.published_weights(cell, seed)).is_file()]


def shape_of_cell(params: Params, cell: str, root: Path) -> PatchTSTConfig:
    """Return the shape of a cell's model."""
    n_features = len(read_kinds(root / paths.kinds(params.features.tier)))
    return shape_of(settings_of(params, cell, root), params.window, n_features)


def model_of(path: Path, shape: PatchTSTConfig) -> PatchTST:
    """Return the model of a weights file, in float32 on the CPU.

    It is made on the CPU and then filled: on the device `meta`, as `load_model` does for weights of
    any size, torch would first import its compiler for two seconds.

    Raises
    ------
    InputError
        The file is not safetensors, or holds another shape.
    """
    model = PatchTST(shape)
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: weights of another shape ({line})") from None
    return model
