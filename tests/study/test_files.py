"""Atomic writing, deterministic bytes, and errors of damaged files."""

import errno
import hashlib
import math
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

from patchscale.study import files
from patchscale.study.errors import InputError, Stopped
from patchscale.study.files import (
    digest,
    read_arrow,
    read_json,
    read_sealed,
    replacing,
    write_arrow,
    write_csv,
    write_json,
    write_metrics,
    write_sealed,
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


def test_the_disk_holds_the_new_file_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "out.txt", []
    rename = Path.replace

    def flushing(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")

    def renaming(source: Path, target: Path) -> Path:
        done.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(Path, "replace", renaming)
    write_text(path, "new")
    assert done == ["file", "rename", "folder"]


def test_what_killed_processes_left_of_a_file_is_removed_when_it_is_written_again(
    tmp_path: Path,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in ("out.txt", "other.txt"):
        (tmp_path / f".{name}.{ended.pid}.tmp").write_text("half")
    (tmp_path / f".out.txt.{os.getppid()}.tmp").write_text("another process writes")
    write_text(tmp_path / "out.txt", "new")
    assert {file.name for file in tmp_path.iterdir()} == {
        "out.txt",
        f".other.txt.{ended.pid}.tmp",
        f".out.txt.{os.getppid()}.tmp",
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("place", ["mkdir", "write_text", "fsync", "replace"])
def test_a_disk_at_fault_is_a_line_and_the_old_file_stays(
    place: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def fault(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os if place == "fsync" else Path, place, fault)
    with pytest.raises(Stopped) as caught:
        write_text(path, "new")
    assert str(caught.value) == (
        f"{path}: {os.strerror(number)}; the same command goes on once this is fixed"
    )
    assert path.read_text() == "old"
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


def test_a_sealed_object_comes_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"loss": 0.1 + 0.2, "curve": [1.0]})
    assert read_sealed(path) == {"loss": 0.1 + 0.2, "curve": [1.0]}
    text = path.read_text()
    for content in (
        text.replace("0.3", "0.2", 1),
        "[]",
        "5",
        "{}",
        "",
        '{"sha256": 1}',
        "[" * 10**5,
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"another hash|Expecting value|nested too deep"):
            read_sealed(path)


def test_metrics_are_short_and_without_undefined_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_metrics(path, {"cell": "2M-h1", "n": 250, "loss": 0.43384, "gap": math.nan, "p": 1e-5})
    assert read_json(path) == {"cell": "2M-h1", "n": 250, "loss": 0.4338, "gap": None, "p": 0.0}


@pytest.mark.parametrize(("p", "written"), [(4 / 4096, 0.000977), (0.0449, 0.0449), (0.0, 0.0)])
def test_a_small_number_keeps_its_digits_where_they_count(
    tmp_path: Path, p: float, written: float
) -> None:
    write_metrics(tmp_path / "a.json", {"p": p, "loss": p}, significant=["p"])
    assert read_json(tmp_path / "a.json") == {"p": written, "loss": round(p, 4)}


def test_json_without_a_needed_key_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"trained": True})
    assert read_json(tmp_path / "a.json", "trained") == {"trained": True}
    with pytest.raises(InputError, match=r"a\.json: n_params: missing"):
        read_json(tmp_path / "a.json", "trained", "n_params")
    write_json(tmp_path / "a.json", [])
    with pytest.raises(InputError, match=r"a\.json: trained: missing"):
        read_json(tmp_path / "a.json", "trained")


def test_a_small_table_that_would_take_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.arrow"
    zeros = pd.DataFrame({"a": np.zeros(1_000_000), "b": np.zeros(1_000_000)})
    table = pa.Table.from_pandas(zeros, preserve_index=False)
    for compression in ("zstd", "lz4"):
        feather.write_feather(table, str(path), compression=compression)
        assert path.stat().st_size < 100_000 + table.nbytes // 20
        monkeypatch.setattr(files, "MAX_TABLE", table.nbytes)
        assert len(read_arrow(path)) == 1_000_000
        monkeypatch.setattr(files, "MAX_TABLE", table.nbytes - 1)
        with pytest.raises(InputError, match=r"damaged \([0-9,]+ bytes of columns; 1[0-9,]+ are"):
            read_arrow(path)


@pytest.mark.parametrize(
    ("column", "line"),
    [
        (pa.nulls(3), "a column of type null"),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "a column of type dictionary"),
        (pa.array([{"x": 1}] * 3), "a column of type struct"),
        (pa.array([[[1]]] * 3), "a column of type list<item: list"),
    ],
)
def test_a_column_that_no_stage_writes_is_refused(
    tmp_path: Path, column: pa.Array, line: str
) -> None:
    feather.write_feather(pa.table({"a": column}), str(tmp_path / "a.arrow"))
    with pytest.raises(InputError, match=re.escape(f"damaged ({line}")):
        read_arrow(tmp_path / "a.arrow")


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([1.0]), pa.array([2.0])], names=["a", "a"])
    feather.write_feather(table, str(tmp_path / "a.arrow"))
    with pytest.raises(InputError, match="a column occurs twice"):
        read_arrow(tmp_path / "a.arrow")


def test_memory_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    write_arrow(tmp_path / "a.arrow", frame())
    monkeypatch.setattr(feather, "read_table", fail)
    with pytest.raises(InputError, match=r"damaged \(MemoryError\)"):
        read_arrow(tmp_path / "a.arrow")
