"""Stage split: write the labels and subsets of a horizon."""

from patchscale.bars import read_study
from patchscale.features.tiers import WARM_UP
from patchscale.split.dates import make_split
from patchscale.split.labels import touch_labels
from patchscale.study import paths
from patchscale.study.files import write_arrow
from patchscale.study.params import load_params
from patchscale.study.stage import run


def main(horizon: str) -> None:
    params = load_params()
    ahead = params.horizons[horizon]
    bars, _ = read_study(params)
    labels = touch_labels(bars, params.target, ahead)
    # the longest warm-up and the longest context, so that all tiers and models share their dates
    first = WARM_UP + params.split.longest_context - 1
    usable = labels.notna() & (labels.index >= first)
    table = make_split(bars.loc[usable, "date"], labels[usable], params.data, params.split, ahead)
    write_arrow(paths.split(horizon), table)


if __name__ == "__main__":
    run(main)
