"""Bring a data set's bars into the canonical form and check them."""

from patchscale import config, market, paths, validate
from patchscale.files import write_json, write_text
from patchscale.stage import run


def main() -> None:
    params = config.load_params(paths.PARAMS)
    bars = market.fetch(params.data)
    report = validate.check_bars(bars, params.data, f"datasets.{params.dataset}")
    write_text(paths.raw(params.dataset, params.data.series), market.canonical_csv(bars))
    write_json(paths.validation(params.dataset), report)


if __name__ == "__main__":
    run(main)
