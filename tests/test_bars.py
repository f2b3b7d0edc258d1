"""Canonical bars: written, read and refused; and forward adjustment."""

import gzip
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, random_bars

from patchscale.bars import (
    COLUMNS,
    HEADER,
    PRICES,
    canonical_csv,
    forward_adjust,
    read_bars,
    read_study,
)
from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.params import load_params

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
    ("content", "message"),
    [
        ("", "empty; the header date,open,"),
        ("\n", "empty; the header date,open,"),
        (HEADER + "\n", "no rows below the header"),
        (HEADER, "no rows below the header"),
        (TWO_DAYS.replace("date", "Date"), "the header is 'Date,open,high,low,close,volume"),
        (TWO_DAYS.partition("\n")[2], "the header is '2018-01-02,100.000000,"),
        (TWO_DAYS.replace("low,close", "close,low"), "the header is 'date,open,high,close,low,"),
        (TWO_DAYS.replace(",", ";"), "the header is 'date;open;high;low;close;volume;dividends;"),
        (TWO_DAYS[:-1], "line 3, the last, has no line end; the file is truncated"),
        (TWO_DAYS[:-20], "line 3 has 6 fields; 8 are needed; the file is truncated"),
        (TWO_DAYS[:-20] + "\n", "line 3 has 6 fields; 8 are needed; the file is truncated"),
        (TWO_DAYS + "\n", "line 4 is empty"),
        (TWO_DAYS.replace(ROW, "\n" + ROW), "line 3 is empty"),
        (TWO_DAYS.replace(",101.500000", "", 1), "line 2 has 7 fields; 8 are needed"),
        (TWO_DAYS.replace("101.500000", "101,50"), "line 2 has 9 fields; 8 are needed"),
        (TWO_DAYS + ROW.replace("50.500000", "") + "\n", "line 4: close of 2018-01-03 is '', not"),
        (TWO_DAYS.replace("2018-01-03", "2018-1-3"), "line 3: date is '2018-1-3', not a date"),
        (TWO_DAYS.replace("2018-01-03", "today"), "line 3: date is 'today', not a date"),
        (TWO_DAYS.replace("2018-01-03", "now"), "line 3: date is 'now', not a date"),
        (TWO_DAYS.replace("2018-01-03", "9999-01-03"), "line 3: date is '9999-01-03', not a"),
        (
            TWO_DAYS.replace("2018-01-03", "2018-01-0\uff13"),
            "line 3: date is '2018-01-0",
        ),
        (
            TWO_DAYS.replace("50.500000", "5\uff10.5"),
            "line 3: close of 2018-01-03 is '5",
        ),
        (TWO_DAYS.replace("50.500000", "9" * 5000), "line 3: close of 2018-01-03 is '9999"),
    ],
)
def test_damaged_csv_is_refused_with_the_problem_and_its_place(
    tmp_path: Path, content: str, message: str
) -> None:
    line = refusal(tmp_path / "bars.csv", content)
    assert line.startswith(message)
    if "header" in message and "below" not in message:
        assert HEADER in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ufeff" + TWO_DAYS, "begins with a byte order mark"),
        (TWO_DAYS.replace("\n", "\r\n"), "CRLF line ends, first on line 1"),
        (TWO_DAYS.replace("\n", "\r"), "CR line ends, first on line 1"),
    ],
    ids=["mark", "CRLF", "CR"],
)
def test_other_bytes_around_the_same_text_are_refused_and_the_advice_works(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bars.csv"
    line = refusal(path, text)
    assert line.startswith(said)
    subprocess.run(["sh", "-c", line.split("`")[1]], check=True)
    assert canonical_csv(read_bars(path)) == TWO_DAYS


def test_the_first_line_with_another_end_is_named(tmp_path: Path) -> None:
    line = refusal(tmp_path / "bars.csv", TWO_DAYS.replace(ROW, ROW + "\r"))
    assert "first on line 3" in line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("50.500000", "-50.500000", "a price is not positive"), ("50.500000", "0.0", "not positive")],
)
def test_bars_of_a_study_that_no_market_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, line: str
) -> None:
    params = load_params(ROOT)
    path = tmp_path / paths.raw(params.dataset, params.data.series)
    path.parent.mkdir(parents=True)
    path.write_text(TWO_DAYS.replace(old, new))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=line):
        read_study(params)


@pytest.mark.parametrize(
    "content", [gzip.compress(TWO_DAYS.encode()), TWO_DAYS.encode("utf-16")], ids=["gzip", "utf-16"]
)
def test_bytes_that_are_not_text_are_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path / "bars.csv", content).startswith("not UTF-8 text (")


@pytest.mark.parametrize("bad", ["03.01.2018", "2018-02-30", "20180103", ""])
def test_bad_date_is_shown(tmp_path: Path, bad: str) -> None:
    line = refusal(tmp_path / "bars.csv", TWO_DAYS.replace("2018-01-03", bad))
    assert line == f"line 3: date is '{bad}', not a date like 2018-12-31"


@pytest.mark.parametrize("bad", ["n/a!", "", "1;5", "nan", "NaN", "inf", "-inf", "1e999", "True"])
def test_value_that_is_not_a_number_is_shown_with_its_line_and_date(
    tmp_path: Path, bad: str
) -> None:
    line = refusal(tmp_path / "bars.csv", TWO_DAYS.replace("50.500000", bad))
    assert line == f"line 3: close of 2018-01-03 is '{bad}', not a finite number"


def test_further_values_that_are_not_numbers_are_counted(tmp_path: Path) -> None:
    three = HEADER + "\n" + f"{ROW}\n".replace("0.125000", "?") * 3
    line = refusal(tmp_path / "bars.csv", three)
    assert line == "line 2: dividends of 2018-01-03 is '?', not a finite number (and 2 more)"


# forward adjustment


def closes(*values: float, dividends: dict[int, float], splits: dict[int, float]) -> pd.DataFrame:
    n = len(values)
    bars = pd.DataFrame({"date": pd.bdate_range("2018-01-01", periods=n)})
    for offset, name in enumerate(PRICES):
        bars[name] = np.array(values) + 0.1 * offset
    bars["close"] = np.array(values, dtype=float)
    bars["volume"] = 1000.0
    for name, events in (("dividends", dividends), ("splits", splits)):
        bars[name] = 0.0
        for row, value in events.items():
            bars.loc[row, name] = value
    return bars


@pytest.fixture
def eventful() -> pd.DataFrame:
    """Return unadjusted bars that pay dividends and split twice, once on an ex-date."""
    bars = random_bars(300, seed=5)
    bars.loc[[20, 83, 146, 209, 272], "dividends"] = [0.7, 0.6, 0.4, 0.45, 0.5]
    for row, ratio in ((120, 2.0), (209, 1.5)):
        bars.loc[row, "splits"] = ratio
        bars.loc[row:, PRICES] = bars.loc[row:, PRICES] / ratio
    return bars


def test_dividend_by_hand() -> None:
    bars = closes(100, 99, 99, dividends={1: 1.0}, splits={})
    out = forward_adjust(bars)
    factor = 100 / 99  # a holder of 100 has 99 and a dividend of 1
    np.testing.assert_allclose(out["close"], [100, 100, 100], rtol=1e-15)
    np.testing.assert_allclose(out["high"], bars["high"] * [1, factor, factor], rtol=1e-15)
    assert out["volume"].tolist() == [1000, 1000, 1000]


def test_split_by_hand() -> None:
    out = forward_adjust(closes(100, 50, 51, dividends={}, splits={1: 2.0}))
    assert out["close"].tolist() == [100, 100, 102]
    assert out["open"].tolist() == [100, 100, 102]
    assert out["volume"].tolist() == [1000, 500, 500]


def test_reverse_split_by_hand() -> None:
    out = forward_adjust(closes(10, 100, 110, dividends={}, splits={1: 0.1}))
    np.testing.assert_allclose(out["close"], [10, 10, 11], rtol=1e-15)
    np.testing.assert_allclose(out["volume"], [1000, 10_000, 10_000], rtol=1e-15)


def test_dividend_on_the_day_of_a_split_is_per_new_share() -> None:
    # one share at 100 becomes two at 49.5, each paid 0.5: nothing gained, nothing lost
    out = forward_adjust(closes(100, 49.5, 49.5, dividends={1: 0.5}, splits={1: 2.0}))
    np.testing.assert_allclose(out["close"], [100, 100, 100], rtol=1e-15)


def test_steps_multiply() -> None:
    out = forward_adjust(closes(100, 90, 45, 40, dividends={1: 10, 3: 5}, splits={2: 2.0}))
    np.testing.assert_allclose(out["close"], [100, 100, 100, 100], rtol=1e-15)


def test_events_of_the_first_day_leave_it_as_it_is() -> None:
    out = forward_adjust(closes(100, 101, dividends={0: 3.0}, splits={}))
    assert out["close"].tolist() == [100, 101]


def test_input_is_not_changed(eventful: pd.DataFrame) -> None:
    before = eventful.copy()
    forward_adjust(eventful)
    pd.testing.assert_frame_equal(eventful, before)


def test_bars_without_events_come_back_unchanged(bars: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(forward_adjust(bars), bars)


def test_appending_rows_never_changes_earlier_rows(eventful: pd.DataFrame) -> None:
    whole = forward_adjust(eventful)
    for n in (1, 20, 21, 120, 121, 209, 210, 271, 299):
        pd.testing.assert_frame_equal(
            forward_adjust(eventful.iloc[:n]), whole.iloc[:n], check_exact=True
        )


def test_dividend_above_the_previous_close_is_refused_with_its_date() -> None:
    with pytest.raises(ValueError, match="dividend of 2018-01-02 is not below the previous close"):
        forward_adjust(closes(1.0, 1.0, dividends={1: 2.0}, splits={}))


def back_adjusted_close(bars: pd.DataFrame) -> np.ndarray:
    """Return closes adjusted backwards as by Yahoo: the last close is unchanged."""
    close, dividends = bars["close"].to_numpy(), bars["dividends"].to_numpy()
    ratio = bars["splits"].replace(0.0, 1.0).to_numpy()
    n = len(bars)
    later_splits = np.array([np.prod(ratio[day + 1 :]) for day in range(n)])
    close, dividends = close / later_splits, dividends / later_splits
    adjusted, factor = np.empty(n), 1.0
    for day in reversed(range(n)):
        adjusted[day] = close[day] * factor
        if dividends[day] and day:
            factor *= 1 - dividends[day] / close[day - 1]
    return adjusted


def test_forward_and_back_adjusted_closes_have_one_ratio(eventful: pd.DataFrame) -> None:
    ratio = forward_adjust(eventful)["close"].to_numpy() / back_adjusted_close(eventful)
    assert ratio[0] > 3  # the events change prices
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
