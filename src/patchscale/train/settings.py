"""Settings of a training on this machine."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from patchscale.model.size import count_params, input_size, same_proportions, solve_d_ff
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.params import Best, Params, Precision, Train, load_best
from patchscale.study.stage import may_compile
from patchscale.study.tables import read_kinds
from patchscale.train.device import can_compile, emulates_bfloat16, leave_unwritable_cache

WORTH_COMPILING = 10**9
"""Steps times parameters: compiling takes 8 to 14 s, and a step costs by its parameters."""


@dataclass(frozen=True)
class Settings:
    """Settings of the training loop, besides data, model shape and seed."""

    lr: float
    weight_decay: float
    warmup: float
    """Share of all steps in which the rate rises."""
    epochs: int
    batch_size: int
    patience: int
    """Epochs without gain that end a run; 0 for never."""
    min_delta: float
    clip: float
    precision: Precision = "32-true"
    device: str = "cpu"
    compiled: bool = False
    """Whether layers are compiled by torch.compile."""
    in_float32: bool = False
    """Whether `bf16-mixed` computes in float32, as this CPU only emulates bfloat16."""


def chosen_settings(best: Best, rules: Train, precision: Precision) -> dict[str, Any]:
    """Return the settings of a training that are the same on every machine."""
    return {
        **best.model_dump(include={"lr", "weight_decay", "epochs"}),
        **rules.model_dump(include={"warmup", "batch_size", "patience", "min_delta", "clip"}),
        "precision": precision,
    }


def settings_of(params: Params, cell: str, root: Path = Path()) -> Best:
    """Return what a cell trains with: the result of its own search, or of the base budget's.

    The settings of another budget keep their rate, decay, dropout and epochs; the shape keeps its
    proportions. A study that was not searched holds the row of the tables.

    Raises
    ------
    InputError
        A file is missing or damaged, the result has another size than its budget, or no shape has
        the budget's count.
    """
    row = params.cells[cell]
    budget = params.budgets[row.budget]
    n_features = len(read_kinds(root / paths.kinds(params.features.tier)))
    size = input_size(params.window, n_features)
    source = params.source_of(row.budget)
    best = load_best(params, f"{source}-{row.search}", root)
    own = size | {"d_model": best.d_model, "n_layers": best.n_layers}
    d_ff = solve_d_ff(params.budgets[source].n_params, **own)
    found, needed = (best.d_ff, best.n_params), (d_ff, count_params(**own, d_ff=d_ff))
    if found != needed:
        raise InputError(
            f"{paths.best(best.cell)}: d_ff and n_params are {found}; the budget needs {needed}; "
            f"`dvc repro hpo@{best.cell}` makes the file again"
        )
    if budget.settings != "transfer":
        return best
    shape = best.model_dump(include={"d_model", "n_layers", "n_heads", "d_ff"})
    return best.model_copy(update=same_proportions(budget.n_params, **shape, **size))


def origin_of(params: Params, cell: str, best: Best) -> dict[str, str | int | bool]:
    """Return where the settings of a cell come from, for its card."""
    return {
        "rule": params.budgets[params.cells[cell].budget].settings,
        "study": best.cell,
        "trial": best.trial,
        "searched": best.score is not None,
    }


def settings_for(
    best: Best, rules: Train, precision: Precision, samples: int, processes: int = 1
) -> Settings:
    """Return the settings of a training over `samples` samples on this machine.

    Layers are compiled where there is enough work to repay the compilation, where one process
    trains, and where compiling works. Products are computed in float32 instead of autocast's
    bfloat16 where that would be emulated. The settings say whether they are.
    """
    leave_unwritable_cache()
    device = device_of_this_machine()
    work = best.n_params * best.epochs * math.ceil(samples / rules.batch_size)
    return Settings(
        **chosen_settings(best, rules, precision),
        device=device,
        compiled=processes == 1 and worth_compiling(work, device),
        in_float32=precision == "bf16-mixed" and emulates_bfloat16(device),
    )


def device_of_this_machine() -> str:
    """Return the first available device of `cuda`, `mps` and `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def worth_compiling(work: int, device: str) -> bool:
    """Tell whether `work` repays torch.compile, and whether it is allowed and works here.

    `work` is the number of steps times that of parameters.
    """
    pays = work >= WORTH_COMPILING and device in ("cpu", "cuda")
    return pays and may_compile() and can_compile(device)
