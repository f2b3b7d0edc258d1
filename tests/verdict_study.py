"""A synthetic study whose test years are walked: forecasts, labels and cards in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import write_study

from patchscale.study import paths
from patchscale.study.files import write_arrow, write_json
from patchscale.study.params import load_params

N_PARAMS = {"20K": 2e4, "200K": 2e5, "2M": 2e6, "20M": 2e7, "200M": 2e8, "2B": 2e9}
RIVALS = ("prior", "persistence", "vol_logistic", "har_logistic", "boosting")
EIGHT = range(2007, 2015)


def days_of(year: int) -> pd.DatetimeIndex:
    """Return 40 days of a year."""
    return pd.bdate_range(f"{year}-01-05", periods=40)


def labels_of(horizons: Sequence[str], years: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Return `horizon, date, label` of the years and of the one before them."""
    random = np.random.default_rng(seed)
    days = pd.DatetimeIndex(np.concatenate([days_of(y) for y in (min(years) - 1, *years)]))
    tables = [
        pd.DataFrame({"horizon": h, "date": days, "label": random.integers(0, 2, len(days))})
        for h in horizons
    ]
    return pd.concat(tables, ignore_index=True)


def forecasts_of(
    labels: pd.DataFrame, years: Sequence[int], noise: Mapping[str, float], seed: int = 1
) -> pd.DataFrame:
    """Return `horizon, year, date, subset` and a probability per forecast.

    Probabilities are right on average and the further from the label the larger the noise.
    """
    random = np.random.default_rng(seed)
    parts = []
    for year in years:
        for subset, of in (("val", year - 1), ("test", year)):
            part = labels[labels["date"].dt.year == of]
            part = part[["horizon", "date"]].assign(year=year, subset=subset)
            parts.append(part[["horizon", "year", "date", "subset"]])
    table = pd.concat(parts).sort_values(["horizon", "year", "date"], ignore_index=True)
    truth = table.merge(labels, on=["horizon", "date"])["label"].to_numpy() - 0.5
    year_effect = table["year"].map({year: 0.2 * random.standard_normal() for year in years})
    for name, size in noise.items():
        z = truth - year_effect + size * (1 + random.standard_normal(len(table)))
        table[name] = 1 / (1 + np.exp(-z))
    return table


def walked_study(
    path: Path,
    seeds: Mapping[str, int],
    years: Sequence[int] = EIGHT,
    noise: Mapping[str, float] | None = None,
) -> Path:
    """Write a study with forecasts of the given numbers of seeds; 0 is not walked.

    Parameters
    ----------
    path
        Folder of the study.
    seeds
        For each budget the number of its seeds; budgets without one have none.
    years
        The test years.
    noise
        Noise of the forecasts of a budget, by default 0.5.
    """
    write_study(path)
    params = load_params(path)
    labels = labels_of(list(params.horizons), years)
    for horizon, rows in labels.groupby("horizon"):
        split = rows[["date", "label"]].assign(contiguous="train", scattered="train")
        split.loc[split.index[-60:], "contiguous"] = ["purged"] * 20 + ["test"] * 40
        write_arrow(path / paths.split(str(horizon)), split)
    rivals = {name: 1.5 - 0.3 * place for place, name in enumerate(RIVALS)}
    write_arrow(path / paths.walk("baselines"), forecasts_of(labels, years, rivals))
    for number, budget in enumerate(params.budgets):
        size = (noise or {}).get(budget, 0.5)
        names = {f"p_seed{seed}": size for seed in range(seeds.get(budget, 0))}
        walked = years if names else []
        table = forecasts_of(labels, years, names, seed=number + 2)
        write_arrow(path / paths.walk(budget), table[table["year"].isin(walked)])
    for cell, row in params.cells.items():
        n_params = N_PARAMS[row.budget] * (1 + params.horizons[row.horizon] / 100)
        write_json(path / paths.card(cell), {"trained": True, "n_params": round(n_params)})
    return path
