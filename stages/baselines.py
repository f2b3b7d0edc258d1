"""Fit and judge the baselines of a horizon on the dates of the cells."""

import pandas as pd

from patchscale.backtest.judge import judge
from patchscale.bars import forward_adjust, read_bars
from patchscale.baselines import (
    boosting_inputs,
    forecasts,
    har_inputs,
    persistence_inputs,
    volatility_inputs,
)
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.files import read_arrow, read_json, write_arrow, write_csv, write_json
from patchscale.study.params import load_params
from patchscale.study.stage import run


def main(horizon: str) -> None:
    params = load_params()
    data, tier, ahead = params.data, params.features.tier, params.horizons[horizon]
    bars = forward_adjust(read_bars(paths.raw(params.dataset, data.series)))
    vix = read_bars(paths.raw(params.dataset, data.volatility)) if data.volatility else None
    split = read_split(paths.split(horizon), labels_of={"train", "val", "test"})
    table = forecasts(
        split,
        {
            "persistence": persistence_inputs(bars, params.target, ahead),
            "vol_logistic": volatility_inputs(bars, vix),
            "har_logistic": har_inputs(bars),
            "boosting": boosting_inputs(
                read_arrow(paths.features(tier)),
                read_json(paths.kinds(tier)),
                params.window.context_length,
            ),
        },
    )
    figures, losses = {}, table[["date", "subset"]].copy()
    for name in table.columns[2:]:
        figures[name], tables = judge(
            table[["date", "subset"]].assign(p=table[name]),
            split,
            bars,
            params.backtest,
            params.target,
            ahead,
            search_trials=0,
            source=f"baseline {name} of {horizon}",
        )
        losses[name] = tables["losses"]["log_loss"]
        if name == paths.RIVAL:
            write_plots(f"{name}-{horizon}", tables)
    write_json(paths.baseline_metrics(horizon), figures)
    write_arrow(paths.losses(f"baselines-{horizon}"), losses)


def write_plots(name: str, tables: dict[str, pd.DataFrame]) -> None:
    for kind in ("calibration", "equity", "precision_recall"):
        write_csv(paths.plot(kind, name), tables[kind])


if __name__ == "__main__":
    run(main)
