"""Exports of the usual vendors become the same canonical bars; what is in doubt is refused."""

import warnings
from pathlib import Path

import pandas as pd
import pytest

from patchscale.bars import canonical_csv
from patchscale.importing.convert import Imported, convert
from patchscale.importing.export import read_export
from patchscale.study.errors import InputError

ZONE, TODAY = "America/New_York", pd.Timestamp("2024-06-28")
SHARE = """\
date,open,high,low,close,volume,dividends,splits
2024-01-30,1234.500000,1240.000000,1230.250000,1236.750000,1200000,0.000000,0.000000
2024-01-31,1236.000000,1239.990000,1221.100000,1222.050000,1500000,0.000000,0.000000
2024-02-01,1223.000000,1245.000000,1222.000000,1244.000000,900000,0.000000,0.000000
"""
YAHOO = """\
Date,Open,High,Low,Close,Adj Close,Volume
2024-01-30,1234.500000,1240.000000,1230.250000,1236.750000,1236.750000,1200000
2024-01-31,1236.000000,1239.989990,1221.099976,1222.050049,1222.050049,1500000
2024-02-01,1223.000000,1245.000000,1222.000000,1244.000000,1244.000000,900000
"""
HISTORY = """\
Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits,Capital Gains
2024-01-30 00:00:00-05:00,1234.5,1240.0,1230.25,1236.75,1236.75,1200000,0.0,0.0,0.0
2024-01-31 00:00:00-05:00,1236.0,1239.99,1221.1,1222.05,1222.05,1500000,0.0,0.0,0.0
2024-02-01 00:00:00-05:00,1223.0,1245.0,1222.0,1244.0,1244.0,900000,0.0,0.0,0.0
"""
DOWNLOAD = """\
Price,Close,High,Low,Open,Volume
Ticker,SPY,SPY,SPY,SPY,SPY
Date,,,,,
2024-01-30,1236.75,1240.0,1230.25,1234.5,1200000
2024-01-31,1222.05,1239.99,1221.1,1236.0,1500000
2024-02-01,1244.0,1245.0,1222.0,1223.0,900000
"""
BY_TICKER = """\
Ticker,SPY,SPY,SPY,SPY,SPY
Price,Open,High,Low,Close,Volume
Date,,,,,
2024-01-30,1234.5,1240.0,1230.25,1236.75,1200000
2024-01-31,1236.0,1239.99,1221.1,1222.05,1500000
2024-02-01,1223.0,1245.0,1222.0,1244.0,900000
"""
STOOQ = """\
Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen
2024-01-30,1234.5,1240,1230.25,1236.75,1200000
2024-01-31,1236,1239.99,1221.1,1222.05,1500000
2024-02-01,1223,1245,1222,1244,900000
"""
STOOQ_BULK = """\
<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
SPY.US,D,20240130,000000,1234.5,1240,1230.25,1236.75,1200000,0
SPY.US,D,20240131,000000,1236,1239.99,1221.1,1222.05,1500000,0
SPY.US,D,20240201,000000,1223,1245,1222,1244,900000,0
"""
NASDAQ = """\
Date,Close/Last,Volume,Open,High,Low
02/01/2024,$1244.00,900000,$1223.00,$1245.00,$1222.00
01/31/2024,$1222.05,1500000,$1236.00,$1239.99,$1221.10
01/30/2024,$1236.75,1200000,$1234.50,$1240.00,$1230.25
"""
TRADINGVIEW = """\
time,open,high,low,close,Volume,Volume MA
1706625000,1234.5,1240,1230.25,1236.75,1200000,1300000
1706711400,1236,1239.99,1221.1,1222.05,1500000,1300000
1706797800,1223,1245,1222,1244,900000,1300000
"""
TRADINGVIEW_ISO = """\
time,open,high,low,close,Volume
2024-01-30T09:30:00-05:00,1234.5,1240,1230.25,1236.75,1200000
2024-01-31T09:30:00-05:00,1236,1239.99,1221.1,1222.05,1500000
2024-02-01T09:30:00-05:00,1223,1245,1222,1244,900000
"""
INVESTING = """\
"Date","Price","Open","High","Low","Vol.","Change %"
"02/01/2024","1,244.00","1,223.00","1,245.00","1,222.00","0.9M","1.80%"
"01/31/2024","1,222.05","1,236.00","1,239.99","1,221.10","1.50M","-1.19%"
"01/30/2024","1,236.75","1,234.50","1,240.00","1,230.25","1,200.00K","0.10%"
"""
GERMAN = (
    "\ufeffKurse SPY\r\n\r\n"
    "Datum;Eröffnung;Hoch;Tief;Schluss;Volumen\r\n"
    "01.02.2024;1.223,00 €;1.245,00 €;1.222,00 €;1.244,00 €;900.000\r\n"
    "31.01.2024;1.236,00 €;1.239,99 €;1.221,10 €;1.222,05 €;1.500.000\r\n"
    "30.01.2024;1.234,50 €;1.240,00 €;1.230,25 €;1.236,75 €;1.200.000\r\n"
    "\r\n"
    "Quelle: ein Anbieter\r\n"
)
INVESTING_GERMAN = (
    '\ufeff"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"\n'
    '"01.02.2024","1.244,00","1.223,00","1.245,00","1.222,00","0,9M","1,80%"\n'
    '"31.01.2024","1.222,05","1.236,00","1.239,99","1.221,10","1,50M","-1,19%"\n'
    '"30.01.2024","1.236,75","1.234,50","1.240,00","1.230,25","1.200,00K","0,10%"\n'
)
SWISS = """\
Date\tOpen\tHigh\tLow\tClose\tVolume
30.01.2024\t1'234.50\t1'240.00\t1'230.25\t1'236.75\t1'200'000
31.01.2024\t1'236.00\t1'239.99\t1'221.10\t1'222.05\t1'500'000
01.02.2024\t1'223.00\t1'245.00\t1'222.00\t1'244.00\t900'000
"""
ALPHA_VANTAGE = """\
timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient
2024-02-01,1223.0,1245.0,1222.0,1244.0,1244.0,900000,0.0000,1.0
2024-01-31,1236.0,1239.99,1221.1,1222.05,1222.05,1500000,0.0000,1.0
2024-01-30,1234.5,1240.0,1230.25,1236.75,1236.75,1200000,0.0000,1.0
"""
NAMED_MONTHS = """\
Date,Open,High,Low,Close,Volume
"Feb 1, 2024","1,223.00","1,245.00","1,222.00","1,244.00","900,000"
"Jan 31, 2024","1,236.00","1,239.99","1,221.10","1,222.05","1,500,000"
"Jan 30, 2024","1,234.50","1,240.00","1,230.25","1,236.75","1,200,000"
"""
GOOGLE_SHEETS = """\
Date,Open,High,Low,Close,Volume
1/30/2024 16:00:00,1234.5,1240,1230.25,1236.75,1200000
1/31/2024 16:00:00,1236,1239.99,1221.1,1222.05,1500000
2/1/2024 16:00:00,1223,1245,1222,1244,900000
"""
QUANTMOD = """\
"","SPY.Open","SPY.High","SPY.Low","SPY.Close","SPY.Volume","SPY.Adjusted"
"2024-01-30",1234.5,1240,1230.25,1236.75,1200000,1236.75
"2024-01-31",1236,1239.99,1221.1,1222.05,1500000,1222.05
"2024-02-01",1223,1245,1222,1244,900000,1244
"""
VENDORS = {
    "yahoo": YAHOO,
    "history": HISTORY,
    "download": DOWNLOAD,
    "download by ticker": BY_TICKER,
    "stooq": STOOQ,
    "stooq bulk": STOOQ_BULK,
    "nasdaq": NASDAQ,
    "tradingview": TRADINGVIEW,
    "tradingview iso": TRADINGVIEW_ISO,
    "investing": INVESTING,
    "german": GERMAN,
    "investing german": INVESTING_GERMAN,
    "swiss": SWISS,
    "alpha vantage": ALPHA_VANTAGE,
    "named months": NAMED_MONTHS,
    "google sheets": GOOGLE_SHEETS,
    "quantmod": QUANTMOD,
    "canonical": SHARE,
}
HEAD = "Date,Open,High,Low,Close,Volume\n"


def imported(folder: Path, text: str | bytes, **rules: object) -> Imported:
    file = folder / "export.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return convert(read_export(file), ZONE, TODAY, **rules)  # type: ignore[arg-type]


def problem(folder: Path, text: str, **rules: object) -> str:
    (line,) = imported(folder, text, **rules).problems
    return line


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_gives_the_same_bars(vendor: str, tmp_path: Path) -> None:
    result = imported(tmp_path, VENDORS[vendor])
    assert result.problems == []
    prices = ["open", "high", "low", "close"]
    result.bars[prices] = result.bars[prices].round(2)  # Yahoo's page has single precision
    assert canonical_csv(result.bars) == SHARE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets_are_read(encoding: str, tmp_path: Path) -> None:
    result = imported(tmp_path, GERMAN.removeprefix("\ufeff").encode(encoding))
    assert canonical_csv(result.bars) == SHARE


def test_the_mapping_names_columns_of_the_file_and_what_stands_for_others(tmp_path: Path) -> None:
    result = imported(tmp_path, INVESTING)
    assert result.mapping["close"] == "Price"
    assert result.mapping["volume"] == "Vol."
    assert result.mapping["splits"] == "none: 0"
    assert result.unused == ["Change %"]
    assert "dates with month first, newest bar first" in result.notes[0]


def test_footers_and_days_without_a_trade_are_left_out_and_shown(tmp_path: Path) -> None:
    text = YAHOO + "2024-02-02,null,null,null,null,null,null\n\nSource: nobody\n"
    result = imported(tmp_path, text)
    assert len(result.bars) == 3
    assert "2 lines without a price are left out, the first is line 5" in result.notes[1]


def test_dates_are_decided_by_the_whole_column(tmp_path: Path) -> None:
    rows = "02/01/2024,1.5,2.5,1.5,2.5,1\n03/01/2024,1.5,2.5,1.5,2.5,1\n"
    assert "day and month or month and day" in problem(tmp_path, HEAD + rows)
    decided = imported(tmp_path, HEAD + rows + "16/01/2024,1.5,2.5,1.5,2.5,1\n")
    assert list(decided.bars["date"].dt.strftime("%m-%d")) == ["01-02", "01-03", "01-16"]
    said = imported(tmp_path, HEAD + rows, order="month first")
    assert list(said.bars["date"].dt.strftime("%m-%d")) == ["02-01", "03-01"]
    both = HEAD + rows + "16/01/2024,1.5,2.5,1.5,2.5,1\n01/16/2024,1.5,2.5,1.5,2.5,1\n"
    assert "the day first" in problem(tmp_path, both)


def test_a_comma_that_may_be_either_is_refused(tmp_path: Path) -> None:
    text = HEAD.replace(",", ";") + "2024-01-30;1,234;1,240;1,230;1,236;1\n"
    assert "decimal comma or a comma between thousands" in problem(tmp_path, text)
    assert imported(tmp_path, text, mark=",").bars["close"].iloc[0] == 1.236
    assert imported(tmp_path, text, mark=".").bars["close"].iloc[0] == 1236


def test_all_wrong_fields_are_listed_at_once(tmp_path: Path) -> None:
    text = STOOQ.replace("1240,", "x,").replace("2024-01-31", "2024-31-31").replace("1222,", ",")
    found = imported(tmp_path, text).problems
    assert [line.partition(" on ")[0] for line in found] == [
        "no date",
        "high is no number",
        "low is no number",
    ]
    assert "line 3: '2024-31-31'" in found[0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Date,Open,High,Low,Adj Close\n2024-01-30,1,1,1,1\n", "all closes are adjusted"),
        ("Date,Close\n2024-01-30,1\n", "no column for open, high, low"),
        ("Date,Open,High,Low,Close,Close\n2024-01-30,1,1,1,1,1\n", "one symbol a file"),
        ("Date,Open,High,Low,Close\n30.01.2024,1,5,2,5,1,0,2,0\n", "more fields than the header"),
        (HEAD + "Source: nobody,,,,,\n", "no line has a price"),
        (HEAD + "soon,1,1,1,1,1\n", "has no form that is known"),
        (HEAD + "2024-07-01,1,1,1,1,1\n", "2024-07-01 lies in the future"),
    ],
)
def test_what_cannot_be_bars_is_said(text: str, what: str, tmp_path: Path) -> None:
    assert what in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "a workbook"),
        (b"a,b\n1,2\n", "no line names"),
        (b"", "no line names"),
        (b"\x00\x01\x02", "not a text file"),
    ],
)
def test_other_files_are_refused(content: bytes, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what):
        imported(tmp_path, content)


def test_the_bar_of_today_is_left_out(tmp_path: Path) -> None:
    result = imported(tmp_path, YAHOO + "2024-06-28,1,1,1,1,1,1\n")
    assert len(result.bars) == 3
    assert "today, is unfinished" in result.notes[-1]


def test_prices_that_are_adjusted_for_splits_become_as_traded(tmp_path: Path) -> None:
    head = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
    rows = "2024-01-30,10,11,9,10,200,0,0\n2024-01-31,10,11,9,10,200,0,2\n"
    result = imported(tmp_path, head + rows)
    assert list(result.bars["close"]) == [20, 10]
    assert list(result.bars["volume"]) == [100, 200]
    assert "are as traded now" in result.notes[-1]
    traded = rows.replace("30,10,11,9,10", "30,20,22,18,20").replace(",0,2\n", ",0,2:1\n")
    result = imported(tmp_path, head + traded)
    assert list(result.bars["close"]) == [20, 10]
    assert list(result.bars["splits"]) == [0, 2]


def test_an_adjusted_close_that_differs_says_that_dividends_are_missing(tmp_path: Path) -> None:
    text = YAHOO.replace("1236.750000,1236.750000", "1236.750000,1230.000000")
    assert "dividends were paid that the file does not list" in imported(tmp_path, text).notes[-1]


def test_prices_off_the_tick_may_be_adjusted(tmp_path: Path) -> None:
    text = HEAD + "2024-01-30,1.23456,1.34567,1.12345,1.23457,1\n"
    assert "not multiples of a cent" in imported(tmp_path, text).notes[-1]


def test_the_history_of_cboe_has_no_volume(tmp_path: Path) -> None:
    text = (
        "DATE,OPEN,HIGH,LOW,CLOSE\n"
        "01/30/2024,13.700000,13.850000,13.220000,13.310000\n"
        "02/01/2024,14.210000,14.480000,13.770000,13.880000\n"
    )
    result = imported(tmp_path, text)
    assert list(result.bars["close"]) == [13.31, 13.88]
    assert list(result.bars["volume"]) == [0, 0]
    assert result.problems == []


def test_a_volatility_index_may_have_closes_only(tmp_path: Path) -> None:
    text = "observation_date,VIXCLS\n2024-01-30,13.31\n2024-01-31,.\n2024-02-01,13.88\n"
    result = imported(tmp_path, text, close_only=True)
    assert list(result.bars["open"]) == list(result.bars["close"]) == [13.31, 13.88]
    assert result.mapping["open"] == "none: the close"


@pytest.mark.parametrize("field", ["1" * 200_000, '"' + "Date," * 50_000 + '"'])
def test_a_field_of_any_length_is_refused_in_one_line(tmp_path: Path, field: str) -> None:
    file = tmp_path / "bars.csv"
    file.write_text(f"{field},Open\n2020-01-02,1\n")
    with pytest.raises(InputError, match="no line names a date") as caught:
        read_export(file)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("place", ["2024-01-31", "1236.000000", "1500000"])
def test_a_quotation_mark_that_is_not_closed_hides_no_bars(tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError, match="line 3: a field goes on in the next line"):
        imported(tmp_path, YAHOO.replace(place, f'"{place}'))


def test_a_header_reaches_the_terminal_without_control_characters(tmp_path: Path) -> None:
    header = "Date,Open,High,Low,Close,\x1b[2J\x1b]0;x\x07,Volume"
    result = imported(tmp_path, YAHOO.replace(YAHOO.splitlines()[0], header))
    assert result.unused == ["?[2J?]0;x?"]


def test_a_time_beyond_the_calendar_is_no_date(tmp_path: Path) -> None:
    text = HEAD + "1706625000000,1,1,1,1,0\n9999999999999,1,1,1,1,0\n"
    assert "no date on line 3: '9999999999999'" in problem(tmp_path, text)


def test_a_price_beyond_all_reason_gives_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imported(tmp_path, YAHOO.replace("1240.000000", "1e308"))
