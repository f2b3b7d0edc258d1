"""Bring a data set's bars into the canonical form and check them."""

from patchscale import config, market, paths, sources, validate
from patchscale.files import write_json, write_text
from patchscale.stage import run


def main() -> None:
    params = config.load_params(paths.PARAMS)
    name, data = params.dataset, params.data
    bars = sources.fetch(data)
    report = validate.check_dataset(bars, data, f"datasets.{name}")
    texts = {paths.raw(name, series): market.canonical_csv(bars[series]) for series in bars}
    for path, text in texts.items():
        write_text(path, text)
    # The folder is hashed as a whole: a series no longer used, or what a killed run left, goes.
    for path in paths.raw(name, data.series).parent.iterdir():
        if path not in texts:
            path.unlink()
    write_json(paths.validation(name), report)


if __name__ == "__main__":
    run(main)
