"""Stage download: write the checked canonical bars of the selected data set."""

from patchscale.bars import canonical_csv
from patchscale.download import checks, sources
from patchscale.study import paths
from patchscale.study.files import write_json, write_text
from patchscale.study.params import load_params
from patchscale.study.stage import run


def main() -> None:
    params = load_params()
    name, data = params.dataset, params.data
    bars = sources.fetch(data)
    report = checks.check_dataset(bars, data, f"datasets.{name}")
    texts = {paths.raw(name, series): canonical_csv(bars[series]) for series in bars}
    for path, text in texts.items():
        write_text(path, text)
    # DVC hashes the whole folder, so unused series and files of a killed run are removed
    for path in paths.bars(name).iterdir():
        if path not in texts:
            path.unlink()
    write_json(paths.validation(name), report)


if __name__ == "__main__":
    run(main)
