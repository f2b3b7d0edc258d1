"""Judge a cell: choose its threshold on validation, then score and trade the test year."""

import pandas as pd

from patchscale.backtest.flatten import flatten
from patchscale.backtest.judge import judge
from patchscale.backtest.trading import Question
from patchscale.bars import read_study
from patchscale.split.table import read_split
from patchscale.study import paths
from patchscale.study.files import read_json, write_arrow, write_csv, write_json
from patchscale.study.params import load_params
from patchscale.study.stage import run
from patchscale.study.tables import read_table


def main(cell: str) -> None:
    params = load_params()
    row = params.cells[cell]
    card = read_json(paths.card(cell), "trained", "n_params")
    figures = {"trained": card["trained"], "n_params": card["n_params"]}
    if not card["trained"]:
        write_absent(cell)
        write_json(paths.backtest_metrics(cell), figures)
        return
    predictions = paths.predictions(cell)
    judged, tables = judge(
        read_table(predictions, ["date", "subset", "p"], more=True),
        read_split(paths.split(row.horizon), labels_of={"train", "val", "test"}),
        read_study(params)[0],
        Question(params.horizons[row.horizon], params.target, params.backtest),
        source=str(predictions),
    )
    for kind in ("calibration", "equity", "precision_recall"):
        write_csv(paths.plot(kind, cell), tables[kind])
    write_csv(paths.trades(cell), tables["trades"])
    write_arrow(paths.losses(cell), tables["losses"])
    write_json(paths.backtest_metrics(cell), figures | flatten(judged))


def write_absent(cell: str) -> None:
    """Write empty outputs for a cell that is not trained."""
    for kind in ("calibration", "equity", "precision_recall"):
        write_csv(paths.plot(kind, cell), pd.DataFrame(columns=["absent"]))
    write_csv(paths.trades(cell), pd.DataFrame(columns=["absent"]))
    write_arrow(paths.losses(cell), pd.DataFrame({"absent": pd.Series(dtype="float64")}))


if __name__ == "__main__":
    run(main)
