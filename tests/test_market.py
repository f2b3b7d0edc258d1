import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchscale.config import Dataset, load_params
from patchscale.errors import InputError
from patchscale.market import COLUMNS, canonical_csv, fetch, read_bars

DATASETS = load_params(Path(__file__).resolve().parent.parent / "params.yaml").datasets
TWO_DAYS = """\
date,open,high,low,close,volume,dividends,splits
2018-01-02,100.000000,101.500000,99.250000,101.000000,1234568,0.000000,0.000000
2018-01-03,50.333333,51.000000,50.000000,50.500000,3000000000,0.125000,2.000000
"""


def two_days() -> pd.DataFrame:
    rows = [
        (pd.Timestamp("2018-01-02"), 100.0, 101.5, 99.25, 101.0, 1234567.6, 0.0, 0.0),
        (pd.Timestamp("2018-01-03"), 151 / 3, 51.0, 50.0, 50.5, 3e9, 0.125, 2.0),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def shipped(name: str) -> Dataset:
    whole = {"start": "1999-01-04", "end": "2018-12-31"}
    return DATASETS[name].model_copy(update=whole)


def test_canonical_text_is_exact() -> None:
    assert canonical_csv(two_days()) == TWO_DAYS


def test_canonical_text_does_not_change_the_bars() -> None:
    bars = two_days()
    canonical_csv(bars)
    pd.testing.assert_frame_equal(bars, two_days())


def test_canonical_text_reads_back_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(TWO_DAYS)
    bars = read_bars(path)
    assert list(bars.columns) == COLUMNS
    assert bars["date"].tolist() == [pd.Timestamp("2018-01-02"), pd.Timestamp("2018-01-03")]
    assert canonical_csv(bars) == TWO_DAYS


def test_gzip_and_column_names_of_yahoo_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv.gz"
    text = "Date,Open,High,Low,Close,Adj Close,Volume\n01/02/2018,1,2,0.5,1.5,1.4,10\n"
    path.write_bytes(gzip.compress(text.encode()))
    bars = read_bars(path, "%m/%d/%Y")
    assert list(bars.columns) == COLUMNS
    assert bars.iloc[0].tolist() == [pd.Timestamp("2018-01-02"), 1, 2, 0.5, 1.5, 10, 0, 0]


def test_missing_file_is_named_with_the_columns_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bars\.csv: missing; .*date,open,high,low,close,volume"):
        read_bars(tmp_path / "bars.csv")


@pytest.mark.parametrize("column", COLUMNS[:6])
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(canonical_csv(two_days()).replace(column, f"my_{column}", 1))
    with pytest.raises(InputError, match=rf"bars\.csv: column '{column}' is missing; needed: date"):
        read_bars(path)


@pytest.mark.parametrize("bad", ["03.01.2018", "2018-02-30", "20180103", ""])
def test_bad_date_is_shown(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(TWO_DAYS.replace("2018-01-03", bad))
    shown = f"'{bad}'" if bad else "nan"
    with pytest.raises(InputError, match=rf"date {shown} is not of the form %Y-%m-%d"):
        read_bars(path)


@pytest.mark.parametrize(("bad", "shown"), [("n/a!", "'n/a!'"), ("", ".*nan.*"), ("1;5", "'1;5'")])
def test_value_that_is_no_number_is_shown_with_its_date(
    tmp_path: Path, bad: str, shown: str
) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(TWO_DAYS.replace("50.500000", bad))
    with pytest.raises(InputError, match=rf"close of 2018-01-03 is {shown}, no number"):
        read_bars(path)


@pytest.mark.parametrize("content", [TWO_DAYS.encode(), gzip.compress(TWO_DAYS.encode())[:60]])
def test_damaged_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bars.csv.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bars\.csv\.gz: not readable as CSV \(") as caught:
        read_bars(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "date,open\n1,2,3,4\n1,2\n1,2,3,4,5,6\n"])
def test_file_that_is_no_csv_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bars\.csv: not readable as CSV \(") as caught:
        read_bars(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gspc", "ixic"])
def test_offline_data_sets_are_whole_and_read_back_from_their_text(
    tmp_path: Path, name: str
) -> None:
    bars = fetch(shipped(name))
    assert len(bars) == 5031
    assert bars["date"].iloc[0] == pd.Timestamp("1999-01-04")
    assert bars["date"].iloc[-1] == pd.Timestamp("2018-12-31")
    assert list(bars.columns) == COLUMNS
    path = tmp_path / "bars.csv"
    path.write_text(canonical_csv(bars), newline="\n")
    back = read_bars(path)
    assert canonical_csv(back) == path.read_text()
    assert back["date"].tolist() == bars["date"].tolist()
    prices, original = back[COLUMNS[1:]].to_numpy(), bars[COLUMNS[1:]].to_numpy()
    np.testing.assert_allclose(prices, original, rtol=0, atol=5.1e-7)


def test_offline_data_sets_are_two_different_series() -> None:
    gspc, ixic = fetch(shipped("gspc")), fetch(shipped("ixic"))
    assert gspc["close"].iloc[0] == pytest.approx(1228.10, abs=0.005)
    assert ixic["close"].iloc[0] == pytest.approx(2208.05, abs=0.005)


def test_fetch_takes_start_and_end_and_nothing_beyond(tmp_path: Path) -> None:
    days = {"start": "2018-01-02", "end": "2018-01-05"}
    bars = fetch(DATASETS["gspc"].model_copy(update=days))
    expected = ["2018-01-02", "2018-01-03", "2018-01-04", "2018-01-05"]
    assert bars["date"].dt.strftime("%Y-%m-%d").tolist() == expected
    assert bars.index.tolist() == [0, 1, 2, 3]


def test_fetch_reads_the_users_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(TWO_DAYS)
    bars = fetch(DATASETS["csv"].model_copy(update={"path": str(path)}))
    assert canonical_csv(bars) == TWO_DAYS


def test_unknown_offline_series_is_refused() -> None:
    with pytest.raises(InputError, match=r"dax\.csv\.gz: missing"):
        fetch(DATASETS["gspc"].model_copy(update={"series": "dax"}))
