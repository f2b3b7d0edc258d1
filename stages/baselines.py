"""Fit the baselines of a horizon and judge them on the same dates as the cells."""

import pandas as pd

from patchscale.backtest.flatten import flatten
from patchscale.backtest.judge import BENCHMARK, judge
from patchscale.backtest.trading import Question
from patchscale.bars import read_study
from patchscale.baselines import forecasts, regressors
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.files import write_arrow, write_csv, write_json
from patchscale.study.params import load_params
from patchscale.study.stage import run
from patchscale.study.tables import read_features


def main(horizon: str) -> None:
    params = load_params()
    tier = params.features.tier
    question = Question(params.horizons[horizon], params.target, params.backtest)
    bars, vix = read_study(params)
    split = read_split(paths.split(horizon), labels_of={"train", "val", "test"})
    features, kinds = read_features(tier, split["date"])
    context, ahead = params.window.context_length, question.horizon
    inputs = regressors(bars, vix, features, kinds, context, question.target, ahead)
    table = forecasts(split, inputs)
    figures, losses = {}, table[["date", "subset"]].copy()
    for name in table.columns[2:]:
        judgement, tables = judge(
            table[["date", "subset"]].assign(p=table[name]),
            split,
            bars,
            question,
            source=f"baseline {name} of {horizon}",
        )
        figures[name] = flatten(judgement)
        losses[name] = tables["losses"]["log_loss"]
        if name == BENCHMARK:
            write_plots(f"bar-{horizon}", tables)
    write_json(paths.baseline_metrics(horizon), figures)
    write_arrow(paths.losses(f"baselines-{horizon}"), losses)


def write_plots(name: str, tables: dict[str, pd.DataFrame]) -> None:
    for kind in ("calibration", "equity", "precision_recall"):
        write_csv(paths.plot(kind, name), tables[kind])


if __name__ == "__main__":
    run(main)
