"""Show one cell: copy its figures and plots to fixed names."""

import shutil

from patchscale import config, paths
from patchscale.files import read_json, replacing, write_json
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
PLOTS = ("curves", "equity", "calibration")


def main() -> None:
    params = config.load_params(paths.PARAMS)
    budget, horizon = params.model.budget, params.model.horizon
    cell = f"{budget}-{horizon}"
    card, judged = read_json(paths.card(cell)), read_json(paths.backtest_metrics(cell))
    baseline = read_json(paths.baseline_metrics(horizon))["vol_logistic"]
    for kind in PLOTS:
        with replacing(paths.plot("headline", kind)) as temporary:
            shutil.copyfile(paths.plot(kind, cell), temporary)
    write_json(
        paths.HEADLINE,
        {
            "cell": cell,
            "n_params": card["n_params"],
            "seeds": len(card["replicates"]),
            "data_as_of": card["data_as_of"],
            "val": {name: judged["val"][name] for name in SCORES},
            "test": {name: judged["test"][name] for name in SCORES}
            | {
                "log_loss_vs_vol_logistic": judged["test"]["log_loss"]
                - baseline["test"]["log_loss"]
            },
            "strategy": {name: judged["strategy"][name] for name in RETURNS}
            | {"buy_and_hold": judged["strategy"]["buy_and_hold"]["total_return"]},
        },
    )


if __name__ == "__main__":
    run(main)
