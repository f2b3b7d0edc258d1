"""Show one cell: copy its figures and plots to fixed names."""

import shutil
from typing import Any

import pandas as pd

from patchscale.backtest.bootstrap import mean_with_interval
from patchscale.study import paths
from patchscale.study.files import read_arrow, read_json, replacing, write_csv, write_json
from patchscale.study.params import load_params
from patchscale.study.paths import RIVAL
from patchscale.study.stage import run

SCORES = ("precision", "recall", "auc", "log_loss", "brier_skill", "ece")
FACTS = ("n", "positives", "signals", "p_range", "collapsed")
RETURNS = ("trades", "label_hit_rate", "win_rate", "exposure", "turnover", "total_return")
RISKS = ("max_drawdown", "sharpe", "sharpe_low", "sharpe_high", "probabilistic_sharpe")
TRIES = ("deflated_sharpe", "search_trials", "thresholds", "cost_bps", "sessions")


def main() -> None:
    params = load_params()
    budget, horizon = params.model.budget, params.model.horizon
    cell = f"{budget}-{horizon}"
    card, judged = read_json(paths.card(cell)), read_json(paths.backtest_metrics(cell))
    rival = read_json(paths.baseline_metrics(horizon))[RIVAL]
    ours, theirs = read_arrow(paths.losses(cell)), read_arrow(paths.losses(f"baselines-{horizon}"))
    is_test = ours["subset"] == "test"
    gap = (ours["log_loss"] - theirs[RIVAL])[is_test].to_numpy()
    for kind in ("calibration", "precision_recall"):
        with replacing(paths.plot("headline", kind)) as temporary:
            shutil.copyfile(paths.plot(kind, cell), temporary)
    write_csv(paths.plot("headline", "equity"), equity(cell, horizon))
    curves = pd.read_csv(paths.plot("curves", cell))
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
            **mean_with_interval(gap, params.horizons[horizon], "minus_vol_logistic"),
            "strategy": {name: strategy[name] for name in (*RETURNS, *RISKS, *TRIES)}
            | {"undefined": strategy["undefined"]}
            | {"buy_and_hold": strategy["buy_and_hold"]["total_return"]}
            | {RIVAL: rival["strategy"]["total_return"]},
        },
    )


def scores(judged: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of a subset that lead, with their intervals."""
    ends = ("", "_low", "_high")
    return (
        {name: judged[name] for name in FACTS}
        | {f"{name}{end}": judged[f"{name}{end}"] for name in SCORES for end in ends}
        | {"undefined": judged["undefined"]}
    )


def equity(cell: str, horizon: str) -> pd.DataFrame:
    """Return the wealth of the cell, of holding the market and of the volatility logistic."""
    rival = pd.read_csv(paths.plot("equity", f"{RIVAL}-{horizon}"))
    rival = rival[["date", "strategy"]].rename(columns={"strategy": RIVAL})
    return pd.read_csv(paths.plot("equity", cell)).merge(rival, on="date", validate="one_to_one")


def mean_curve(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of every epoch that all of them reached."""
    epochs = curves.groupby("epoch")
    means = epochs[["train_log_loss", "val_log_loss"]].mean()
    return means[epochs.size() == curves["seed"].nunique()].reset_index()


if __name__ == "__main__":
    run(main)
