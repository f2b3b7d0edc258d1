"""Rules between keys of params.yaml, grid.yaml and space.yaml, and the stage that checks them."""

import os
import runpy
import subprocess
from pathlib import Path

import pytest
from conftest import REMOVE, ROOT, Change, write_study

from patchscale.check import check
from patchscale.study.errors import InputError
from patchscale.study.params import load_params, load_space
from patchscale.study.stage import run


def checked(folder: Path) -> None:
    check(load_params(folder), load_space(folder))


def refusal(folder: Path) -> str:
    params, space = load_params(folder), load_space(folder)
    with pytest.raises(InputError) as caught:
        check(params, space)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_parameters_of_the_repository_pass() -> None:
    checked(ROOT)


@pytest.mark.parametrize(
    ("change", "shown", "allowed"),
    [
        (("params/dataset", "dax"), "params.yaml: dataset: 'dax' is unknown", "gspc, ixic"),
        (
            ("params/features/tier", "a21"),
            "params.yaml: features.tier: 'a21' is not in features.tiers",
            "a20, a25",
        ),
        (
            ("params/features/tiers", ["a20", "a30"]),
            "params.yaml: features.tiers: 'a30' is unknown",
            "a20, a25, a50",
        ),
        (
            ("params/model/budget", "3M"),
            "params.yaml: model.budget: '3M' is unknown",
            "2M, 20M, 200M, 2B",
        ),
        (
            ("params/model/horizon", "h4"),
            "params.yaml: model.horizon: 'h4' is unknown",
            "h1, h2, h3, h5",
        ),
        (
            ("params/publish", {"1M": 1}),
            "params.yaml: publish: '1M' is unknown",
            "2M, 20M, 200M, 2B",
        ),
        (
            ("grid/searches", ["h1", "h4"]),
            "grid.yaml: searches: 'h4' is unknown",
            "h1, h2, h3, h5",
        ),
        (
            ("grid/cells/2M-h2/search", "h2"),
            "grid.yaml: cells.2M-h2.search: 'h2' is unknown",
            "h1, h3, h5",
        ),
        (
            ("params/budgets/200K/start/dropout", 0.05),
            "params.yaml: budgets.200K.start.dropout: "
            "0.05 is part of trial 0 of a search and outside space.yaml",
            "0.1 to 0.5",
        ),
        (
            ("space/n_layers", [2, 32, 64]),
            "grid.yaml: cells.200K-h1.n_layers: "
            "6 is part of trial 0 of a search and outside space.yaml",
            "2, 32, 64",
        ),
    ],
)
def test_unknown_value_is_refused_with_the_allowed_ones(
    tmp_path: Path, change: Change, shown: str, allowed: str
) -> None:
    line = refusal(write_study(tmp_path, change))
    assert line.startswith(f"{shown}; allowed: ")
    assert allowed in line.partition("allowed: ")[2]


ROW = {"budget": "2M", "horizon": "h9", "search": "h1"}
ROW |= {"d_model": 64, "n_layers": 48, "n_heads": 2}


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (("grid/cells/20M-h3", REMOVE), "20M-h3: missing"),
        (("grid/cells/2M-h9", ROW), "2M-h9: unknown"),
        (("params/horizons/h9", 9), "200K-h9: missing"),
    ],
)
def test_grid_without_one_row_per_budget_and_horizon_is_refused(
    tmp_path: Path, change: Change, shown: str
) -> None:
    line = refusal(write_study(tmp_path, change))
    assert line == f"grid.yaml: cells.{shown}; the table has one row per budget and horizon"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (
            [("grid/cells/2M-h1/horizon", "h5")],
            "grid.yaml: cells.2M-h1: budget 2M and horizon h5 are not those of the name",
        ),
        (
            [("grid/cells/2M-h1/n_heads", 3)],
            "grid.yaml: cells.2M-h1.n_heads: 3 does not divide d_model 64",
        ),
        (
            [("params/window/context_length", 130)],
            "params.yaml: window.context_length: 130 is longer than split.longest_context 120, "
            "for which the dates are chosen",
        ),
        (
            [("params/split/embargo", 59)],
            "params.yaml: split.embargo: 59 is shorter than window.context_length 60",
        ),
        (
            [("params/window/patch_length", 61)],
            "params.yaml: window.patch_length: 61 is longer than window.context_length 60",
        ),
        (
            [("params/publish", {"2B": 1})],
            "params.yaml: publish: '2B' has no weights; set budgets.2B.trained",
        ),
        (
            [("params/budgets/2M/trained", {"h1": True, "h4": True})],
            "params.yaml: budgets.2M.trained: ['h1', 'h4'] is not allowed; its keys are the "
            "horizons: h1, h2, h3, h5",
        ),
        (
            [("params/budgets/2B/walk/horizons", ["h1", "h4"])],
            "params.yaml: budgets.2B.walk.horizons: 'h4' is not allowed; allowed: h1, h2, h3, h5",
        ),
        (
            [("params/publish", {"2M": 4})],
            "params.yaml: publish.2M: 4 seeds are more than budgets.2M.run.seeds 3",
        ),
        (
            [("params/hpo/base", "2M")],
            "params.yaml: budgets.2M.settings: 'transfer' is not allowed for the budget of "
            "hpo.base; allowed: search, table",
        ),
        (
            [("params/features/tiers", ["a20", "a20c"])],
            "params.yaml: features.tiers: 'a20c' needs a volatility index; "
            "data set gspc has none (datasets.gspc.volatility)",
        ),
        (
            [("params/dataset", "csv"), ("params/datasets/csv/path", "my.csv")],
            "params.yaml: datasets.csv.path: 'my.csv' is outside inputs/, "
            "the only folder where DVC sees changes",
        ),
        (
            [("params/dataset", "csv"), ("params/datasets/csv/path", "inputs/../my.csv")],
            "params.yaml: datasets.csv.path: 'inputs/../my.csv' is outside inputs/, "
            "the only folder where DVC sees changes",
        ),
    ],
)
def test_contradiction_is_refused(tmp_path: Path, changes: list[Change], shown: str) -> None:
    assert refusal(write_study(tmp_path, *changes)) == shown


def test_architecture_that_cannot_have_its_parameter_count_is_refused(tmp_path: Path) -> None:
    line = refusal(write_study(tmp_path, ("grid/cells/200K-h1/n_layers", 48)))
    assert line.startswith("grid.yaml: cells.200K-h1: d_model=48, n_layers=48 has no d_ff")


def test_budget_that_is_shown_must_be_trained(tmp_path: Path) -> None:
    asked = [("params/model/budget", "2B"), ("params/model/horizon", "h3")]
    line = refusal(write_study(tmp_path, *asked))
    assert line.startswith("params.yaml: model: 2B-h3 is not trained in this study; ")
    assert "it would need 15 GiB and activations, and about 259 TFLOP an epoch" in line
    assert line.endswith("allow it with -S 'budgets={2B: {trained: {h3: true}}}'")
    checked(write_study(tmp_path, *asked, ("params/budgets/2B/trained/h3", True)))


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"csv/path": ""}, "csv.path: empty; a CSV file is needed"),
        (
            {"csv/volatility": "VIX", "csv/volatility_path": ""},
            "csv: volatility is 'VIX' and volatility_path is ''; set both or neither",
        ),
        (
            {"csv/volatility": "", "csv/volatility_path": "VIX.csv"},
            "csv: volatility is '' and volatility_path is 'VIX.csv'; set both or neither",
        ),
        (
            {"ixic/volatility": "vix"},
            "ixic.volatility: 'vix' is not allowed; arch has no volatility index, "
            "only yahoo and csv may have one",
        ),
        (
            {"csv/series": "VIX", "csv/volatility": "^VIX", "csv/volatility_path": "a"},
            "csv.volatility: '^VIX' is the price series itself",
        ),
    ],
)
def test_data_set_whose_keys_contradict_each_other_is_refused(
    tmp_path: Path, values: dict[str, str], shown: str
) -> None:
    changes = [(f"params/datasets/{key}", value) for key, value in values.items()]
    assert refusal(write_study(tmp_path, *changes)) == f"params.yaml: datasets.{shown}"


@pytest.mark.parametrize(
    ("key", "day"),
    [("validation_from", "1999-01-04"), ("test_from", "2015-01-02"), ("end", "2018-01-02")],
)
def test_boundaries_out_of_order_are_refused(tmp_path: Path, key: str, day: str) -> None:
    line = refusal(write_study(tmp_path, (f"params/datasets/gspc/{key}", day)))
    order = "start < validation_from < test_from < end must hold; found "
    assert line.startswith(f"params.yaml: datasets.gspc: {order}")
    assert day in line


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        (
            "datasets/gspc/walk",
            {"first": 2002, "last": 2018},
            "datasets.gspc.walk.first: 2002 is not allowed; "
            "the data from 1999-01-04 to 2018-12-31 allow 2003 to 2018",
        ),
        (
            "datasets/spy/walk",
            {"first": 2007, "last": 2026},
            "datasets.spy.walk.last: 2026 is not allowed; "
            "the data from 1993-01-29 to 2025-12-31 allow 1997 to 2025",
        ),
        (
            "datasets/gspc/start",
            "2013-01-02",
            "datasets.gspc.walk.first: 2007 is not allowed; "
            "the data from 2013-01-02 to 2018-12-31 allow 2017 to 2018",
        ),
        (
            "datasets/csv/start",
            "2014-12-01",
            "datasets.csv.walk.first: 2007 is not allowed; "
            "the data from 2014-12-01 to 2018-12-31 allow no year (walk: null)",
        ),
        (
            "walk/years",
            [2016, 2019],
            "walk.years: 2019 is not allowed; datasets.gspc.walk allows 2007 to 2018",
        ),
    ],
)
def test_a_test_year_without_enough_data_is_refused(
    tmp_path: Path, key: str, value: object, shown: str
) -> None:
    assert refusal(write_study(tmp_path, (f"params/{key}", value))) == f"params.yaml: {shown}"


def test_more_test_years_than_the_verdict_can_take_are_refused(tmp_path: Path) -> None:
    start = ("params/datasets/gspc/start", "1980-01-02")
    years = {"first": 1999, "last": 2018}
    checked(write_study(tmp_path, start, ("params/datasets/gspc/walk", years)))
    longer = ("params/datasets/gspc/walk", years | {"first": 1998})
    assert refusal(write_study(tmp_path, start, longer)) == (
        "params.yaml: datasets.gspc.walk: 21 test years are not allowed; at most 20, for example "
        "from 1999, or fewer in walk.years"
    )
    checked(write_study(tmp_path, start, longer, ("params/walk/years", [2017, 2018])))


def test_without_a_range_no_test_year_is_allowed_and_none_is_needed(tmp_path: Path) -> None:
    none = ("params/datasets/gspc/walk", None)
    checked(write_study(tmp_path, none))
    line = refusal(write_study(tmp_path, none, ("params/walk/years", [2016])))
    assert line == "params.yaml: walk.years: 2016 is not allowed; datasets.gspc.walk allows no year"


@pytest.mark.parametrize(
    "change", [("params/budgets/2M/settings", "table"), ("params/hpo/trials", 0)]
)
def test_values_outside_the_space_are_allowed_without_a_search(
    tmp_path: Path, change: Change
) -> None:
    checked(write_study(tmp_path, ("params/budgets/2M/start/dropout", 0.05), change))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the stage runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stages/check.py"])
    return tmp_path


def run_stage() -> None:
    run(runpy.run_path(str(ROOT / "stages/check.py"))["main"])


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (("params/budgets/2M/colour", 1), "params.yaml: budgets.2M.colour: unknown key; allowed: "),
        (("grid/cells/2M-h1/n_heads", 3), "grid.yaml: cells.2M-h1.n_heads: 3 does not divide"),
        (("space/dropout", [0.5, 0.1]), "space.yaml: dropout: [0.5, 0.1] is not allowed; "),
        (("params/budgets/2M/trained/h1", False), "params.yaml: publish: '2M' has no weights"),
    ],
)
def test_stage_refuses_in_one_line_and_touches_no_output(
    stage: Path, capsys: pytest.CaptureFixture[str], change: Change, shown: str
) -> None:
    write_study(stage, change)
    output = stage / "data/params.checked"
    output.parent.mkdir()
    output.write_bytes(b"from an earlier run")
    with pytest.raises(SystemExit) as caught:
        run_stage()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stages/check.py: {shown}")
    assert output.read_bytes() == b"from an earlier run"
    assert list(output.parent.iterdir()) == [output]


def test_stage_writes_its_output_for_good_parameters(stage: Path) -> None:
    write_study(stage)
    run_stage()
    assert (stage / "data/params.checked").is_file()


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=toy", "-c", "user.email=toy@example.org")
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def committed_stage(stage: Path) -> Path:
    write_study(stage)
    git(stage, "init", "-q")
    git(stage, "add", "-A")
    git(stage, "commit", "-qm", "study")
    return stage


def test_a_refusal_of_what_is_not_committed_names_the_way_back(
    committed_stage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(committed_stage, ("params/budgets/2M/trained/h1", False))
    hint = "; `python3 dev.py reset` goes back to what is committed"
    for root, named in ((str(committed_stage), True), (str(committed_stage.parent), False)):
        monkeypatch.setenv("DVC_ROOT", root)  # another root: a copy made for a queued experiment
        with pytest.raises(SystemExit):
            run_stage()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(hint) is named
    git(committed_stage, "commit", "-qam", "as refused")
    monkeypatch.delenv("DVC_ROOT")
    with pytest.raises(SystemExit):
        run_stage()
    assert not capsys.readouterr().err.rstrip().endswith(hint)


def test_refused_file_gets_a_new_time_so_that_git_sees_its_change(stage: Path) -> None:
    write_study(stage, ("params/dataset", "dax"))
    for name in ("params.yaml", "grid.yaml", "space.yaml"):
        os.utime(stage / name, (0, 0))
    with pytest.raises(SystemExit):
        run_stage()
    for name in ("params.yaml", "grid.yaml", "space.yaml"):
        assert (stage / name).stat().st_mtime > 0
