"""Label the prediction dates of a horizon and divide them, purged."""

from patchscale import adjust, config, market, paths
from patchscale.features import WARM_UP
from patchscale.files import write_arrow
from patchscale.labels import touch_labels
from patchscale.splits import make_split
from patchscale.stage import run


def main(horizon: str) -> None:
    params = config.load_params(paths.PARAMS)
    ahead = params.horizons[horizon]
    bars = adjust.forward_adjust(market.read_bars(paths.raw(params.dataset, params.data.series)))
    labels = touch_labels(bars, params.target, ahead)
    usable = labels.notna() & (labels.index >= WARM_UP + params.model.context_length - 1)
    table = make_split(bars.loc[usable, "date"], labels[usable], params.data, params.split, ahead)
    write_arrow(paths.split(horizon), table)


if __name__ == "__main__":
    run(main)
