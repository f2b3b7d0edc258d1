"""Make a model, and write and read its weights without pickle."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from patchscale.model.patchtst import PatchTST, PatchTSTConfig
from patchscale.study.errors import InputError
from patchscale.study.files import replacing
from patchscale.study.params import Precision


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights in float16, without metadata: equal weights are equal bytes.

    Half the size moves a probability by at most 0.0002 (docs/decisions.md); who predicts loads
    what was written.
    """
    with replacing(path) as temporary:
        halves = {name: tensor.half().contiguous() for name, tensor in weights.items()}
        save_file(halves, temporary)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights written by `save_weights`; no other format is ever opened.

    Raises
    ------
    InputError
        The file is missing or is not safetensors.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a safetensors file ({' '.join(str(error).split())})"
        ) from None


def load_model(path: Path, shape: PatchTSTConfig) -> PatchTST:
    """Return the model of a weights file, in float32 on the CPU.

    Raises
    ------
    InputError
        The file is missing, is not safetensors, or holds another shape.
    """
    with torch.device("meta"):
        model = PatchTST(shape)
    weights = {name: tensor.float() for name, tensor in load_weights(path).items()}
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: weights of another shape ({line})") from None
    return model


def skeleton(shape: PatchTSTConfig, precision: Precision) -> PatchTST:
    """Return a model without weights (device `meta`).

    With `bf16-true` the linear layers are bfloat16 from the start; 2 billion weights never exist
    in float32.
    """
    with torch.device("meta"):
        model = PatchTST(shape)
    if precision == "bf16-true":
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
    return model


def build(
    shape: PatchTSTConfig, precision: Precision, seed: int, base_rate: float = 0.5
) -> PatchTST:
    """Return a model on the CPU with weights drawn for `seed` that forecasts `base_rate`."""
    model = skeleton(shape, precision)
    model.to_empty(device="cpu")
    torch.manual_seed(seed)
    model.initialise(base_rate)
    return model
