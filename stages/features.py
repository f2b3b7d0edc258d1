"""Compute a feature tier from adjusted bars."""

from patchscale import adjust, config, market, paths
from patchscale.features import compute_tier, drop_warm_up, tier_features
from patchscale.files import write_arrow, write_json
from patchscale.stage import run


def main(tier: str) -> None:
    params = config.load_params(paths.PARAMS)
    data = params.data
    columns = tier_features(tier)
    bars = adjust.forward_adjust(market.read_bars(paths.raw(params.dataset, data.series)))
    vix = market.read_bars(paths.raw(params.dataset, data.volatility)) if data.volatility else None
    write_arrow(paths.features(tier), drop_warm_up(compute_tier(bars, tier, data.calendar, vix)))
    write_json(paths.kinds(tier), {feature.name: feature.kind for feature in columns})


if __name__ == "__main__":
    run(main)
