"""Atomic writing, deterministic bytes, and errors of damaged files."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

from patchscale.study.errors import InputError
from patchscale.study.files import (
    digest,
    read_arrow,
    read_json,
    read_yaml,
    replacing,
    write_arrow,
    write_csv,
    write_json,
    write_text,
)


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2018-01-01", periods=300),
            "value": np.random.default_rng(0).standard_normal(300),
            "count": np.arange(300, dtype="int8") % 2,
            "subset": ["train", "val", "test"] * 100,
        }
    )


def test_failing_writer_keeps_the_old_file_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("disk gone")

    with pytest.raises(RuntimeError, match="disk gone"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with replacing(tmp_path / "new" / "out.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list((tmp_path / "new").iterdir()) == []


def test_old_file_remains_until_the_writer_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # a rename across file systems is not atomic
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_with_lf_in_a_folder_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "θ = 1 %\n")
    assert path.read_bytes() == b"\xce\xb8 = 1 %\n"


def test_json_is_sorted_and_ends_with_a_line_feed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [0.1]})
    assert path.read_bytes() == b'{\n  "a": [\n    0.1\n  ],\n  "b": 1\n}\n'
    assert read_json(path) == {"a": [0.1], "b": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_refuses_nan_and_infinity_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"loss": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": value})
    assert read_json(path) == {"loss": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_error_of_missing_json_names_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: missing; `dvc pull` or `dvc repro`"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_damaged_json_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: not valid JSON \(.*dvc checkout") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_arrow_bytes_depend_on_the_contents_only(tmp_path: Path) -> None:
    first, second = tmp_path / "first.arrow", tmp_path / "second.arrow"
    write_arrow(first, frame())
    other = pd.concat([frame().iloc[:7], frame().iloc[7:]])  # other chunks, index and attributes
    other.index = pd.Index(range(1000, 1300), name="row")
    other.attrs["made"] = "elsewhere"
    write_arrow(second, other)
    assert first.read_bytes() == second.read_bytes()


def test_arrow_file_has_no_metadata_and_a_plain_date(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_arrow(path, frame())
    schema = feather.read_table(str(path)).schema
    assert schema.metadata is None
    assert schema.names == ["date", "value", "count", "subset"]
    assert schema.types == [pa.date32(), pa.float64(), pa.int8(), pa.string()]


def test_arrow_round_trip_keeps_every_value(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_arrow(path, frame())
    back = read_arrow(path)
    assert pd.api.types.is_datetime64_any_dtype(back["date"])
    pd.testing.assert_frame_equal(back, frame(), check_dtype=False, check_exact=True)


def test_error_of_missing_arrow_names_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.arrow: missing; `dvc pull` or `dvc repro`"):
        read_arrow(tmp_path / "a.arrow")


@pytest.mark.parametrize("keep", [0, 3, 40, 1000])
def test_cut_off_arrow_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.arrow"
    write_arrow(path, frame())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.arrow: damaged \(.*dvc checkout") as caught:
        read_arrow(path)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_arrow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    path.write_text("date,value\n2018-01-02,1\n" * 50)
    with pytest.raises(InputError, match=r"a\.arrow: damaged"):
        read_arrow(path)


def test_csv_has_fixed_decimals_and_plain_dates(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, pd.DataFrame({"date": pd.to_datetime(["2018-01-02"]), "loss": [1 / 3]}), 3)
    assert path.read_bytes() == b"date,loss\n2018-01-02,0.333\n"


def test_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    assert digest(path) == hashlib.sha256(b"abc").hexdigest()
    assert digest(path, "md5") == hashlib.md5(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[" * 100_000, "line 1: nested more than 20 deep"),
        ("{a: " * 100_000, "line 1: nested more than 20 deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "line 21: nested more than 20 deep"),
        ("a: &x [1]\nb: [*x, *x]\n", "line 1: an anchor or alias"),
        ("a: *x\n", "line 1: an anchor or alias"),
        ("a: 1\nb: " + "9" * 5000, "line 2: a key or value of 5,000 characters; 500 are allowed"),
        ("a: 0x" + "f" * 5000, "line 1: a key or value of 5,002 characters; 500 are allowed"),
        ("'" + "k" * 5000 + "': 1", "line 1: a key or value of 5,000 characters; 500 are allowed"),
        ("a: !!timestamp x", "line 1: the tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        ("a: !!python/object:os.system x", "line 1: the tag 'tag:yaml.org,2002:python"),
        ("a: 2018-13-45", "not valid YAML (month must be in 1..12)"),
        ("a: 0b_", "not valid YAML (invalid literal for int() with base 2"),
        ("a: {b: 1, b: 2}", "not valid YAML (key 'b' occurs twice)"),
        ("? [1]\n: 2", "not valid YAML (while constructing a mapping"),
        ("a: 1\n---\nb: 1\n", "not valid YAML (expected a single document"),
        ("#" * (1 << 20) + "\na: 1\n", "larger than 1,048,576 bytes, which is the limit"),
    ],
    ids=range(16),
)
def test_yaml_that_no_study_needs_is_refused_in_one_short_line(
    tmp_path: Path, text: str, shown: str
) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: {shown}")
    assert len(line) < len(str(path)) + 320
    assert "\n" not in line


def test_yaml_of_plain_values_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: {b: [1, 2.5, true], c: 'x'}\nd: null\n")
    assert read_yaml(path) == {"a": {"b": [1, 2.5, True], "c": "x"}, "d": None}
