"""Show one cell: copy its figures and plots to fixed names."""

import shutil

import pandas as pd

from patchscale import config, paths
from patchscale.files import read_arrow, read_json, replacing, write_csv, write_json
from patchscale.scaling import mean_with_interval
from patchscale.stage import run

SCORES = (
    "n",
    "positives",
    "log_loss",
    "log_loss_low",
    "log_loss_high",
    "auc",
    "auc_low",
    "auc_high",
    "precision",
    "recall",
    "p_range",
)
RETURNS = ("trades", "exposure", "total_return", "sharpe", "sharpe_low", "sharpe_high")
PLOTS = ("equity", "calibration")


def main() -> None:
    params = config.load_params(paths.PARAMS)
    budget, horizon = params.model.budget, params.model.horizon
    cell = f"{budget}-{horizon}"
    card, judged = read_json(paths.card(cell)), read_json(paths.backtest_metrics(cell))
    model, baseline = (
        losses[losses["subset"] == "test"]
        for losses in (
            read_arrow(paths.losses(cell)),
            read_arrow(paths.losses(f"baselines-{horizon}")),
        )
    )
    gap = (model["log_loss"] - baseline["vol_logistic"]).to_numpy()
    for kind in PLOTS:
        with replacing(paths.plot("headline", kind)) as temporary:
            shutil.copyfile(paths.plot(kind, cell), temporary)
    curves = pd.read_csv(paths.plot("curves", cell))
    write_csv(paths.plot("headline", "curves"), mean_curve(curves))
    write_json(
        paths.HEADLINE,
        {
            "cell": cell,
            "n_params": card["n_params"],
            "seeds": len(card["replicates"]),
            "data_as_of": card["data_as_of"],
            "val": {name: judged["val"][name] for name in SCORES},
            "test": {name: judged["test"][name] for name in SCORES},
            "minus_vol_logistic": mean_with_interval(gap, params.horizons[horizon], "log_loss"),
            "strategy": {name: judged["strategy"][name] for name in RETURNS}
            | {"buy_and_hold": judged["strategy"]["buy_and_hold"]["total_return"]},
        },
    )


def mean_curve(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of every epoch that all of them reached."""
    epochs = curves.groupby("epoch")
    means = epochs[["train_log_loss", "val_log_loss"]].mean()
    return means[epochs.size() == curves["seed"].nunique()].reset_index()


if __name__ == "__main__":
    run(main)
