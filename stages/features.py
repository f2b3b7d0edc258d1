"""Compute a feature tier from adjusted bars."""

from patchscale import adjust, config, market, paths
from patchscale.features import compute_tier, drop_warm_up, tier_features
from patchscale.files import write_arrow, write_json
from patchscale.stage import run


def main(tier: str) -> None:
    params = config.load_params(paths.PARAMS)
    columns = tier_features(tier)
    bars = market.read_bars(paths.raw(params.dataset, params.data.series))
    table = compute_tier(adjust.forward_adjust(bars), tier)
    write_arrow(paths.features(tier), drop_warm_up(table))
    write_json(paths.kinds(tier), {feature.name: feature.kind for feature in columns})


if __name__ == "__main__":
    run(main)
