"""Stage features: write the columns of a tier and their kinds."""

from patchscale.bars import read_study
from patchscale.features.formulas import compute_tier, drop_warm_up
from patchscale.features.tiers import tier_features
from patchscale.study import paths
from patchscale.study.files import write_arrow, write_json
from patchscale.study.params import load_params
from patchscale.study.stage import run


def main(tier: str) -> None:
    params = load_params()
    columns = tier_features(tier)
    bars, vix = read_study(params)
    write_arrow(
        paths.features(tier), drop_warm_up(compute_tier(bars, tier, params.data.calendar, vix))
    )
    write_json(paths.kinds(tier), {feature.name: feature.kind for feature in columns})


if __name__ == "__main__":
    run(main)
