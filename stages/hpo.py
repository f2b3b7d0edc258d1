"""Choose a cell's architecture and settings; with 0 trials the table row passes through."""

import yaml

from patchscale import budget, config, paths
from patchscale.files import read_json, write_text
from patchscale.stage import run


def main(cell: str) -> None:
    params = config.load_params(paths.PARAMS)
    row, settings = params.cells[cell], params.budgets[config.split_cell(cell)[0]]
    shape = {
        "n_features": len(read_json(paths.kinds(params.features.tier))),
        "patch_length": params.model.patch_length,
        "n_patches": params.model.n_patches,
        "d_model": row.d_model,
        "n_layers": row.n_layers,
    }
    d_ff = budget.solve_d_ff(settings.n_params, **shape)
    best = config.Best(
        cell=cell,
        trial=0,
        n_heads=row.n_heads,
        d_model=row.d_model,
        n_layers=row.n_layers,
        d_ff=d_ff,
        **(settings.model_dump() | {"n_params": budget.count_params(**shape, d_ff=d_ff)}),
    )
    write_text(paths.best(cell), yaml.safe_dump(best.model_dump(), sort_keys=False))


if __name__ == "__main__":
    run(main)
