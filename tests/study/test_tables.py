"""Content of tables of days: what is impossible is refused in one line."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, read_csv, write_arrow, write_json
from patchscale.study.tables import read_features, read_kinds, read_table

COLUMNS = ["date", "subset", "p"]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def frame() -> pd.DataFrame:
    days = pd.bdate_range("2018-01-01", periods=6)
    subset = ["train", "purged", "val", "val", "test", "test"]
    return pd.DataFrame({"date": days, "subset": subset, "p": np.linspace(0, 1, 6)})


def put(column: str, value: object) -> Change:
    """Return a function that puts a value into the third row of a column."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[2, column] = value
        return table

    return change


def test_a_good_table_is_returned_as_it_is(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a", frame())
    found = read_table(tmp_path / "a", COLUMNS)
    pd.testing.assert_frame_equal(found, frame(), check_dtype=False, check_exact=True)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.drop(columns="p"), "columns date, subset; needed: date, subset, p"),
        (lambda t: t.assign(q=1.0), "columns date, subset, p, q; needed: date, subset, p"),
        (lambda t: t[["subset", "date", "p"]], "columns subset, date, p; needed"),
        (lambda t: t.rename(columns={"p": "p" * 99}), "columns date, subset, ppp"),
        (lambda t: t.iloc[::-1], "2018-01-05 does not come after the date before it"),
        (put("date", pd.Timestamp("2018-01-02")), "2018-01-02 does not come after the date before"),
        (put("date", pd.NaT), "an empty date does not come after the date before it"),
        (put("p", np.nan), "p of 2018-01-03 is 'nan'; a finite number is needed"),
        (put("p", np.inf), "p of 2018-01-03 is 'inf'; a finite number is needed"),
        (put("subset", "exam"), "subset of 2018-01-03 is 'exam'; one of train, val, test, purged"),
        (put("subset", None), "subset of 2018-01-03 is"),
        (lambda t: t.assign(p="high"), "column p holds no numbers"),
    ],
)
def test_impossible_content_is_refused_in_one_line(
    change: Change, line: str, tmp_path: Path
) -> None:
    write_arrow(tmp_path / "a.arrow", change(frame()))
    with pytest.raises(InputError, match=re.escape(line)) as caught:
        read_table(tmp_path / "a.arrow", COLUMNS)
    assert str(caught.value).startswith(f"{tmp_path / 'a.arrow'}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 280


def test_further_columns_are_numbers_too(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a", frame().assign(p_seed0=0.5))
    assert list(read_table(tmp_path / "a", COLUMNS, more=True))[-1] == "p_seed0"
    write_arrow(tmp_path / "a", frame().assign(p_seed0=np.nan))
    with pytest.raises(InputError, match="p_seed0 of 2018-01-01 is 'nan'"):
        read_table(tmp_path / "a", COLUMNS, more=True)


def test_a_date_that_is_a_number_is_refused(tmp_path: Path) -> None:
    feather.write_feather(pa.table({"date": [1.0, 2.0]}), str(tmp_path / "a"))
    with pytest.raises(InputError, match="column date holds no days"):
        read_arrow(tmp_path / "a")


def test_a_day_that_no_calendar_has_is_refused(tmp_path: Path) -> None:
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    feather.write_feather(pa.table({"date": days}), str(tmp_path / "a"))
    with pytest.raises(InputError, match=r"a: damaged \("):
        read_arrow(tmp_path / "a")


def test_offsets_beyond_their_text_are_refused_and_do_not_end_the_process(tmp_path: Path) -> None:
    words = pa.table({"subset": ["abc", "def"]})
    feather.write_feather(words, str(tmp_path / "a"), "uncompressed")
    good, wrong = (np.array([0, 3, end], dtype="<i4").tobytes() for end in (6, 2**30))
    content = (tmp_path / "a").read_bytes()
    assert content.count(good) == 1
    (tmp_path / "a").write_bytes(content.replace(good, wrong))
    with pytest.raises(InputError, match=r"a: damaged \(.*offset"):
        read_arrow(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3\n4", b"a\n\xff\n"])
def test_a_damaged_csv_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    if content.startswith(b"a,b"):
        (tmp_path / "a.csv").write_bytes(b"a\n1\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv: damaged \(") as caught:
        read_csv(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "line"),
    [
        ([], "no features"),
        ({}, "no features"),
        ({"a": "flat"}, "a: 'flat' is not allowed; level or stationary is needed"),
        ({"a": 1}, "a: '1' is not allowed; level or stationary is needed"),
        ({"a": ["level"] * 50}, "a: \"['level', 'level'"),
    ],
)
def test_kinds_that_no_feature_has_are_refused(kinds: object, line: str, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", kinds)
    with pytest.raises(InputError, match=re.escape(line)):
        read_kinds(tmp_path / "a.json")


def test_features_have_the_columns_of_their_kinds_and_the_days_of_the_split(tmp_path: Path) -> None:
    table = frame().drop(columns="subset").rename(columns={"p": "b"}).assign(a=1.0)
    write_arrow(tmp_path / paths.features("a20"), table)
    write_json(tmp_path / paths.kinds("a20"), {"a": "level", "b": "level"})  # in another order
    found, kinds = read_features("a20", table["date"][2:], tmp_path)
    assert len(found) == 6
    assert kinds == {"a": "level", "b": "level"}
    later = pd.Series(pd.bdate_range("2018-01-08", periods=4))
    with pytest.raises(InputError, match="3 dates of the split are missing, the first 2018-01-09"):
        read_features("a20", later, tmp_path)
    write_json(tmp_path / paths.kinds("a20"), {"a": "level"})
    with pytest.raises(InputError, match="columns b, a; needed: a;"):
        read_features("a20", later, tmp_path)
