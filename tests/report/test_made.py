import pytest
from conftest import ROOT

from patchscale.report.made import LIBRARIES, Made, installed, made_sections
from patchscale.study import paths
from patchscale.study.lock import locked_stages
from patchscale.study.params import load_params

MADE = Made({"data/raw/gspc": "0123.dir"}, {"torch": "2.13.0"})


def test_data_settings_hashes_and_libraries_are_said() -> None:
    _, said = made_sections(load_params(ROOT), "2018-12-31", MADE)
    for fact in (
        "series `sp500` of source `arch`, 1999-01-04 to 2018-12-31",
        "the high of the sessions ahead touches the close + 1 %",
        "test years 2007 to 2018",
        "`data/raw/gspc` 0123.dir",
        "torch 2.13.0",
    ):
        assert fact in said


def test_the_mirrored_target_is_said() -> None:
    params = load_params(ROOT)
    target = params.target.model_copy(update={"side": "down"})
    _, said = made_sections(params.model_copy(update={"target": target}), "2018-12-31", MADE)
    assert "the low of the sessions ahead touches the close - 1 %" in said


def test_seeds_are_those_of_budgets_with_a_trained_cell() -> None:
    params = load_params(ROOT)
    off = dict.fromkeys(params.horizons, False)
    absent = params.budgets["2B"].model_copy(update={"trained": off})
    partly = params.budgets["20M"].model_copy(update={"trained": off | {"h1": True}})
    budgets = dict(params.budgets) | {"2B": absent, "20M": partly}
    _, said = made_sections(params.model_copy(update={"budgets": budgets}), "2018-12-31", MADE)
    assert "20M 3" in said
    assert "2B" not in said


def test_the_name_of_a_build_is_no_part_of_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(installed()) == set(LIBRARIES)
    monkeypatch.setattr("patchscale.report.made.version", lambda name: "2.13.0+cpu")
    assert set(installed().values()) == {"2.13.0"}


def test_published_hashes_are_those_of_the_lock() -> None:
    text = (ROOT / "docs/results.md").read_text()
    report = locked_stages(ROOT / "dvc.lock")["report"]
    deps = {dep["path"]: dep["md5"] for dep in report["deps"]}
    for path in (paths.bars(load_params(ROOT).dataset), paths.LOSSES):
        assert f"`{path.as_posix()}` {deps[path.as_posix()]}" in text
