"""Forecast every test year of the walk forward with the baselines.

Labels of a test year are never used: each model is fitted on the years before it.
"""

import pandas as pd

from patchscale.bars import read_study
from patchscale.baselines import forecasts, regressors
from patchscale.split.walk import DAYS, no_forecasts, read_walk
from patchscale.study import paths
from patchscale.study.files import write_arrow
from patchscale.study.params import Params, load_params
from patchscale.study.stage import run
from patchscale.study.tables import read_features

NAMES = ("prior", "persistence", "vol_logistic", "har_logistic", "boosting")


def main() -> None:
    params = load_params()
    tables = [walked(params, horizon) for horizon in params.horizons] if params.walk_years else []
    table = pd.concat(tables) if tables else no_forecasts(NAMES)
    write_arrow(paths.walk("baselines"), table[[*DAYS, *NAMES]])


def walked(params: Params, horizon: str) -> pd.DataFrame:
    """Return the probabilities of all years of a horizon."""
    ahead, file = params.horizons[horizon], paths.split(horizon)
    bars, vix = read_study(params)
    splits = {year: read_walk(file, year, ahead, params.split) for year in params.walk_years}
    latest = splits[max(splits)]
    features, kinds = read_features(params.features.tier, latest["date"])
    context = params.window.context_length
    inputs = regressors(bars, vix, features, kinds, context, params.target, ahead)
    years = [forecasts(split, inputs).assign(year=year) for year, split in splits.items()]
    return pd.concat(years).assign(horizon=horizon)


if __name__ == "__main__":
    run(main)
