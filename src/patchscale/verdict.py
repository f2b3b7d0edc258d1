"""Put the forecasts of a study beside each other, corrected for how many there are."""

from typing import Any

import pandas as pd

from patchscale.paths import RIVAL
from patchscale.scaling import (
    against,
    confidence_set,
    holm,
    power_law,
    size_losses,
    slope,
    trend,
)

Figures = dict[str, Any]


def compare(
    cells: dict[str, pd.DataFrame],
    n_params: dict[str, int],
    baselines: pd.DataFrame,
    horizon: int,
) -> Figures:
    """Return what the losses of one horizon say of size, and of each forecast.

    Parameters
    ----------
    cells
        For each trained cell, smallest first: `date, subset, log_loss, log_loss_seed<k>`.
    n_params
        Counted parameters of each.
    baselines
        `date, subset` and the losses of each baseline, on the same days.
    horizon
        Sessions looked ahead.

    Returns
    -------
    `sizes`; `test` and `val`, the loss against size; `forecasts`, each compared on the test days
    with the volatility logistic and with all others.
    """
    row: Figures = {"sizes": len(cells)}
    for subset in ("test", "val"):
        row[subset] = against_size(cells, n_params, subset, horizon)
    test = [
        table[table["subset"] == "test"].set_index("date") for table in (*cells.values(), baselines)
    ]
    of_cells = [table["log_loss"].rename(cell) for cell, table in zip(cells, test, strict=False)]
    everything = pd.concat([*of_cells, test[-1].drop(columns="subset")], axis=1, sort=True)
    chance = confidence_set(everything, horizon)
    row["forecasts"] = {
        name: {"confidence_set_p": chance[name]}
        | (
            against(everything[name].to_numpy(), everything[RIVAL].to_numpy(), horizon)
            if name != RIVAL
            else {}
        )
        for name in map(str, everything)
    }
    return row


def against_size(
    cells: dict[str, pd.DataFrame], n_params: dict[str, int], subset: str, horizon: int
) -> Figures:
    """Return slope, trend and power law of the loss of single seeds; empty with one size."""
    if len(cells) < 2:
        return {}
    losses = [
        table.loc[table["subset"] == subset].filter(like="log_loss_seed").to_numpy()
        for table in cells.values()
    ]
    sizes = pd.Series(n_params)[list(cells)].to_numpy(dtype=float)
    point, draws = size_losses(losses, horizon)
    return {
        "days": len(losses[0]),
        "seeds": [each.shape[1] for each in losses],
        **slope(point, draws, sizes),
        **trend([each.mean(axis=0) for each in losses]),
        "power_law": power_law(point, draws, sizes),
    }


def correct(horizons: dict[str, Figures], cells: list[str]) -> None:
    """Add p-values corrected by Holm: slopes for the horizons, cells for all trained cells."""
    for subset in ("test", "val"):
        found = {name: row[subset] for name, row in horizons.items() if row[subset]}
        corrected = holm({name: row["slope_p"] for name, row in found.items()})
        for name, p in corrected.items():
            found[name]["slope_p_holm"] = p
    compared = {
        cell: row["forecasts"][cell]
        for row in horizons.values()
        for cell in cells
        if cell in row["forecasts"]
    }
    for cell, p in holm({cell: row["dm_p"] for cell, row in compared.items()}).items():
        compared[cell]["dm_p_holm"] = p
