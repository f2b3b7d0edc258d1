"""Check params.yaml as a whole, before any stage touches an output."""

import os
from pathlib import Path

from patchscale import budget, config, paths
from patchscale.errors import InputError
from patchscale.features import TIERS, tier_features
from patchscale.files import write_text
from patchscale.stage import run


def main() -> None:
    try:
        check()
    except InputError:
        # `dvc exp run -S` leaves params.yaml with an mtime that hides a same-size edit from git,
        # and `git checkout` would not restore it.
        if paths.PARAMS.exists():
            paths.PARAMS.touch()
        raise
    write_text(paths.CHECKED, "params.yaml holds what the stages expect\n")


def check() -> None:
    params = config.load_params(paths.PARAMS)
    for tier in params.features.tiers:
        if tier not in TIERS:
            raise InputError(
                f"{paths.PARAMS}: features.tiers: {tier!r} is unknown; allowed: {', '.join(TIERS)}"
            )
        if tier.endswith("c") and not params.data.volatility:
            raise InputError(
                f"{paths.PARAMS}: features.tiers: {tier!r} needs a volatility index; data set "
                f"{params.dataset} has none (datasets.{params.dataset}.volatility)"
            )
    if params.data.source == "csv":
        for key in ("path", "volatility_path"):
            named = getattr(params.data, key)
            if named and paths.INPUTS not in Path(os.path.normpath(named)).parents:
                raise InputError(
                    f"{paths.PARAMS}: datasets.{params.dataset}.{key}: {named!r} is outside "
                    f"{paths.INPUTS}/; DVC sees changes of files in there only"
                )
    n_features = len(tier_features(params.features.tier))
    for name, cell in params.cells.items():
        try:
            budget.solve_d_ff(
                params.budgets[config.split_cell(name)[0]].n_params,
                n_features=n_features,
                patch_length=params.model.patch_length,
                n_patches=params.model.n_patches,
                d_model=cell.d_model,
                n_layers=cell.n_layers,
            )
        except InputError as error:
            raise InputError(f"{paths.PARAMS}: cells.{name}: {error}") from None
    shown = params.model.budget
    if not params.study.train[shown]:
        size = params.budgets[shown].n_params
        each = budget.BYTES_PER_WEIGHT[params.train.precision[shown]]
        raise InputError(
            f"{paths.PARAMS}: model.budget: {shown} is not trained in this study; each of its "
            f"cells would need {each * size / 2**30:.0f} GiB and activations, and about "
            f"{6 * size * params.model.n_patches * 4000 / 1e12:,.0f} TFLOP an epoch; allow it with "
            f"-S 'study.train={{{shown}: true}}'"
        )


if __name__ == "__main__":
    run(main)
