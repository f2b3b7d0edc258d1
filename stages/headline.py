"""Copy the figures and plots of one cell to fixed names."""

from typing import Any

import pandas as pd

from patchscale.backtest.bootstrap import Estimate, mean_with_interval
from patchscale.backtest.judge import BENCHMARK
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_csv, read_json, write_csv, write_metrics
from patchscale.study.params import load_params
from patchscale.study.stage import run
from patchscale.study.tables import read_losses


def main() -> None:
    params = load_params()
    budget, horizon = params.model.budget, params.model.horizon
    cell = f"{budget}-{horizon}"
    judged = read_json(paths.backtest_metrics(cell), "val", "test", "strategy")
    ours, theirs = read_losses(cell, "log_loss"), read_losses(f"baselines-{horizon}", "prior")
    if not ours[["date", "subset"]].equals(theirs[["date", "subset"]]):
        raise InputError(
            f"{paths.losses(cell)}: other days than in {paths.losses(f'baselines-{horizon}')}; "
            f"`dvc repro` makes both from the same split"
        )
    is_test = ours["subset"] == "test"
    difference = (ours["log_loss"] - theirs[BENCHMARK])[is_test].to_numpy()
    estimate = mean_with_interval(difference, params.horizons[horizon])
    for kind, table in plots(cell, horizon, judged["test"]).items():
        write_csv(paths.plot("headline", kind), table.assign(cell=cell))
    write_metrics(paths.HEADLINE, {"cell": cell} | figures(judged, estimate))


def figures(judged: dict[str, Any], minus_bar: Estimate) -> dict[str, Any]:
    """Return what a person compares: few figures, with names that fit a line.

    All but `val_loss` are of the test year. `metrics/backtest/<cell>.json` has all figures, with
    their intervals.
    """
    test, strategy = judged["test"], judged["strategy"]
    held = strategy["buy_and_hold"]["total_return"]
    return {
        "n": test["n"],
        "loss": test["log_loss"],
        "val_loss": judged["val"]["log_loss"],
        "gap": minus_bar.value,
        "gap_low": minus_bar.low,
        "gap_high": minus_bar.high,
        "auc": test["auc"],
        "sharpe": strategy["sharpe"],
        "excess": strategy["total_return"] - held,
    }


def plots(cell: str, horizon: str, test: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the table of each plot of the cell."""
    return {
        "calibration": read_csv(paths.plot("calibration", cell)),
        "curves": mean_curve(read_csv(paths.plot("curves", cell))),
        "equity": equity(cell, horizon),
        "precision_recall": read_csv(paths.plot("precision_recall", cell)).assign(
            base_rate=test["positives"] / test["n"]
        ),
    }


def equity(cell: str, horizon: str) -> pd.DataFrame:
    """Return the wealth of the cell, of holding the market and of the bar."""
    benchmark = read_csv(paths.plot("equity", f"bar-{horizon}"))
    benchmark = benchmark[["date", "strategy"]].rename(columns={"strategy": "bar"})
    wealth = read_csv(paths.plot("equity", cell))
    return wealth.merge(benchmark, on="date", validate="one_to_one")


def mean_curve(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of every epoch that all seeds reached."""
    epochs = curves.groupby("epoch")
    means = epochs[["train_log_loss", "val_log_loss"]].mean()
    return means[epochs.size() == curves["seed"].nunique()].reset_index()


if __name__ == "__main__":
    run(main)
