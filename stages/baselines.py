"""Fit and judge the baselines of a horizon on the dates of the cells."""

from patchscale import adjust, config, market, paths
from patchscale.baselines import fit_forecasts, volatility_inputs
from patchscale.files import write_arrow, write_json
from patchscale.judge import judge
from patchscale.splits import read_split
from patchscale.stage import run


def main(horizon: str) -> None:
    params = config.load_params(paths.PARAMS)
    raw = paths.raw(params.dataset, params.data.series)
    bars = adjust.forward_adjust(market.read_bars(raw))
    split = read_split(paths.split(horizon), labels_of={"train", "val", "test"})
    forecasts = fit_forecasts(volatility_inputs(bars), split)
    figures, losses = {}, forecasts[["date", "subset"]].copy()
    for name in forecasts.columns[2:]:
        forecast = forecasts[["date", "subset"]].assign(p=forecasts[name])
        figures[name], tables = judge(
            forecast, split, bars, params.backtest, params.target, params.horizons[horizon]
        )
        losses[name] = tables["losses"]["log_loss"]
    write_json(paths.baseline_metrics(horizon), figures)
    write_arrow(paths.losses(f"baselines-{horizon}"), losses)


if __name__ == "__main__":
    run(main)
