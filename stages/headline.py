"""Copy the figures and plots of one cell to fixed names."""

from typing import Any

import pandas as pd

from patchscale.backtest.bootstrap import mean_with_interval
from patchscale.backtest.flatten import ENDS, flatten_estimate
from patchscale.backtest.judge import BENCHMARK
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import (
    read_bytes,
    read_csv,
    read_json,
    replacing,
    write_csv,
    write_json,
)
from patchscale.study.params import load_params
from patchscale.study.stage import run
from patchscale.study.tables import read_losses

SCORES = ("precision", "recall", "auc", "log_loss", "brier_skill", "ece")
FACTS = ("n", "positives", "signals", "p_range", "collapsed")
RETURNS = ("trades", "label_hit_rate", "win_rate", "exposure", "turnover", "total_return")
RISKS = ("max_drawdown", "sharpe", "sharpe_low", "sharpe_high", "probabilistic_sharpe")
RULES = ("cost_bps", "cash_rate", "sessions")


def main() -> None:
    params = load_params()
    budget, horizon = params.model.budget, params.model.horizon
    cell = f"{budget}-{horizon}"
    card = read_json(paths.card(cell), "n_params", "replicates", "data_as_of")
    judged = read_json(paths.backtest_metrics(cell), "threshold", "val", "test", "strategy")
    benchmark = read_json(paths.baseline_metrics(horizon), BENCHMARK)[BENCHMARK]
    ours, theirs = read_losses(cell, "log_loss"), read_losses(f"baselines-{horizon}", "prior")
    if not ours[["date", "subset"]].equals(theirs[["date", "subset"]]):
        raise InputError(
            f"{paths.losses(cell)}: other days than in {paths.losses(f'baselines-{horizon}')}; "
            f"`dvc repro` makes both from the same split"
        )
    is_test = ours["subset"] == "test"
    difference = (ours["log_loss"] - theirs[BENCHMARK])[is_test].to_numpy()
    estimate = mean_with_interval(difference, params.horizons[horizon])
    for kind in ("calibration", "precision_recall"):
        with replacing(paths.plot("headline", kind)) as temporary:
            temporary.write_bytes(read_bytes(paths.plot(kind, cell)))
    write_csv(paths.plot("headline", "equity"), equity(cell, horizon))
    curves = read_csv(paths.plot("curves", cell))
    write_csv(paths.plot("headline", "curves"), mean_curve(curves))
    strategy = judged["strategy"]
    write_json(
        paths.HEADLINE,
        {
            "cell": cell,
            "n_params": card["n_params"],
            "seeds": len(card["replicates"]),
            "data_as_of": card["data_as_of"],
            "threshold": judged["threshold"],
            "val": scores(judged["val"]),
            "test": scores(judged["test"]),
            **flatten_estimate("minus_bar", estimate),
            "strategy": {name: strategy[name] for name in (*RETURNS, *RISKS, *RULES)}
            | {"undefined": strategy["undefined"]}
            | {"buy_and_hold": strategy["buy_and_hold"]["total_return"]}
            | {"bar": benchmark["strategy"]["total_return"]},
        },
    )


def scores(judged: dict[str, Any]) -> dict[str, Any]:
    """Return the main scores of a subset with their intervals."""
    return (
        {name: judged[name] for name in FACTS}
        | {f"{name}{end}": judged[f"{name}{end}"] for name in SCORES for end in ENDS}
        | {"undefined": judged["undefined"]}
    )


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
