import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from patchscale.study.errors import InputError
from patchscale.study.params import load_best, load_params

CHECK = ROOT / "stages" / "check.py"
REMOVE = object()

Change = tuple[str, Any]
Write = Callable[..., Path]


def changed(*changes: Change) -> dict[str, Any]:
    """Return params.yaml as a dictionary with `changes` made at `/`-separated keys."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes:
        *parents, last = key.split("/")
        section = params
        for name in parents:
            section = section[name]
        if value is REMOVE:
            del section[last]
        else:
            section[last] = value
    return params


@pytest.fixture
def write_params(tmp_path: Path) -> Write:
    def write(*changes: Change) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(changed(*changes), sort_keys=False), encoding="utf-8")
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_params(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_params_of_the_repository_load() -> None:
    params = load_params(ROOT)
    assert params.dataset in params.datasets
    assert params.data is params.datasets[params.dataset]
    assert len(params.cells) == len(params.budgets) * len(params.horizons) == 16
    assert params.horizons == {"h1": 1, "h2": 2, "h3": 3, "h5": 5}


@pytest.mark.parametrize(
    ("key", "shown", "allowed"),
    [
        ("colour", "colour", ["dataset", "backtest", "cells"]),
        ("train/sede", "train.sede", ["seeds", "patience", "clip"]),
        ("split/scattered/blocks", "split.scattered.blocks", ["block", "fraction", "seed"]),
        ("datasets/gspc/begin", "datasets.gspc.begin", ["start", "exceptions"]),
        ("budgets/2M/weight_decays", "budgets.2M.weight_decays", ["weight_decay", "lr"]),
        ("cells/2M-h1/d_ff", "cells.2M-h1.d_ff", ["d_model", "n_heads", "search"]),
    ],
)
def test_unknown_key_is_refused_with_its_siblings(
    write_params: Write, key: str, shown: str, allowed: list[str]
) -> None:
    line = refusal(write_params((key, 1)))
    assert f": {shown}: unknown key; allowed: " in line
    offered = line.partition("allowed: ")[2].split(", ")
    assert set(allowed) <= set(offered)
    assert offered == sorted(offered)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("budgets/2M/lr", "fast", "budgets.2M.lr: 'fast' is not allowed; .*number"),
        ("budgets/2M/lr", "0.001", "budgets.2M.lr: '0.001' is not allowed; .*number"),
        ("budgets/2M/lr", 0.0, r"budgets.2M.lr: 0.0 is not allowed; .*greater than 0"),
        ("budgets/2M/lr", float("nan"), r"budgets.2M.lr: nan is not allowed; .*finite"),
        ("budgets/2M/dropout", 1.0, r"budgets.2M.dropout: 1.0 is not allowed; .*less than 1"),
        ("train/seeds/2M", True, "train.seeds.2M: True is not allowed; .*integer"),
        ("train/precision/2M", "bf16", "train.precision.2M: 'bf16' is not .*'bf16-mixed'"),
        ("tracking/mlflow", True, "tracking.mlflow: True is not allowed; .*string"),
        ("train/batch_size", 256.0, "train.batch_size: 256.0 is not allowed; .*integer"),
        ("train/patience", 0, "train.patience: 0 is not allowed; .*greater than 0"),
        ("study/train/2M", 1, "study.train.2M: 1 is not allowed; .*boolean"),
        ("hpo/trials", -1, "hpo.trials: -1 is not allowed; .*greater than or equal to 0"),
        ("hpo/batch", 0, "hpo.batch: 0 is not allowed; .*greater than 0"),
        ("hpo/pruning/percentile", 101.0, "hpo.pruning.percentile: 101.0 is not .*equal to 100"),
        ("hpo/space/lr", [0.001, 0.0001], "hpo.space.lr: .* is not allowed; .*low < high"),
        ("hpo/space/lr", [0.001], "hpo.space.lr: .* is not allowed; .*at least 2 items"),
        ("hpo/space/d_model", [64, 64], "hpo.space.d_model: .* is not allowed; .*there twice"),
        ("hpo/space/n_heads", [], "hpo.space.n_heads: .* is not allowed; .*at least 1 item"),
        ("horizons/h1", "1", "horizons.h1: '1' is not allowed; .*integer"),
        ("horizons/h1", 0, "horizons.h1: 0 is not allowed; .*greater than 0"),
        ("target/side", "sideways", "target.side: 'sideways' is not allowed; .*'up' or 'down'"),
        ("target/reference", "high", "target.reference: 'high' is not allowed; .*'close'"),
        ("model/normalisation", "none", "model.normalisation: 'none' is not allowed; .*'kind'"),
        ("datasets/gspc/end", "31.12.2018", "datasets.gspc.end: '31.12.2018' is not allowed;"),
        ("cells/2M-h1/n_layers", None, "cells.2M-h1.n_layers: None is not allowed; .*integer"),
    ],
)
def test_wrong_value_is_refused_with_what_is_allowed(
    write_params: Write, key: str, value: object, said: str
) -> None:
    path = write_params((key, value))
    refusal(path)
    with pytest.raises(InputError, match=said):
        load_params(path)


@pytest.mark.parametrize(
    ("change", "said", "allowed"),
    [
        (("dataset", "dax"), "dataset: 'dax' is unknown", "gspc, ixic"),
        (("features/tier", "a21"), "features.tier: 'a21' is not in features.tiers", "a20, a25"),
        (("model/budget", "3M"), "model.budget: '3M' is unknown", "2M, 20M"),
        (("model/horizon", "h4"), "model.horizon: 'h4' is unknown", "h1, h2, h3, h5"),
        (("study/searched", ["h1", "h4"]), "study.searched: 'h4' is unknown", "h1, h2, h3, h5"),
        (("study/publish_weights", ["1M"]), "study.publish_weights: '1M' is unknown", "2M, 20M"),
        (("study/search/1M", False), "study.search.1M: '1M' is unknown", "2M, 20M"),
        (
            ("budgets/2M/dropout", 0.05),
            "budgets.2M.dropout: 0.05 is trial 0 of a search and outside hpo.space.dropout",
            "0.1 to 0.5",
        ),
        (
            ("hpo/space/n_layers", [2, 32, 64]),
            "cells.2M-h1.n_layers: 48 is trial 0 of a search and outside hpo.space.n_layers",
            "2, 32, 64",
        ),
        (("study/train/1M", False), "study.train.1M: '1M' is unknown", "2M, 20M"),
        (("train/seeds/1M", 3), "train.seeds.1M: '1M' is unknown", "2M, 20M, 200M, 2B"),
        (("train/precision/1M", "32-true"), "train.precision.1M: '1M' is unknown", "2M, 20M"),
        (
            ("cells/2M-h2/search", "2M-h2"),
            "cells.2M-h2.search: '2M-h2' is unknown",
            "2M-h1, 2M-h3, 2M-h5, 20M-h1",
        ),
    ],
)
def test_unknown_name_is_refused_with_the_known_ones(
    write_params: Write, change: Change, said: str, allowed: str
) -> None:
    line = refusal(write_params(change))
    assert f": {said}; allowed: " in line
    assert allowed in line.partition("allowed: ")[2]


@pytest.mark.parametrize(
    "table",
    [
        "study/search",
        "study/train",
        "train/seeds",
        "train/processes",
        "train/threads",
        "train/precision",
    ],
)
def test_table_without_a_row_for_a_budget_is_named(write_params: Write, table: str) -> None:
    line = refusal(write_params((f"{table}/2B", REMOVE)))
    key = table.replace("/", ".")
    assert line.endswith(f": {key}.2B: missing; the table has one row per budget")


def test_missing_key_is_named(write_params: Write) -> None:
    assert refusal(write_params(("train/clip", REMOVE))).endswith(": train.clip: missing")


def test_line_counts_the_problems_it_does_not_show(write_params: Write) -> None:
    line = refusal(write_params(("train/clip", REMOVE), ("colour", 1), ("train/seeds", "x")))
    assert line.endswith("(and 2 more)")


def test_missing_row_of_cells_is_named(write_params: Write) -> None:
    line = refusal(write_params(("cells/20M-h3", REMOVE)))
    assert ": cells.20M-h3: missing; the table has one row per budget and horizon" in line


def test_extra_row_of_cells_is_named(write_params: Write) -> None:
    row = changed()["cells"]["2M-h1"]
    line = refusal(write_params(("cells/2M-h9", row)))
    assert ": cells.2M-h9: unknown; the table has one row per budget and horizon" in line


def test_row_named_unlike_its_contents_is_refused(write_params: Write) -> None:
    line = refusal(write_params(("cells/2M-h1/horizon", "h5")))
    assert ": cells.2M-h1: budget and horizon are 2M, h5" in line


def test_heads_that_do_not_divide_the_width_are_refused(write_params: Write) -> None:
    line = refusal(write_params(("cells/2M-h1/d_model", 64), ("cells/2M-h1/n_heads", 3)))
    assert ": cells.2M-h1.n_heads: 3 does not divide d_model 64" in line


def test_weights_of_an_untrained_budget_cannot_be_published(write_params: Write) -> None:
    line = refusal(write_params(("study/publish_weights", ["2B"]), ("study/train/2B", False)))
    assert ": study.publish_weights: '2B' has no weights; set study.train.2B" in line


def test_csv_source_needs_a_path(write_params: Write) -> None:
    line = refusal(write_params(("dataset", "csv"), ("datasets/csv/path", "")))
    assert ": datasets.csv.path: empty; a CSV file is needed" in line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [("csv/volatility", "VIX"), ("csv/volatility_path", "")],
            "csv: volatility is 'VIX' and volatility_path is ''; needed are both or neither",
        ),
        (
            [("csv/volatility", ""), ("csv/volatility_path", "VIX.csv")],
            "csv: volatility is '' and volatility_path is 'VIX.csv'; needed are both or neither",
        ),
        (
            [("ixic/volatility", "vix")],
            "ixic.volatility: 'vix' is not allowed; arch has no volatility index",
        ),
        (
            [("csv/series", "VIX"), ("csv/volatility", "^VIX"), ("csv/volatility_path", "a")],
            "csv.volatility: '^VIX' is the price series itself",
        ),
        (
            [("csv/series", "../bars")],
            "csv.series: '../bars' is not allowed; string should match pattern",
        ),
        ([("csv/exceptions", {"2018-12-05": ""})], "csv.exceptions.2018-12-05: '' is not allowed"),
        (
            [("csv/exceptions", {"5.12.2018": "why"})],
            "'5.12.2018' is not allowed; string should match",
        ),
        ([("../up", changed()["datasets"]["csv"])], "'../up' is not allowed; string should match"),
    ],
)
def test_data_set_that_cannot_be_downloaded_is_refused(
    write_params: Write, changes: list[Change], said: str
) -> None:
    params = changed()
    for key, value in changes:
        if key.startswith(".."):
            params["datasets"][key] = value
        else:
            name, _, setting = key.partition("/")
            params["datasets"][name][setting] = value
    line = refusal(write_params(("datasets", params["datasets"])))
    assert said in line


def test_data_set_with_a_volatility_index_has_two_series(write_params: Write) -> None:
    volatility = [("datasets/csv/volatility", "VIX"), ("datasets/csv/volatility_path", "vix.csv")]
    params = load_params(write_params(*volatility, ("datasets/csv/series", "SPY")))
    assert params.datasets["csv"].all_series == ["SPY", "VIX"]
    assert params.datasets["gspc"].all_series == ["sp500"]


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("validation_from", "1999-01-04"),
        ("test_from", "2015-01-02"),
        ("end", "2018-01-02"),
    ],
)
def test_boundaries_out_of_order_are_refused(write_params: Write, key: str, day: str) -> None:
    line = refusal(write_params(("dataset", "gspc"), (f"datasets/gspc/{key}", day)))
    assert ": datasets.gspc: needed is start < validation_from < test_from < end, found " in line
    assert day in line


def test_patch_longer_than_the_context_is_refused(write_params: Write) -> None:
    line = refusal(write_params(("model/patch_length", 61), ("model/context_length", 60)))
    assert ": model.patch_length: 61 is longer than model.context_length 60" in line


def test_missing_params_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "params.yaml").endswith("params.yaml: missing")


def test_params_that_are_no_yaml_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("dataset: gspc\n  datasets: [\n", encoding="utf-8")
    assert ": not valid YAML (" in refusal(path)


def test_a_row_outside_the_space_is_fine_where_nothing_is_searched(write_params: Write) -> None:
    row = ("budgets/2M/dropout", 0.05)
    load_params(write_params(row, ("study/search/2M", False)))
    load_params(write_params(row, ("hpo/trials", 0)))


def test_search_result_with_an_unread_setting_is_refused(tmp_path: Path) -> None:
    # pitfall 3: what a search sampled must reach the optimiser
    best = {
        "cell": "2M-h1",
        "trial": 0,
        "n_params": 2_000_000,
        "d_model": 64,
        "n_layers": 48,
        "n_heads": 2,
        "d_ff": 192,
        "lr": 0.0008,
        "dropout": 0.12,
        "weight_decay": 0.001,
        "warmup_steps": 100,
        "epochs": 50,
    }
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(best), encoding="utf-8")
    assert load_best(path).model_dump(exclude_none=True) == best
    path.write_text(yaml.safe_dump(best | {"beta2": 0.95}), encoding="utf-8")
    with pytest.raises(InputError, match=r"beta2: unknown key; allowed: cell, d_ff, d_model"):
        load_best(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("budgets/2M/colour", 1)], "budgets.2M.colour: unknown key; allowed: "),
        ([("features/tiers", ["a20", "a30"])], "features.tiers: 'a30' is unknown; allowed: a20"),
        ([("cells/2M-h1/n_layers", 2)], "cells.2M-h1: d_model=64, n_layers=2 has no d_ff"),
        ([("features/tiers", ["a20", "a20c"])], "features.tiers: 'a20c' needs a volatility index"),
        (
            [("dataset", "csv"), ("datasets/csv/path", "my.csv")],
            "datasets.csv.path: 'my.csv' is outside inputs/",
        ),
        (
            [("dataset", "csv"), ("datasets/csv/path", "inputs/../my.csv")],
            "datasets.csv.path: 'inputs/../my.csv' is outside inputs/",
        ),
    ],
)
def test_check_stage_ends_with_code_2_and_one_line_and_touches_nothing(
    write_params: Write, tmp_path: Path, changes: list[Change], said: str
) -> None:
    write_params(*changes)
    output = tmp_path / "data" / "params.checked"
    output.parent.mkdir()
    output.write_bytes(b"from an earlier run")
    done = subprocess.run(
        [sys.executable, str(CHECK)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert output.read_bytes() == b"from an earlier run"
    assert list(output.parent.iterdir()) == [output]


def test_check_stage_refuses_to_show_an_untrained_budget(
    write_params: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(("model/budget", "2B"), ("study/train/2B", False))
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(CHECK))["main"]
    with pytest.raises(
        InputError, match=r"model\.budget: 2B is not trained.*study\.train=\{2B: true\}"
    ):
        main()
    assert not (tmp_path / "data").exists()


def test_check_stage_marks_good_params(
    write_params: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params()
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(CHECK))["main"]()
    assert (tmp_path / "data" / "params.checked").is_file()
