"""Tables of the verdict: losses of each year, and calibration in the large."""

import pandas as pd

from patchscale.verdict.bar import Bar
from patchscale.verdict.forecasts import ENSEMBLE
from patchscale.verdict.losses import SINGLE, Size, Sizes, Yearly, over_horizons

COLUMNS = [
    "budget",
    "n_params",
    "seeds",
    "horizon",
    "year",
    "n",
    "positives",
    "log_loss_single_seeds",
    "log_loss_ensemble",
    "log_loss_bar",
    "single_seeds_minus_bar",
    "ensemble_minus_bar",
    "mean_p",
    "mean_p_bar",
]


def calibration(
    sizes: Sizes, baselines: Yearly, bar: Bar, horizons: int
) -> dict[str, dict[str, float]]:
    """Return for each year the base rate and mean probabilities, means over horizons."""
    rate = baselines.days["positives"] / baselines.days["n"]
    columns = {"base_rate": rate, bar.name: baselines.chances[bar.name]}
    columns |= {name: size.yearly.chances[ENSEMBLE] for name, size in sizes.items()}
    means = {name: over_horizons(each, horizons) for name, each in columns.items()}
    return {
        str(year): {name: float(rows[year]) for name, rows in means.items() if year in rows.index}
        for year in means["base_rate"].index
    }


def table(sizes: Sizes, baselines: Yearly, bar: Bar) -> pd.DataFrame:
    """Return a row per budget, horizon and year that is walked.

    Columns: `budget, n_params, seeds, horizon, year, n, positives`; the log-loss of single seeds
    on average, of the ensemble and of the bar, and the first two less the last, in nats; the mean
    probability of the seeds and of the bar.
    """
    rows = [rows_of(name, size, baselines, bar) for name, size in sizes.items()]
    return pd.concat(rows) if rows else pd.DataFrame(columns=COLUMNS)


def rows_of(name: str, size: Size, baselines: Yearly, bar: Bar) -> pd.DataFrame:
    """Return the rows of a budget."""
    rows = size.yearly.days.copy()
    rows["budget"], rows["n_params"], rows["seeds"] = name, size.n_params, size.seeds.shape[1]
    rows["log_loss_single_seeds"] = size.loss(SINGLE)
    rows["log_loss_ensemble"] = size.loss(ENSEMBLE)
    rows["log_loss_bar"] = baselines.losses[bar.name]
    rows["single_seeds_minus_bar"] = rows["log_loss_single_seeds"] - rows["log_loss_bar"]
    rows["ensemble_minus_bar"] = rows["log_loss_ensemble"] - rows["log_loss_bar"]
    rows["mean_p"] = size.yearly.chances[ENSEMBLE]
    rows["mean_p_bar"] = baselines.chances[bar.name]
    return rows.reset_index()[COLUMNS]
