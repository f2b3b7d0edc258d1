"""Judge a cell: threshold frozen on validation, the test year scored and traded once."""

import pandas as pd

from patchscale import adjust, config, market, paths
from patchscale.files import read_arrow, read_json, write_arrow, write_csv, write_json
from patchscale.judge import judge
from patchscale.splits import read_split
from patchscale.stage import run


def main(cell: str) -> None:
    params = config.load_params(paths.PARAMS)
    budget, horizon = config.split_cell(cell)
    card = read_json(paths.card(cell))
    figures = {"trained": card["trained"], "n_params": card["n_params"]}
    if not card["trained"]:
        write_absent(cell)
        write_json(paths.backtest_metrics(cell), figures)
        return
    predictions = paths.predictions(cell)
    judged, tables = judge(
        read_arrow(predictions),
        read_split(paths.split(horizon), labels_of={"train", "val", "test"}),
        adjust.forward_adjust(market.read_bars(paths.raw(params.dataset, params.data.series))),
        params.backtest,
        params.target,
        params.horizons[horizon],
        search_trials=params.trials_of(budget),
        source=str(predictions),
    )
    for kind in ("calibration", "equity", "precision_recall"):
        write_csv(paths.plot(kind, cell), tables[kind])
    write_csv(paths.trades(cell), tables["trades"])
    write_arrow(paths.losses(cell), tables["losses"])
    write_json(paths.backtest_metrics(cell), figures | judged)


def write_absent(cell: str) -> None:
    """Write the empty outputs of a cell that is not trained; report and headline pass them over."""
    for kind in ("calibration", "equity", "precision_recall"):
        write_csv(paths.plot(kind, cell), pd.DataFrame(columns=["absent"]))
    write_csv(paths.trades(cell), pd.DataFrame(columns=["absent"]))
    write_arrow(paths.losses(cell), pd.DataFrame({"absent": pd.Series(dtype="float64")}))


if __name__ == "__main__":
    run(main)
