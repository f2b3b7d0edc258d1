import gzip
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from patchscale.bars import COLUMNS, HEADER, canonical_csv, read_bars
from patchscale.download.sources import fetch, read_arch
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, load_params

DATASETS = load_params(ROOT).datasets
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


ARCH = "Date,Open,High,Low,Close,Adj Close,Volume\n1/2/2018,1,2,0.5,1.5,1.4,10\n"


def test_files_of_arch_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv.gz"
    path.write_bytes(gzip.compress(ARCH.encode()))
    bars = read_arch(path)
    assert list(bars.columns) == COLUMNS
    assert bars.iloc[0].tolist() == [pd.Timestamp("2018-01-02"), 1, 2, 0.5, 1.5, 10, 0, 0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        ARCH.encode(),
        gzip.compress(ARCH.encode())[:60],
        gzip.compress(ARCH.replace("Close", "Closed").encode()),
        gzip.compress(ARCH.replace("1/2/2018", "2018-01-02").encode()),
        gzip.compress(ARCH.replace("1.5", "one").encode()),
    ],
    ids=["empty", "not compressed", "cut", "no close", "another date form", "a word"],
)
def test_damaged_file_of_arch_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bars.csv.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bars\.csv\.gz: no table of daily bars \(") as caught:
        read_arch(path)
    assert "\n" not in str(caught.value)


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_bars(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


def test_missing_file_is_named_with_the_columns_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"bars\.csv: missing; .*{HEADER} is needed"):
        read_bars(tmp_path / "bars.csv")


ROW = TWO_DAYS.splitlines()[2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty; needed is the header date,open,"),
        ("\n", "empty; needed is the header date,open,"),
        (HEADER + "\n", "no rows below the header"),
        (HEADER, "no rows below the header"),
        (TWO_DAYS.replace("date", "Date"), "the header is 'Date,open,high,low,close,volume"),
        (TWO_DAYS.partition("\n")[2], "the header is '2018-01-02,100.000000,"),
        (TWO_DAYS.replace("low,close", "close,low"), "the header is 'date,open,high,close,low,"),
        (TWO_DAYS.replace(",", ";"), "the header is 'date;open;high;low;close;volume;dividends;"),
        (TWO_DAYS[:-1], "line 3, the last, has no line end; the file is truncated"),
        (TWO_DAYS[:-20], "line 3 has 6 fields, needed are 8; the file is truncated"),
        (TWO_DAYS[:-20] + "\n", "line 3 has 6 fields, needed are 8; the file is truncated"),
        (TWO_DAYS + "\n", "line 4 is empty"),
        (TWO_DAYS.replace(ROW, "\n" + ROW), "line 3 is empty"),
        (TWO_DAYS.replace(",101.500000", "", 1), "line 2 has 7 fields, needed are 8"),
        (TWO_DAYS.replace("101.500000", "101,50"), "line 2 has 9 fields, needed are 8"),
        (TWO_DAYS + ROW.replace("50.500000", "") + "\n", "line 4: close of 2018-01-03 is '', no"),
    ],
)
def test_damaged_csv_is_refused_with_what_and_where(
    tmp_path: Path, content: str, said: str
) -> None:
    line = refusal(tmp_path / "bars.csv", content)
    assert line.startswith(said)
    if "header" in said and "below" not in said:
        assert HEADER in line


def test_byte_order_mark_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    line = refusal(path, "\ufeff" + TWO_DAYS)
    assert "begins with a byte order mark" in line
    subprocess.run(["sh", "-c", line.split("`")[1]], check=True)
    assert canonical_csv(read_bars(path)) == TWO_DAYS


def test_crlf_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    line = refusal(path, TWO_DAYS.replace("\n", "\r\n"))
    assert "CRLF line ends, first on line 1" in line
    subprocess.run(["sh", "-c", line.split("`")[1]], check=True)
    assert canonical_csv(read_bars(path)) == TWO_DAYS
    assert "first on line 3" in refusal(path, TWO_DAYS.replace(ROW, ROW + "\r"))


@pytest.mark.parametrize(
    "content", [gzip.compress(TWO_DAYS.encode()), TWO_DAYS.encode("utf-16")], ids=["gzip", "utf-16"]
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path / "bars.csv", content).startswith("not UTF-8 text (")


@pytest.mark.parametrize("bad", ["03.01.2018", "2018-02-30", "20180103", ""])
def test_bad_date_is_shown(tmp_path: Path, bad: str) -> None:
    line = refusal(tmp_path / "bars.csv", TWO_DAYS.replace("2018-01-03", bad))
    assert line == f"line 3: date is '{bad}', no day of the form 2018-12-31"


@pytest.mark.parametrize("bad", ["n/a!", "", "1;5", "nan", "NaN", "inf", "-inf", "1e999", "True"])
def test_value_that_is_no_number_is_shown_with_its_line_and_date(tmp_path: Path, bad: str) -> None:
    line = refusal(tmp_path / "bars.csv", TWO_DAYS.replace("50.500000", bad))
    assert line == f"line 3: close of 2018-01-03 is '{bad}', no number"


def test_further_values_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    three = HEADER + "\n" + f"{ROW}\n".replace("0.125000", "?") * 3
    line = refusal(tmp_path / "bars.csv", three)
    assert line == "line 2: dividends of 2018-01-03 is '?', no number (and 2 more)"


@pytest.mark.parametrize("name", ["gspc", "ixic"])
def test_offline_data_sets_are_whole_and_read_back_from_their_text(
    tmp_path: Path, name: str
) -> None:
    ((series, bars),) = fetch(shipped(name)).items()
    assert series == DATASETS[name].series
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
    gspc, ixic = fetch(shipped("gspc"))["sp500"], fetch(shipped("ixic"))["nasdaq"]
    assert gspc["close"].iloc[0] == pytest.approx(1228.10, abs=0.005)
    assert ixic["close"].iloc[0] == pytest.approx(2208.05, abs=0.005)


def test_fetch_takes_start_and_end_and_nothing_beyond(tmp_path: Path) -> None:
    days = {"start": "2018-01-02", "end": "2018-01-05"}
    bars = fetch(DATASETS["gspc"].model_copy(update=days))["sp500"]
    expected = ["2018-01-02", "2018-01-03", "2018-01-04", "2018-01-05"]
    assert bars["date"].dt.strftime("%Y-%m-%d").tolist() == expected
    assert bars.index.tolist() == [0, 1, 2, 3]


def own_files(tmp_path: Path) -> Dataset:
    files = {"path": str(tmp_path / "mine.csv"), "volatility_path": str(tmp_path / "fear.csv")}
    return DATASETS["csv"].model_copy(update={"volatility": "FEAR", **files})


def test_fetch_reads_the_users_own_files(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(TWO_DAYS)
    (tmp_path / "fear.csv").write_text(TWO_DAYS.replace("50.500000", "50.600000"))
    series = fetch(own_files(tmp_path))
    assert list(series) == ["bars", "FEAR"]
    assert canonical_csv(series["bars"]) == TWO_DAYS
    assert series["FEAR"]["close"].tolist() == [101, 50.6]


@pytest.fixture
def on_2018_12_31(monkeypatch: pytest.MonkeyPatch) -> None:
    day = pd.Timestamp("2018-12-31")
    monkeypatch.setattr("patchscale.download.sources.exchange_today", lambda dataset: day)


@pytest.mark.usefixtures("on_2018_12_31")
@pytest.mark.parametrize("name", ["mine.csv", "fear.csv"])
@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("2018-12-31", "the bar of 2018-12-31, today, is unfinished"),
        ("2019-01-02", "2019-01-02 lies in the future"),
    ],
)
def test_bar_of_today_or_later_is_refused_although_it_is_after_the_end(
    tmp_path: Path, name: str, day: str, said: str
) -> None:
    dataset = own_files(tmp_path).model_copy(update={"end": "2018-12-28"})
    for file in ("mine.csv", "fear.csv"):
        (tmp_path / file).write_text(TWO_DAYS + ROW.replace("2018-01-03", "2018-12-30") + "\n")
    assert list(fetch(dataset)["FEAR"]["date"].dt.day) == [2, 3]
    (tmp_path / name).write_text(TWO_DAYS + ROW.replace("2018-01-03", day) + "\n")
    with pytest.raises(InputError, match=rf"{name}: {said}"):
        fetch(dataset)


def test_unknown_offline_series_is_refused() -> None:
    with pytest.raises(InputError, match=r"dax\.csv\.gz: missing; arch ships the series sp500"):
        fetch(DATASETS["gspc"].model_copy(update={"series": "dax"}))


def test_file_of_an_index_has_no_caret_in_its_name() -> None:
    assert paths.raw("spy", "^VIX") == Path("data/raw/spy/VIX.csv")
    assert paths.raw("spy", "SPY") == Path("data/raw/spy/SPY.csv")
