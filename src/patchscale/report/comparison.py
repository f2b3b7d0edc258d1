"""Compare the forecasts of a study, with correction for multiple tests."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from patchscale.backtest.bootstrap import (
    CONFIDENCE,
    DRAWS,
    SEED,
    Estimate,
    block_length,
    estimates,
    mean,
)
from patchscale.backtest.flatten import flatten
from patchscale.backtest.judge import BENCHMARK, JUDGED
from patchscale.report.scaling import SizeEffect, size_effect
from patchscale.verdict.sign_flip import holm


@dataclass(frozen=True)
class Difference:
    """Loss of a forecast compared with that of the benchmark, on the same days."""

    vs_bar: Estimate
    """Mean difference of the losses; negative where the forecast is better."""
    skill: Estimate
    """Share of the benchmark's loss that is saved."""
    dm: float
    """Statistic of Diebold and Mariano."""
    dm_p: float
    block: int
    """Mean block length in days, that of the daily differences."""
    dm_p_half_block: float
    """`dm_p` with blocks half as long, and twice as long."""
    dm_p_twice_block: float
    dm_p_holm: float = math.nan
    """`dm_p` corrected for the number of cells; NaN for a baseline."""


@dataclass(frozen=True)
class Thousandfold:
    """The biggest cell of a horizon against the one of a thousandth of its parameters."""

    big: str
    small: str
    seeds: list[int]
    """Number of seeds of each."""
    days: int
    difference: Difference
    """On the test days, each cell the mean over its single seeds; `dm_p_holm` counts horizons."""


@dataclass(frozen=True)
class HorizonComparison:
    """Comparison of the forecasts of one horizon."""

    sizes: int
    effects: dict[str, SizeEffect]
    """For `test` and `val`; empty with fewer than two sizes."""
    confidence_set: dict[str, float]
    """For each forecast its p-value in the model confidence set of the test days."""
    differences: dict[str, Difference]
    """For each forecast but the benchmark, on the test days; a cell's is the ensemble of seeds."""
    singles: dict[str, Difference]
    """For each cell the losses of its single seeds on average."""
    thousandfold: Thousandfold | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        forecasts = {
            name: {"confidence_set_p": p}
            | flatten(self.differences.get(name, {}))
            | ({"single_seeds": flatten(self.singles[name])} if name in self.singles else {})
            for name, p in self.confidence_set.items()
        }
        empty: dict[str, Any] = {"test": {}, "val": {}}
        pair = {"thousandfold": flatten(self.thousandfold)} if self.thousandfold else {}
        return {
            "sizes": self.sizes,
            "forecasts": forecasts,
            **empty,
            **flatten(self.effects),
            **pair,
        }


def compare(
    cells: dict[str, pd.DataFrame],
    n_params: dict[str, int],
    baselines: pd.DataFrame,
    horizon: int,
) -> HorizonComparison:
    """Compare sizes on test and validation days, and all forecasts on the test days.

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
    """
    effects = {}
    if len(cells) > 1:
        sizes = pd.Series(n_params)[list(cells)].to_numpy(dtype=float)
        for subset in JUDGED:
            losses = [
                table.loc[table["subset"] == subset].filter(like="log_loss_seed").to_numpy()
                for table in cells.values()
            ]
            effects[subset] = size_effect(losses, sizes, horizon)
    test = [
        table[table["subset"] == "test"].set_index("date") for table in (*cells.values(), baselines)
    ]
    rivals = test.pop().drop(columns="subset")
    of_cells = [table["log_loss"].rename(cell) for cell, table in zip(cells, test, strict=True)]
    everything = pd.concat([*of_cells, rivals], axis=1, sort=True)
    benchmark = everything[BENCHMARK].to_numpy()
    seeds = {
        cell: table.filter(like="log_loss_seed") for cell, table in zip(cells, test, strict=True)
    }
    alone = {cell: table.mean(axis=1).reindex(everything.index) for cell, table in seeds.items()}
    return HorizonComparison(
        sizes=len(cells),
        effects=effects,
        confidence_set=confidence_set(everything, horizon),
        differences={
            name: against(everything[name].to_numpy(), benchmark, horizon)
            for name in map(str, everything)
            if name != BENCHMARK
        },
        singles={
            cell: against(losses.to_numpy(), benchmark, horizon) for cell, losses in alone.items()
        },
        thousandfold=Thousandfold(
            *pair,
            [seeds[cell].shape[1] for cell in pair],
            len(everything),
            against(alone[pair[0]].to_numpy(), alone[pair[1]].to_numpy(), horizon),
        )
        if (pair := a_thousandfold(list(cells), n_params))
        else None,
    )


def a_thousandfold(cells: list[str], n_params: dict[str, int]) -> tuple[str, str] | None:
    """Return the biggest cell and that of a thousandth of its parameters, to a tenth, if any."""
    if not cells:
        return None
    big = max(cells, key=n_params.__getitem__)
    near = {cell: 1000 * n_params[cell] / n_params[big] for cell in cells}
    return next(((big, cell) for cell, ratio in near.items() if 0.9 < ratio < 1.1), None)


def correct(
    horizons: dict[str, HorizonComparison], cells: list[str]
) -> dict[str, HorizonComparison]:
    """Return the comparisons with p-values corrected by Holm's method.

    Slopes and pairs of a thousandfold size are corrected for the number of horizons, the tests of
    trained cells for their number: ensembles among themselves, and single seeds among themselves.
    """
    slopes = {
        subset: holm(
            {
                name: row.effects[subset].slope_p
                for name, row in horizons.items()
                if subset in row.effects
            }
        )
        for subset in JUDGED
    }
    ensembles = _holm_of_cells([row.differences for row in horizons.values()], cells)
    singles = _holm_of_cells([row.singles for row in horizons.values()], cells)
    pairs = {name: row.thousandfold for name, row in horizons.items() if row.thousandfold}
    of_pairs = holm({name: pair.difference.dm_p for name, pair in pairs.items()})
    return {
        horizon: replace(
            row,
            effects={
                subset: replace(effect, slope_p_holm=slopes[subset][horizon])
                for subset, effect in row.effects.items()
            },
            differences=_corrected(row.differences, ensembles),
            singles=_corrected(row.singles, singles),
            thousandfold=replace(
                pairs[horizon],
                difference=replace(pairs[horizon].difference, dm_p_holm=of_pairs[horizon]),
            )
            if horizon in pairs
            else None,
        )
        for horizon, row in horizons.items()
    }


def _holm_of_cells(rows: list[dict[str, Difference]], cells: list[str]) -> dict[str, float]:
    return holm({cell: row[cell].dm_p for row in rows for cell in cells if cell in row})


def _corrected(rows: dict[str, Difference], p: dict[str, float]) -> dict[str, Difference]:
    return {
        name: replace(row, dm_p_holm=p[name]) if name in p else row for name, row in rows.items()
    }


def against(model: np.ndarray, benchmark: np.ndarray, horizon: int) -> Difference:
    """Return the difference of the losses of a model and of the benchmark.

    The test of Diebold and Mariano divides the mean difference by its Newey-West error; its
    p-value is two-sided by Student's t. With a mean block length of b days the error has b - 1
    lags: its weights are then those of a bootstrap of such blocks, and it has the horizon - 1 lags
    at least by which labels overlap.

    Parameters
    ----------
    model, benchmark
        Daily losses on the same days, shape (days,).
    horizon
        Least mean block length.

    References
    ----------
    Diebold and Mariano (1995), "Comparing Predictive Accuracy", J. Business & Economic Statistics.
    """
    gap = model - benchmark
    block = block_length(gap, horizon)
    dm, p = dm_test(gap, block)

    def statistics(days: np.ndarray) -> dict[str, np.ndarray]:
        of_model, of_benchmark = mean(days, model), mean(days, benchmark)
        return {"vs_bar": of_model - of_benchmark, "skill": 1 - of_model / of_benchmark}

    found = estimates(statistics, len(gap), block)
    return Difference(
        found["vs_bar"],
        found["skill"],
        dm=dm,
        dm_p=p,
        block=block,
        dm_p_half_block=dm_test(gap, math.ceil(block / 2))[1],
        dm_p_twice_block=dm_test(gap, 2 * block)[1],
    )


def dm_test(gap: np.ndarray, block: int) -> tuple[float, float]:
    """Return statistic and p-value of Diebold and Mariano for daily differences, shape (days,)."""
    from statsmodels.regression.linear_model import OLS

    if not gap.any():
        return 0.0, 1.0
    options = {"maxlags": block - 1, "use_correction": True}
    test = OLS(gap, np.ones(len(gap))).fit(cov_type="HAC", cov_kwds=options, use_t=True)
    return float(test.tvalues[0]), float(test.pvalues[0])


def confidence_set(losses: pd.DataFrame, horizon: int) -> dict[str, float]:
    """Return each forecast's p-value in the model confidence set; those >= 0.05 are in the set.

    The set contains the best forecast with 95 % probability; forecasts outside are measurably
    worse.

    Parameters
    ----------
    losses
        Daily losses, a column per forecast. Equal columns count as one forecast.
    horizon
        Least mean block length. It is the longest that a forecast's difference from the mean of
        all forecasts has.

    References
    ----------
    Hansen, Lunde and Nason (2011), "The Model Confidence Set", Econometrica 79.
    """
    from arch.bootstrap import MCS

    _, different, twin = np.unique(losses.round(12), axis=1, return_index=True, return_inverse=True)
    if len(different) == 1:
        return dict.fromkeys(map(str, losses), 1.0)
    daily = losses.to_numpy()[:, different]
    gaps = daily - daily.mean(axis=1, keepdims=True)
    found = MCS(
        daily,
        size=1 - CONFIDENCE,
        reps=DRAWS,
        block_size=max(block_length(gap, horizon) for gap in gaps.T),
        method="R",
        bootstrap="stationary",
        seed=SEED,
    )
    found.compute()
    p = found.pvalues["Pvalue"]
    return {name: float(p[twin[number]]) for number, name in enumerate(map(str, losses))}
