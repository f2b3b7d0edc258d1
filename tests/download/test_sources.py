"""Bars of the package arch and of the user's own files."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from patchscale.bars import COLUMNS, canonical_csv, read_bars
from patchscale.download.sources import fetch, read_arch
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, load_params

DATASETS = load_params(ROOT).datasets
TWO_DAYS = """\
date,open,high,low,close,volume,dividends,splits
2018-01-02,100.000000,101.500000,99.250000,101.000000,1234568,0.000000,0.000000
2018-01-03,50.333333,51.000000,50.000000,50.500000,3000000000,0.125000,2.000000
"""
LAST_ROW = TWO_DAYS.splitlines()[2]


def shipped(name: str) -> Dataset:
    whole = {"start": "1999-01-04", "end": "2018-12-31"}
    return DATASETS[name].model_copy(update=whole)


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
    ("day", "message"),
    [
        ("2018-12-31", "the bar of 2018-12-31, today, is unfinished"),
        ("2019-01-02", "2019-01-02 lies in the future"),
    ],
)
def test_bar_of_today_or_later_is_refused_although_it_is_after_the_end(
    tmp_path: Path, name: str, day: str, message: str
) -> None:
    dataset = own_files(tmp_path).model_copy(update={"end": "2018-12-28"})
    for file in ("mine.csv", "fear.csv"):
        (tmp_path / file).write_text(TWO_DAYS + LAST_ROW.replace("2018-01-03", "2018-12-30") + "\n")
    assert list(fetch(dataset)["FEAR"]["date"].dt.day) == [2, 3]
    (tmp_path / name).write_text(TWO_DAYS + LAST_ROW.replace("2018-01-03", day) + "\n")
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        fetch(dataset)


def test_unknown_offline_series_is_refused() -> None:
    with pytest.raises(InputError, match=r"dax\.csv\.gz: missing; arch has the series sp500"):
        fetch(DATASETS["gspc"].model_copy(update={"series": "dax"}))
