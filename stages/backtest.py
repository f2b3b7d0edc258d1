"""Judge a cell: threshold frozen on validation, the test year scored and traded once."""

import pandas as pd

from patchscale import adjust, config, market, paths
from patchscale.files import read_arrow, read_json, write_arrow, write_csv, write_json
from patchscale.judge import judge
from patchscale.splits import read_split
from patchscale.stage import run

ABSENT = {
    "equity": ["date", "strategy", "buy_and_hold"],
    "calibration": ["predicted", "observed", "n"],
}


def main(cell: str) -> None:
    params = config.load_params(paths.PARAMS)
    _, horizon = config.split_cell(cell)
    card = read_json(paths.card(cell))
    figures = {"trained": card["trained"], "n_params": card["n_params"]}
    if not card["trained"]:
        for kind, columns in ABSENT.items():
            write_csv(paths.plot(kind, cell), pd.DataFrame(columns=columns))
        nothing = {"date": "datetime64[ns]", "subset": "str", "log_loss": "float64"}
        empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in nothing.items()})
        write_arrow(paths.losses(cell), empty)
        write_json(paths.backtest_metrics(cell), figures)
        return
    raw = paths.raw(params.dataset, params.data.series)
    split = read_split(paths.split(horizon), labels_of={"train", "val", "test"})
    judged, tables = judge(
        read_arrow(paths.predictions(cell)),
        split,
        adjust.forward_adjust(market.read_bars(raw)),
        params.backtest,
        params.target,
        params.horizons[horizon],
    )
    for kind in ABSENT:
        write_csv(paths.plot(kind, cell), tables[kind])
    write_arrow(paths.losses(cell), tables["losses"])
    write_json(paths.backtest_metrics(cell), figures | judged)


if __name__ == "__main__":
    run(main)
