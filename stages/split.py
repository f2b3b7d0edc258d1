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
    # the widest warm-up and the longest context: every tier and model has the same dates
    first = WARM_UP + params.split.longest_context - 1
    usable = labels.notna() & (labels.index >= first)
    table = make_split(bars.loc[usable, "date"], labels[usable], params.data, params.split, ahead)
    write_arrow(paths.split(horizon), table)


if __name__ == "__main__":
    run(main)
