"""Stage features: write the columns of a tier and their kinds."""

from patchscale.bars import forward_adjust, read_bars
from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import tier_features
from patchscale.study import paths
from patchscale.study.files import write_arrow, write_json
from patchscale.study.params import load_params
from patchscale.study.stage import run


def main(tier: str) -> None:
    params = load_params()
    data = params.data
    columns = tier_features(tier)
    bars = forward_adjust(read_bars(paths.raw(params.dataset, data.series)))
    vix = read_bars(paths.raw(params.dataset, data.volatility)) if data.volatility else None
    write_arrow(paths.features(tier), drop_warm_up(compute_tier(bars, tier, data.calendar, vix)))
    write_json(paths.kinds(tier), {feature.name: feature.kind for feature in columns})


if __name__ == "__main__":
    run(main)
