"""Types of params.yaml, grid.yaml and space.yaml, and the errors that name a wrong key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REMOVE, ROOT, Change, write_study

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.params import Grid, load_best, load_params, load_space


def refusal(folder: Path) -> str:
    """Return the error of loading all three files, without the folder."""
    with pytest.raises(InputError) as caught:
        (load_params(folder), load_space(folder))
    line = str(caught.value)
    assert line.startswith(f"{folder}/")
    assert "\n" not in line
    return line.removeprefix(f"{folder}/")


def test_params_of_the_repository_load() -> None:
    params = load_params(ROOT)
    assert params.dataset in params.datasets
    assert params.data is params.datasets[params.dataset]
    assert len(params.cells) == len(params.budgets) * len(params.horizons) == 24
    assert params.searches == ["h1", "h3", "h5"]
    assert params.horizons == {"h1": 1, "h2": 2, "h3": 3, "h5": 5}
    assert load_space(ROOT).lr == [0.0003, 0.01]


def test_params_with_another_grid_keep_everything_else() -> None:
    params = load_params(ROOT)
    grid = Grid(searches=["h5"], cells={"2M-h5": params.cells["2M-h5"]})
    other = params.with_grid(grid)
    assert (other.searches, list(other.cells)) == (["h5"], ["2M-h5"])
    assert other.model_dump() == params.model_dump()
    assert len(params.cells) == 24
    assert other != params


def test_copy_of_params_keeps_the_grid() -> None:
    params = load_params(ROOT)
    assert params.model_copy(update={"dataset": "ixic"}).cells is params.cells


def test_test_years_are_those_asked_for_or_all_of_the_data_set(tmp_path: Path) -> None:
    assert load_params(ROOT).walk_years == list(range(2007, 2019))
    some = load_params(write_study(tmp_path, ("params/walk/years", [2018, 2016])))
    assert some.walk_years == [2016, 2018]
    none = load_params(write_study(tmp_path, ("params/datasets/gspc/walk", None)))
    assert none.walk_years == []


def test_a_budget_is_walked_at_the_horizons_asked_for_if_there_are_test_years(
    tmp_path: Path,
) -> None:
    asked = ("params/budgets/2M/walk/horizons", ["h5", "h1"])
    params = load_params(write_study(tmp_path, asked))
    assert params.walked("2M") == ["h1", "h5"]
    assert params.walked("2B") == []
    none = load_params(write_study(tmp_path, asked, ("params/datasets/gspc/walk", None)))
    assert none.walked("2M") == []


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (
            ("params/datasets/gspc/walk", {"first": 2018, "last": 2007}),
            "params.yaml: datasets.gspc.walk: ",
        ),
        (("params/walk/years", [2016, 2016]), "params.yaml: walk.years: [2016, 2016] is not"),
        (
            ("params/budgets/2M/walk/seeds", 0),
            "params.yaml: budgets.2M.walk.seeds: 0 is not allowed",
        ),
        (
            ("params/budgets/2M/walk/horizons", ["h1", "h1"]),
            "params.yaml: budgets.2M.walk.horizons: ['h1', 'h1'] is not",
        ),
    ],
)
def test_test_years_of_a_wrong_form_are_refused(tmp_path: Path, change: Change, shown: str) -> None:
    assert refusal(write_study(tmp_path, change)).startswith(shown)


def test_only_a_searched_budget_has_trials(tmp_path: Path) -> None:
    params = load_params(write_study(tmp_path, ("params/hpo/trials", 7)))
    assert {name: budget.settings for name, budget in params.budgets.items()} == {
        "20K": "transfer",
        "200K": "search",
        "2M": "transfer",
        "20M": "transfer",
        "200M": "transfer",
        "2B": "transfer",
    }
    assert [params.trials_of(budget) for budget in params.budgets] == [0, 7, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("key", "shown", "allowed"),
    [
        ("params/colour", "params.yaml: colour", ["dataset", "backtest", "budgets"]),
        ("params/cells", "params.yaml: cells", ["dataset", "backtest", "budgets"]),
        ("params/train/sede", "params.yaml: train.sede", ["warmup", "patience", "clip"]),
        (
            "params/split/scattered/blocks",
            "params.yaml: split.scattered.blocks",
            ["block", "fraction", "seed"],
        ),
        (
            "params/datasets/gspc/begin",
            "params.yaml: datasets.gspc.begin",
            ["start", "exceptions"],
        ),
        ("params/budgets/2M/lr", "params.yaml: budgets.2M.lr", ["n_params", "run", "start"]),
        (
            "params/budgets/2M/start/weight_decays",
            "params.yaml: budgets.2M.start.weight_decays",
            ["weight_decay", "lr"],
        ),
        ("grid/colour", "grid.yaml: colour", ["cells", "searches"]),
        ("grid/cells/2M-h1/d_ff", "grid.yaml: cells.2M-h1.d_ff", ["d_model", "n_heads", "search"]),
        ("space/d_ff", "space.yaml: d_ff", ["d_model", "lr", "epochs"]),
    ],
)
def test_unknown_key_is_refused_with_its_siblings(
    tmp_path: Path, key: str, shown: str, allowed: list[str]
) -> None:
    line = refusal(write_study(tmp_path, (key, 1)))
    assert re.match(rf"{re.escape(shown)}: unknown key(, perhaps \w+)?; allowed: ", line)
    offered = line.partition("allowed: ")[2].split(", ")
    assert set(allowed) <= set(offered)
    assert offered == sorted(offered)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("params/budgets/2M/start/lr", "fast", "number"),
        ("params/budgets/2M/start/lr", "0.001", "number"),
        ("params/budgets/2M/start/lr", 0.0, "greater than 0"),
        ("params/budgets/2M/start/lr", float("nan"), "greater than 0"),
        ("params/budgets/2M/start/dropout", 1.0, "less than 1"),
        ("params/budgets/2M/run/seeds", True, "integer"),
        ("params/budgets/2M/run/precision", "bf16", "'bf16-mixed'"),
        ("params/budgets/2M/settings", "default", "'search', 'transfer' or 'table'"),
        ("params/budgets/2M/trained/h1", 1, "boolean"),
        ("params/publish", "2M", "dictionary"),
        ("params/train/batch_size", 256.0, "integer"),
        ("params/train/patience", -1, "an integer at least 0 and at most 10,000 is needed"),
        ("params/hpo/trials", -1, "at least 0"),
        ("params/hpo/batch", 0, "greater than 0"),
        ("params/hpo/pruning/percentile", 101.0, "a number at least 0 and at most 100 is"),
        ("params/horizons/h1", "1", "integer"),
        ("params/horizons/h1", 0, "greater than 0"),
        ("params/target/side", "sideways", "'up' or 'down'"),
        ("params/target/reference", "high", "'close'"),
        ("params/window/normalisation", "none", "'kind'"),
        ("params/datasets/gspc/end", "31.12.2018", "match pattern"),
        ("params/datasets/gspc/validation_from", "2015-02-31", "day"),
        ("params/datasets/csv/series", "../bars", "match pattern"),
        ("grid/cells/2M-h1/n_layers", None, "integer"),
        ("grid/searches", "h1", "list"),
        ("space/lr", [0.001, 0.0001], "low must be below high"),
        ("space/lr", [0.001], "at least 2 items"),
        ("space/d_model", [64, 64], "a value occurs twice"),
        ("space/n_heads", [], "at least 1 item"),
    ],
)
def test_wrong_value_is_refused_with_what_is_allowed(
    tmp_path: Path, key: str, value: object, rule: str
) -> None:
    line = refusal(write_study(tmp_path, (key, value)))
    file, _, place = key.partition("/")
    shown = f"{file}.yaml: {place.replace('/', '.')}: {value!r} is not allowed; "
    assert line.startswith(shown)
    assert rule in line.removeprefix(shown)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (
            ("params/datasets/csv/exceptions", {"2018-12-05": ""}),
            "datasets.csv.exceptions.2018-12-05: '' is not allowed; ",
        ),
        (
            ("params/datasets/csv/exceptions", {"5.12.2018": "why"}),
            "datasets.csv.exceptions.5.12.2018.[key]: '5.12.2018' is not allowed; string should",
        ),
        (
            ("params/datasets", {"../up": {}}),
            "datasets.../up.[key]: '../up' is not allowed; string should match",
        ),
    ],
)
def test_wrong_key_or_reason_of_a_table_is_refused(
    tmp_path: Path, change: Change, shown: str
) -> None:
    assert refusal(write_study(tmp_path, change)).startswith(f"params.yaml: {shown}")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("params/train/clip", "params.yaml: train.clip: missing"),
        ("params/budgets/2B/run", "params.yaml: budgets.2B.run: missing"),
        ("params/budgets/2B/start/lr", "params.yaml: budgets.2B.start.lr: missing"),
        ("grid/searches", "grid.yaml: searches: missing"),
        ("grid/cells/2M-h1/search", "grid.yaml: cells.2M-h1.search: missing"),
        ("space/dropout", "space.yaml: dropout: missing"),
    ],
)
def test_missing_key_is_named(tmp_path: Path, key: str, shown: str) -> None:
    assert refusal(write_study(tmp_path, (key, REMOVE))) == shown


def test_error_counts_the_problems_that_it_does_not_show(tmp_path: Path) -> None:
    changes = [("params/train/clip", REMOVE), ("params/colour", 1), ("params/hpo", "x")]
    assert refusal(write_study(tmp_path, *changes)).endswith("(and 2 more)")


@pytest.mark.parametrize(
    ("key", "wrong", "others", "counted"),
    [
        ("params/train/clip", "params/train/clpi", [], []),
        ("params/train/clip", "params/train/clpi", [("params/hpo", "x")], [" (and 1 more)"]),
        ("params/budgets/2B/run/seeds", "params/budgets/2B/run/sedes", [], []),
        ("params/datasets/gspc/walk/first", "params/datasets/gspc/walk/frist", [], []),
        ("grid/cells/2M-h1/search", "grid/cells/2M-h1/serch", [], []),
    ],
)
def test_misspelt_key_is_named_before_the_missing_one_and_all_else(
    tmp_path: Path, key: str, wrong: str, others: list[Change], counted: list[str]
) -> None:
    line = refusal(write_study(tmp_path, (key, REMOVE), *others, (wrong, 1)))
    file, _, place = wrong.partition("/")
    hint = f"unknown key, perhaps {key.rpartition('/')[2]}; allowed: "
    assert line.startswith(f"{file}.yaml: {place.replace('/', '.')}: {hint}")
    assert re.findall(r" \(and .*", line) == counted


@pytest.mark.parametrize("name", ["params.yaml", "grid.yaml", "space.yaml"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_study(tmp_path) / name).unlink()
    assert refusal(tmp_path) == f"{name}: missing"


@pytest.mark.parametrize("name", ["params.yaml", "grid.yaml", "space.yaml"])
@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"dataset: gspc\n  datasets: [\n", "not valid YAML ("),
        (b"\xff\xfe\xfa", "not UTF-8 ("),
        (b"", "the whole file: None is not allowed; "),
        (b"[1, 2]\n", "the whole file: [1, 2] is not allowed; "),
    ],
)
def test_damaged_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, shown: str
) -> None:
    (write_study(tmp_path) / name).write_bytes(content)
    assert refusal(tmp_path).startswith(f"{name}: {shown}")


def test_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").mkdir()
    assert refusal(tmp_path) == "params.yaml: Is a directory"


def test_data_set_with_a_volatility_index_has_two_series(tmp_path: Path) -> None:
    changes = [
        ("params/datasets/csv/series", "SPY"),
        ("params/datasets/csv/volatility", "VIX"),
        ("params/datasets/csv/volatility_path", "vix.csv"),
    ]
    params = load_params(write_study(tmp_path, *changes))
    assert params.datasets["csv"].all_series == ["SPY", "VIX"]
    assert params.datasets["gspc"].all_series == ["sp500"]


@pytest.mark.parametrize(
    ("context", "patch", "stride", "n_patches"), [(60, 10, 10, 6), (60, 16, 8, 6), (10, 10, 1, 1)]
)
def test_patches_of_a_window_are_counted(
    tmp_path: Path, context: int, patch: int, stride: int, n_patches: int
) -> None:
    window: dict[str, Any] = {"context_length": context, "patch_length": patch, "stride": stride}
    changed = ("params/window", window | {"normalisation": "kind"})
    assert load_params(write_study(tmp_path, changed)).window.n_patches == n_patches


BEST = {
    "cell": "200K-h1",
    "trial": 0,
    "n_params": 200_000,
    "d_model": 64,
    "n_layers": 4,
    "n_heads": 4,
    "d_ff": 224,
    "lr": 0.004,
    "dropout": 0.12,
    "weight_decay": 0.1,
    "epochs": 8,
}


def write_best(folder: Path, changes: dict[str, Any], search: str = "200K-h1") -> Path:
    path = write_study(folder) / paths.best(search)
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(BEST | changes), encoding="utf-8")
    return path


def test_result_of_a_search_is_read_by_the_name_of_its_cell(tmp_path: Path) -> None:
    write_best(tmp_path, {"cell": "200K-h3", "n_layers": 3}, "200K-h3")
    best = load_best(load_params(tmp_path), "200K-h3", tmp_path)
    assert best.model_dump(exclude_none=True) == BEST | {"cell": "200K-h3", "n_layers": 3}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        # a setting that a search chose and training ignored would go unnoticed
        ({"beta2": 0.95}, "beta2: unknown key; allowed: best_score, cell, d_ff, d_model"),
        ({"n_heads": 7}, "n_heads 7 must divide d_model 64"),
        ({"d_model": 10**9}, "d_model: 1000000000 is not allowed; an integer greater than 0"),
        ({"n_layers": 10**30}, "n_layers: 1000000000000000000000000000000 is not allowed; "),
        ({"cell": "200K-h3"}, "cell: '200K-h3' is not allowed; 200K-h1 is needed"),
        ({"cell": "../../up"}, "cell: '../../up' is not allowed; string should match"),
        ({"lr": 0.9}, "lr: 0.9 is outside space.yaml; allowed: 0.0003 to 0.01"),
        ({"n_layers": 5}, "n_layers: 5 is outside space.yaml; allowed: 1, 2, 3, 4, 6"),
        ({"epochs": 10**9}, "epochs: 1000000000 is not allowed; "),
    ],
)
def test_result_of_a_search_that_no_search_could_have_is_refused(
    tmp_path: Path, changes: dict[str, Any], shown: str
) -> None:
    path = write_best(tmp_path, changes)
    with pytest.raises(InputError) as caught:
        load_best(load_params(tmp_path), "200K-h1", tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert shown in line
    assert "\n" not in line


def test_settings_of_a_budget_without_search_may_lie_outside_the_space(tmp_path: Path) -> None:
    write_best(tmp_path, {"cell": "20M-h1", "lr": 0.9}, "20M-h1")
    assert load_best(load_params(tmp_path), "20M-h1", tmp_path).lr == 0.9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("params/horizons/h1", 61),
        ("params/horizons/h1", 10**30),
        ("params/split/embargo", 10**30),
        ("params/split/longest_context", 10**9),
        ("params/window/context_length", 10**9),
        ("params/budgets/2M/n_params", 10**30),
        ("params/budgets/2M/run/seeds", 101),
        ("params/budgets/2M/run/threads", 101),
        ("params/budgets/2M/run/processes", 101),
        ("params/hpo/seeds", 101),
        ("params/publish/2M", 101),
        ("params/budgets/2M/start/weight_decay", 1e300),
        ("params/budgets/2M/start/epochs", 10**9),
        ("params/train/clip", 1e300),
        ("params/hpo/trials", 10**9),
        ("params/hpo/seed", 2**64),
        ("grid/cells/2M-h1/d_model", 10**9),
        ("space/n_layers", [10**9]),
    ],
)
def test_number_beyond_all_reason_is_refused(tmp_path: Path, key: str, value: object) -> None:
    line = refusal(write_study(tmp_path, (key, value)))
    assert key.partition("/")[2].replace("/", ".") in line
    assert re.search(r"is not allowed; .*(less than|at most) ", line)


def test_a_drive_of_windows_is_no_address(tmp_path: Path) -> None:
    write_study(tmp_path, ("params/datasets/csv/path", "C:/bars/mine.csv"))
    assert load_params(tmp_path).datasets["csv"].path == "C:/bars/mine.csv"


@pytest.mark.parametrize("key", ["path", "volatility_path"])
@pytest.mark.parametrize("address", ["https://u:secret@h/x.csv", "s3:/u:secret@h/x", "file:///x"])
def test_an_address_is_no_file(tmp_path: Path, key: str, address: str) -> None:
    line = refusal(write_study(tmp_path, (f"params/datasets/csv/{key}", address)))
    assert line.startswith(f"params.yaml: datasets.csv.{key}: ")
    assert line.endswith("a file of this machine is needed, not an address")
    assert "secret" not in line


@pytest.mark.parametrize(
    "day", ["2018-1-5", "\uff12\uff10\uff11\uff18-12-31", "today", "2018-12-31\n", "0001-01-01"]
)
def test_day_of_another_form_is_refused(tmp_path: Path, day: str) -> None:
    line = refusal(write_study(tmp_path, ("params/datasets/gspc/end", day)))
    assert line.startswith("params.yaml: datasets.gspc.end: ")


def test_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    path = "a" * 450
    line = refusal(write_study(tmp_path, ("params/datasets/csv/path", path)))
    assert "should have at most 200 characters" in line
    assert len(line) < 200


@pytest.mark.parametrize("key", ["params/datasets/csv/path", "params/datasets/csv/calendar"])
def test_control_character_in_a_text_is_refused(tmp_path: Path, key: str) -> None:
    for text in ("a\nb", "a\0b", "a\x1b[31mb"):
        assert "is not allowed; " in refusal(write_study(tmp_path, (key, text)))


def test_look_up_of_a_name_that_does_not_exist_names_the_others() -> None:
    params = load_params(ROOT)
    with pytest.raises(InputError, match="'h9' is unknown; allowed: h1, h2, h3, h5"):
        params.horizons["h9"]
    with pytest.raises(InputError, match="'2M-h9' is unknown; allowed: 20K-h1, 20K-h2"):
        params.cells["2M-h9"]
