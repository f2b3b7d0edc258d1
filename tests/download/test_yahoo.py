"""Downloads from a replacement of Yahoo: outages, odd tables, splits and time zones."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import random_bars
from yfinance import exceptions

from patchscale.bars import COLUMNS, PRICES, canonical_csv, forward_adjust, parse_bars
from patchscale.download import yahoo
from patchscale.download.calendar import exchange_sessions
from patchscale.download.checks import check_dataset
from patchscale.download.sources import fetch
from patchscale.study.errors import InputError, Stopped
from patchscale.study.params import Dataset

ZONE = "America/New_York"
TODAY = pd.Timestamp("2018-07-02")
SPY = Dataset(
    source="yahoo",
    series="SPY",
    volatility="^VIX",
    calendar="XNYS",
    start="2017-01-03",
    end="2018-06-29",
    validation_from="2018-01-02",
    test_from="2018-04-02",
)


def traded() -> pd.DataFrame:
    """Return unadjusted bars from the start to today, with dividends and splits."""
    sessions = exchange_sessions(SPY.model_copy(update={"end": "2018-07-02"}))
    bars = random_bars(len(sessions), seed=3).assign(date=sessions)
    bars[PRICES] = bars[PRICES].round(2)
    bars.loc[[20, 83, 146, 209, 272, 335], "dividends"] = [0.7, 0.6, 0.4, 0.45, 0.5, 0.2]
    for row, ratio in ((120, 2.0), (209, 1.5), (len(bars) - 1, 4.0)):
        bars.loc[row, "splits"] = ratio
        bars.loc[row:, PRICES] = (bars.loc[row:, PRICES] / ratio).round(2)
    return bars


def as_yahoo(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars as Yahoo sends them: adjusted for later splits, at midnights of the exchange."""
    ratios = bars["splits"].replace(0.0, 1.0).to_numpy()
    later = np.array([np.prod(ratios[day + 1 :]) for day in range(len(bars))])
    frame = bars[PRICES].div(later, axis=0)
    frame.columns = [name.capitalize() for name in PRICES]
    dividends = bars["dividends"] / later
    step = (1 - dividends / frame["Close"].shift(1)).fillna(1.0)
    frame["Adj Close"] = frame["Close"] * step[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)
    frame["Volume"] = bars["volume"] * later
    frame["Dividends"] = dividends
    frame["Stock Splits"] = bars["splits"]
    frame["Capital Gains"] = 0.0
    frame.index = pd.DatetimeIndex(bars["date"], name="Date").tz_localize(ZONE)
    return frame


class FakeYahoo:
    """A replacement of `yfinance.Ticker`: one answer per request, then the last one again."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.calls, self.waits = list(answers), [], []

    def __call__(self, symbol: str) -> "FakeYahoo":
        self.symbol = symbol
        return self

    def history(self, **words: Any) -> pd.DataFrame:
        self.calls.append((self.symbol, words))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer.copy()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*answers: Any) -> FakeYahoo:
        fake = FakeYahoo(*answers)
        monkeypatch.setattr("yfinance.Ticker", fake)
        monkeypatch.setattr(yahoo, "sleep", fake.waits.append)
        return fake

    return use


def download() -> pd.DataFrame:
    return yahoo.daily_bars("SPY", SPY.start, TODAY, ZONE)


def refusal() -> str:
    with pytest.raises(InputError) as caught:
        check_dataset({"SPY": download()}, SPY.model_copy(update={"volatility": ""}), "k")
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_bars_are_as_traded_and_without_today(answering: Any) -> None:
    answering(as_yahoo(traded()))
    bars = download()
    assert list(bars.columns) == COLUMNS
    expected = traded().iloc[:-1]  # without the adjustment for the split of today
    pd.testing.assert_frame_equal(bars, expected, check_dtype=False, rtol=1e-12)


def test_a_split_after_the_end_changes_no_digit(answering: Any) -> None:
    bars = traded()
    answering(as_yahoo(bars))
    with_later_split = canonical_csv(download())
    bars.loc[len(bars) - 1, "splits"] = 0.0
    answering(as_yahoo(bars))
    assert canonical_csv(download()) == with_later_split


def test_request_has_exactly_these_arguments(answering: Any) -> None:
    fake = answering(as_yahoo(traded()))
    download()
    words = {"start": "2017-01-03", "end": "2018-07-03", "auto_adjust": False, "actions": True}
    assert fake.calls == [("SPY", words | {"repair": False, "raise_errors": True})]
    assert fake.waits == []


def test_forward_adjustment_has_one_ratio_to_yahoos_adjusted_close(answering: Any) -> None:
    sent = as_yahoo(traded())
    answering(sent)
    bars = parse_bars(canonical_csv(download()), "SPY.csv")
    ratio = forward_adjust(bars)["close"].to_numpy() / sent["Adj Close"].to_numpy()[:-1]
    assert ratio[0] > 3
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_rate_limit_is_waited_for_up_to_three_times(answering: Any, capsys: Any) -> None:
    limit = exceptions.YFRateLimitError()
    fake = answering(limit, limit, limit, as_yahoo(traded()))
    assert len(download()) == len(traded()) - 1
    assert len(fake.waits) == 3
    assert fake.waits == sorted(fake.waits)
    assert capsys.readouterr().err.count("SPY: Yahoo limits the rate; next try in ") == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (exceptions.YFRateLimitError(), "Yahoo limits the rate"),
        (ConnectionError("no route\nto host"), r"cannot be read \(no route to host\)"),
        (TimeoutError(), r"cannot be read \(TimeoutError\)"),
        (exceptions.YFDataException("DOWN"), r"cannot be read \(DOWN\)"),
        (exceptions.YFPricesMissingError("SPY", ""), "no price data found"),
        (ValueError("Expecting value: line 1"), "Expecting value"),
        (as_yahoo(traded()).iloc[:0], "Yahoo sent an empty table"),
        (pd.DataFrame(), "Yahoo sent an empty table"),
    ],
)
def test_outage_ends_as_resumable_after_a_bounded_time(
    answering: Any, answer: Any, message: str
) -> None:
    fake = answering(answer)
    with pytest.raises(
        Stopped, match=f"SPY: .*{message}.*, 4 tries; nothing was changed"
    ) as caught:
        download()
    assert "\n" not in str(caught.value)
    assert len(fake.calls) == 4
    assert len(fake.waits) == 3
    assert 60 < sum(fake.waits) <= 120


def test_waiting_times_are_random(answering: Any) -> None:
    fake = answering(exceptions.YFRateLimitError())
    for _ in range(2):
        with pytest.raises(Stopped):
            download()
    assert fake.waits[:3] != fake.waits[3:]


@pytest.mark.parametrize(
    "error",
    [
        exceptions.YFTzMissingError("SPYY"),
        exceptions.YFPricesMissingError("SPYY", "", yahoo_reason="No data found"),
    ],
)
def test_symbol_that_yahoo_does_not_have_is_bad_input(answering: Any, error: Any) -> None:
    fake = answering(error)
    with pytest.raises(InputError, match=r"SPY: Yahoo has no such series \(\$SPYY"):
        download()
    assert len(fake.calls) == 1


@pytest.mark.parametrize("order", [["SPY", None], [None, "SPY"]])
def test_two_levels_of_columns_become_one(answering: Any, order: list[Any]) -> None:
    sent = as_yahoo(traded())
    answering(sent)
    expected = download()
    names = [tuple(part or name for part in order) for name in sent.columns]
    answering(sent.set_axis(pd.MultiIndex.from_tuples(names), axis=1))
    pd.testing.assert_frame_equal(download(), expected)


def test_columns_of_two_symbols_are_refused(answering: Any) -> None:
    sent = as_yahoo(traded())
    answering(pd.concat({"SPY": sent, "DIA": sent}, axis=1))
    with pytest.raises(InputError, match="SPY: Yahoo's table repeats a column"):
        download()


@pytest.mark.parametrize("column", ["Close", "Volume", "Dividends", "Stock Splits"])
def test_a_missing_column_is_named_with_those_found(answering: Any, column: str) -> None:
    answering(as_yahoo(traded()).drop(columns=column))
    with pytest.raises(InputError, match=rf"SPY: Yahoo's table lacks {column}; found: .*Open"):
        download()


def test_capital_gains_are_not_required(answering: Any) -> None:
    answering(as_yahoo(traded()).drop(columns="Capital Gains"))
    assert len(download()) == len(traded()) - 1


def test_a_capital_gain_outside_the_dividend_is_refused(answering: Any) -> None:
    sent = as_yahoo(traded())
    sent.loc["2017-02-01", "Capital Gains"] = sent.loc["2017-02-01", "Dividends"].item()
    answering(sent)
    download()
    sent.loc["2017-02-02", "Capital Gains"] = 0.3
    answering(sent)
    with pytest.raises(InputError, match="capital gain of 2017-02-02 is not in the dividend"):
        download()


def test_prices_that_are_nan_are_refused_with_their_dates(answering: Any) -> None:
    sent = as_yahoo(traded())
    sent.loc["2018-02-05", ["Open", "High", "Low", "Close"]] = np.nan
    answering(sent)
    assert refusal() == "k: SPY: open is not a number on 2018-02-05"


def test_a_missing_session_is_refused_with_its_date(answering: Any) -> None:
    answering(as_yahoo(traded()).drop(pd.Timestamp("2018-02-05", tz=ZONE)))
    assert refusal().startswith("k: SPY: sessions of XNYS are missing on 2018-02-05; if this is")


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (slice(5, None), "from 2017-01-10 to 2018-06-29"),
        (slice(0, -6), "from 2017-01-03 to 2018-06-22"),
    ],
)
def test_a_partial_history_is_refused_with_both_ends(
    answering: Any, rows: slice, part: str
) -> None:
    answering(as_yahoo(traded()).iloc[rows])
    needed = "from 2017-01-03 to 2018-06-29 (k.start and .end)"
    assert refusal() == f"k: SPY {part}; every series must run {needed}"


@pytest.mark.parametrize(
    "shifted",
    [
        lambda index: index.tz_convert("UTC"),  # 04:00 and 05:00
        lambda index: index.tz_localize(None),
        lambda index: index.tz_localize(None).tz_localize("America/Chicago"),  # as of ^VIX
        lambda index: index.tz_localize(None).tz_localize("UTC"),
    ],
)
def test_another_time_zone_does_not_move_a_session(answering: Any, shifted: Any) -> None:
    sent = as_yahoo(traded())
    answering(sent)
    expected = download()["date"]
    sent.index = shifted(sent.index)
    answering(sent)
    pd.testing.assert_series_equal(download()["date"], expected)


@pytest.mark.parametrize(
    "shifted",
    [
        lambda index: index.tz_convert("UTC").tz_localize(None),  # 04:00 and 05:00, no zone
        lambda index: index.tz_localize(None) - pd.Timedelta(hours=5),  # the evening before
        lambda index: index - pd.Timedelta(hours=4),
        lambda index: index.tz_localize(None).tz_localize("America/Chicago").tz_convert("UTC"),
    ],
)
def test_times_that_are_not_midnight_at_the_exchange_are_refused(
    answering: Any, shifted: Any
) -> None:
    sent = as_yahoo(traded())
    sent.index = shifted(sent.index)
    answering(sent)
    with pytest.raises(InputError, match=r"SPY: the time 201.* of a bar is not midnight in Am"):
        download()


@pytest.mark.parametrize("zone", [ZONE, "UTC", None])
def test_unfinished_bar_of_today_may_have_the_time_of_the_last_trade(
    answering: Any, zone: str | None
) -> None:
    answering(as_yahoo(traded()))
    expected = download()
    sent = as_yahoo(traded())
    sent.index = sent.index[:-1].append(sent.index[-1:] + pd.Timedelta("15:59:32"))
    sent.index = sent.index.tz_convert(zone) if zone else sent.index.tz_localize(None)
    sent.loc[sent.index[-1], "Capital Gains"] = 9.0  # judged tomorrow
    answering(sent)
    pd.testing.assert_frame_equal(download(), expected)


def test_an_index_without_dates_is_refused(answering: Any) -> None:
    answering(as_yahoo(traded()).reset_index(drop=True))
    with pytest.raises(InputError, match="SPY: Yahoo's table has no dates"):
        download()


@pytest.fixture
def on_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchscale.download.sources.exchange_today", lambda dataset: TODAY)


@pytest.mark.usefixtures("on_today")
def test_both_series_are_downloaded_from_start_to_end(answering: Any) -> None:
    calm = traded().assign(dividends=0.0, splits=0.0, volume=0.0)
    calm[PRICES] = 15.0
    fake = answering(as_yahoo(traded()), as_yahoo(calm))
    series = fetch(SPY)
    assert [symbol for symbol, _ in fake.calls] == ["SPY", "^VIX"]
    report = check_dataset(series, SPY, "k")
    assert {name: part["last"] for name, part in report.items()} == {
        "SPY": "2018-06-29",
        "^VIX": "2018-06-29",
    }
    assert report["SPY"]["splits"] == {"2017-06-26": 2.0, "2017-10-31": 1.5}


@pytest.mark.usefixtures("on_today")
@pytest.mark.parametrize("end", ["2018-07-02", "2018-07-03"])
def test_end_that_is_not_over_is_refused(answering: Any, end: str) -> None:
    fake = answering(as_yahoo(traded()))
    with pytest.raises(InputError, match=f"end {end} is not over.*allowed is 2018-07-01"):
        fetch(SPY.model_copy(update={"end": end}))
    assert fake.calls == []
