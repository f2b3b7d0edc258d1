"""Put the forecasts of a study beside each other, corrected for how many there are."""

import numpy as np
import pandas as pd

from patchscale.backtest.bootstrap import DRAWS, LEVEL, SEED, block_length, estimates, mean
from patchscale.report.scaling import Figures, power_law, size_losses, slope, trend
from patchscale.study.paths import RIVAL


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


def against(model: np.ndarray, rival: np.ndarray, horizon: int) -> Figures:
    """Return a model's mean loss less its rival's, the skill, and the Diebold-Mariano test.

    Parameters
    ----------
    model, rival
        Daily losses on the same days, shape (days,).
    horizon
        Sets the mean block, and with it how far the test takes days to depend on each other.

    Returns
    -------
    `vs_vol_logistic`, `skill` (1 - model / rival), each with its interval, and `dm`, `dm_p`:
    mean over its Newey-West error, two-sided by Student's t.

    References
    ----------
    Diebold and Mariano (1995), "Comparing Predictive Accuracy", J. Business & Economic Statistics.
    """
    from statsmodels.regression.linear_model import OLS

    gap = model - rival
    options = {"maxlags": block_length(horizon) - 1, "use_correction": True}
    test = OLS(gap, np.ones(len(gap))).fit(cov_type="HAC", cov_kwds=options, use_t=True)
    dm, p = (float(test.tvalues[0]), float(test.pvalues[0])) if gap.any() else (0.0, 1.0)

    def statistics(days: np.ndarray) -> dict[str, np.ndarray]:
        of_model, of_rival = mean(days, model), mean(days, rival)
        return {"vs_vol_logistic": of_model - of_rival, "skill": 1 - of_model / of_rival}

    row: Figures = dict(estimates(statistics, len(gap), horizon))
    return row | {"dm": dm, "dm_p": p}


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    corrected = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, corrected), strict=True))


def confidence_set(losses: pd.DataFrame, horizon: int) -> dict[str, float]:
    """Return each forecast's p-value in the model confidence set; those >= 0.05 are in the set.

    The set holds the best forecast with 95 % probability; forecasts outside are measurably worse.

    Parameters
    ----------
    losses
        Daily losses, a column per forecast. Equal ones are one forecast with several names.
    horizon
        Sets the mean block.

    References
    ----------
    Hansen, Lunde and Nason (2011), "The Model Confidence Set", Econometrica 79.
    """
    from arch.bootstrap import MCS

    _, different, twin = np.unique(losses.round(12), axis=1, return_index=True, return_inverse=True)
    if len(different) == 1:
        return dict.fromkeys(map(str, losses), 1.0)
    found = MCS(
        losses.to_numpy()[:, different],
        size=1 - LEVEL,
        reps=DRAWS,
        block_size=block_length(horizon),
        method="R",
        bootstrap="stationary",
        seed=SEED,
    )
    found.compute()
    p = found.pvalues["Pvalue"]
    return {name: float(p[twin[number]]) for number, name in enumerate(map(str, losses))}
