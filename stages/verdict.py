"""Answer the question of the study over all test years: metrics/verdict.json and its details."""

from typing import Any

import pandas as pd

from patchscale.backtest.flatten import flatten
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_json, write_csv, write_json, write_metrics
from patchscale.study.params import Params, load_params
from patchscale.study.stage import run
from patchscale.verdict.bar import RIVALS, choose_bar
from patchscale.verdict.forecasts import (
    read_forecasts,
    refuse_other_days,
    with_ensemble,
    with_labels,
)
from patchscale.verdict.losses import SINGLE, Size, yearly
from patchscale.verdict.result import Verdict, judge, no_verdict
from patchscale.verdict.tables import COLUMNS, table

DECIMALS = 12


def main() -> None:
    params = load_params()
    labels = {
        horizon: read_split(
            paths.split(horizon), labels_of={"train", "val", "test", "purged"}
        )  # a test year holds days of all subsets of the fixed division
        for horizon in params.horizons
    }
    path = paths.walk("baselines")
    forecasts = read_forecasts(path, RIVALS)
    if forecasts.empty:
        write(no_verdict(list(params.budgets)), pd.DataFrame(columns=COLUMNS), params)
        return
    refuse_gaps(forecasts, list(params.horizons))
    forecasts = with_labels(path, forecasts, labels)
    bar, baselines = choose_bar(forecasts), yearly(forecasts)
    sizes, not_walked = {}, []
    for budget in params.budgets:
        path = paths.walk(budget)
        walked = read_forecasts(path)
        if walked.empty:
            not_walked.append(budget)
            continue
        refuse_other_days(path, walked, forecasts)
        sizes[budget] = Size(
            mean_parameters(params, budget),
            yearly(with_labels(path, with_ensemble(walked), labels)),
        )
    write(judge(sizes, not_walked, baselines, bar), table(sizes, baselines, bar), params)


def write(verdict: Verdict, rows: pd.DataFrame, params: Params) -> None:
    write_json(paths.VERDICT, flatten(verdict))
    write_metrics(paths.VERDICT_METRICS, figures(verdict), significant=["p"])
    write_csv(paths.VERDICT_CSV, rows, DECIMALS)
    write_csv(paths.DIFFERENCE_CSV, differences(verdict, params))


def figures(verdict: Verdict) -> dict[str, Any]:
    """Return what a person compares: the slope of the one primary test, if there is one."""
    primary = verdict.primary
    if primary is None:
        return {"years": len(verdict.years)}
    return {
        "slope": primary.mean.value,
        "from": primary.mean.low,
        "to": primary.mean.high,
        "p": primary.p,
        "years": primary.years,
    }


def differences(verdict: Verdict, params: Params) -> pd.DataFrame:
    """Return for each walked cell its log-loss less that of the bar, single seeds on average."""
    rows = [
        {
            "budget": params.cells[cell].budget,
            "horizon": params.cells[cell].horizon,
            "difference": test.mean.value,
            "low": test.mean.low,
            "high": test.mean.high,
            "years": test.years,
        }
        for cell, test in verdict.cells[SINGLE].items()
    ]
    return pd.DataFrame(rows, columns=["budget", "horizon", "difference", "low", "high", "years"])


def refuse_gaps(baselines: pd.DataFrame, horizons: list[str]) -> None:
    """Refuse baselines that lack a horizon in a year."""
    pairs = baselines[["horizon", "year"]].drop_duplicates()
    years = pairs["year"].nunique()
    if set(pairs["horizon"]) != set(horizons) or len(pairs) != years * len(horizons):
        raise InputError(
            f"{paths.walk('baselines')}: {len(pairs)} pairs of horizon and year; each of "
            f"{', '.join(horizons)} is needed in every test year; `dvc repro` makes them"
        )


def mean_parameters(params: Params, budget: str) -> float:
    """Return the counted parameters of a budget, mean over its horizons."""
    cells = [cell for cell, row in params.cells.items() if row.budget == budget]
    counts = [read_json(paths.card(cell), "n_params")["n_params"] for cell in cells]
    return float(sum(counts) / len(counts))


if __name__ == "__main__":
    run(main)
