"""Names of the study's files."""

from pathlib import Path

from patchscale.study import paths


def test_file_of_an_index_has_no_caret_in_its_name() -> None:
    assert paths.raw("spy", "^VIX") == Path("data/raw/spy/VIX.csv")
    assert paths.raw("spy", "SPY") == Path("data/raw/spy/SPY.csv")


def test_all_outputs_of_a_search_are_in_one_folder() -> None:
    assert paths.best("2M-h1") == Path("data/hpo/2M-h1/best.yaml")
    assert paths.hpo("2M-h1", "trials.arrow") == Path("data/hpo/2M-h1/trials.arrow")
