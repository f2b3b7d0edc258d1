"""Files made again are close if only the last bits of their numbers differ."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from locked import track, write

from patchscale.study.files import write_arrow, write_csv
from patchscale.verify.numbers import close
from patchscale.verify.pipeline import declared_stages
from patchscale.verify.records import entry_of
from patchscale.verify.remake import regenerate

VALUES = [0.1, -2.5e-9, 0.0, 1e6, np.nan]


def frame(**changes: list[object]) -> pd.DataFrame:
    columns = {
        "date": pd.bdate_range("2018-01-02", periods=5).as_unit("s"),
        "subset": ["val", "val", "test", "test", "test"],
        "label": [0, 1, 1, 0, 0],
        "x": VALUES,
    }
    return pd.DataFrame(columns | changes)


def times(factor: float) -> list[float]:
    return [value * factor for value in VALUES]


@pytest.mark.parametrize(
    ("changes", "is_close"),
    [
        ({}, True),
        ({"x": times(1 + 2e-13)}, True),
        ({"x": [*VALUES[:2], 3e-17, *VALUES[3:]]}, True),
        ({"x": times(1 + 2e-8)}, False),
        ({"x": [*VALUES[:4], 1.0]}, False),
        ({"label": [0, 1, 1, 0, 1]}, False),
        ({"label": [0.0, 1.0, 1.0, 0.0, 0.0]}, False),
        ({"subset": ["val", "test", "test", "test", "test"]}, False),
        ({"date": pd.bdate_range("2018-01-03", periods=5).as_unit("s")}, False),
        ({"more": VALUES}, False),
    ],
)
def test_a_table_is_close_if_only_last_bits_of_its_floats_differ(
    tmp_path: Path, changes: dict, is_close: bool
):
    one, other = tmp_path / "a.arrow", tmp_path / "b.arrow"
    write_arrow(one, frame(**changes))
    write_arrow(other, frame())
    assert close(one, other) == is_close


def test_a_table_with_a_row_more_is_not_close(tmp_path: Path):
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    write_csv(one, frame())
    write_csv(other, frame()[:-1])
    assert close(one, one)
    assert not close(one, other)


@pytest.mark.parametrize(
    ("value", "is_close"),
    [
        ({"p": 0.04, "n": [1, None, "a", True]}, True),
        ({"p": 0.04 * (1 + 1e-14), "n": [1, None, "a", True]}, True),
        ({"p": 0.041, "n": [1, None, "a", True]}, False),
        ({"p": 0.04, "n": [1.0, None, "a", True]}, False),
        ({"p": 0.04, "n": [1, None, "b", True]}, False),
        ({"p": 0.04, "n": [1, None, "a"]}, False),
        ({"p": 0.04}, False),
    ],
)
def test_json_is_close_if_only_last_bits_of_its_floats_differ(
    tmp_path: Path, value: object, is_close: bool
):
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    one.write_text(json.dumps(value, indent=1))
    other.write_text(json.dumps({"p": 0.04, "n": [1, None, "a", True]}))
    assert close(one, other) == is_close


def test_texts_pictures_and_damaged_files_are_compared_by_bytes(tmp_path: Path):
    for suffix in (".svg", ".md", ".yaml", ".json", ".arrow"):
        one, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        one.write_text("0.1 x")
        other.write_text("0.10000000000000001 x")
        assert close(one, one)
        assert not close(one, other)
    assert not close(tmp_path / "missing.md", tmp_path / "a.md")


def test_folders_are_close_if_their_files_are(tmp_path: Path):
    for name, value in (("one", "0.1"), ("other", "0.10000000000000002")):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}/a.json").write_text(value)
    assert close(tmp_path / "one", tmp_path / "other")
    (tmp_path / "one/more.json").write_text("1")
    assert not close(tmp_path / "one", tmp_path / "other")


ROUNDS = """
from pathlib import Path
def main(*words):
    Path("first.json").write_text({text!r})
"""
READS = """
from pathlib import Path
def main(*words):
    Path("second.txt").write_bytes(Path("first.json").read_bytes())
"""


@pytest.mark.parametrize(
    ("again", "verdicts"),
    [
        ("0.1", ["reproduced", "reproduced"]),
        ("0.10000000000000002", ["within tolerance", "reproduced"]),
        ("0.11", ["differs", "differs"]),
    ],
)
def test_later_stages_read_what_is_published_where_an_earlier_one_rounds_otherwise(
    tmp_path: Path, again: str, verdicts: list[str]
):
    write(tmp_path / "stages/first.py", ROUNDS.format(text=again).encode())
    write(tmp_path / "stages/second.py", READS.encode())
    write(
        tmp_path / "dvc.yaml",
        b"""stages:
  first:
    cmd: python stages/first.py
    deps: [stages/first.py]
    outs: [first.json]
  second:
    cmd: python stages/second.py
    deps: [stages/second.py, first.json]
    outs: [second.txt]
""",
    )
    write(tmp_path / "first.json", b"0.1")
    write(tmp_path / "second.txt", b"0.1")
    track(tmp_path)
    stages = declared_stages(tmp_path)
    lock = {
        name: {"outs": [entry_of(path, tmp_path) for path in stage.outs]}
        for name, stage in stages.items()
    }
    rows = list(regenerate(lock, stages, tmp_path, ("first", "second")))
    assert [row.verdict for row in rows] == verdicts
