"""Daily bars from Yahoo through yfinance, without the split adjustment that Yahoo applies."""

import logging
import random
import sys
from time import sleep
from typing import Any

import numpy as np
import pandas as pd

from patchscale.bars import COLUMNS, PRICES
from patchscale.study.errors import InputError, Stopped

WAITS = (8.0, 20.0, 45.0)
"""Seconds between attempts, lengthened at random by up to a half: two minutes at most."""

NAMES = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Volume": "volume",
    "Dividends": "dividends",
    "Stock Splits": "splits",
}


def daily_bars(symbol: str, start: str, today: pd.Timestamp, zone: str) -> pd.DataFrame:
    """Return the canonical bars of a symbol from `start` to yesterday.

    Parameters
    ----------
    symbol
        Yahoo's symbol, such as SPY or ^VIX.
    start
        First day requested.
    today
        Current date at the exchange. It is part of the request, because Yahoo has applied a
        split of today to all earlier bars. Its own bar is unfinished and dropped.
    zone
        Time zone of the exchange.

    Raises
    ------
    InputError
        Yahoo does not know the symbol, or its table is not as documented.
    Stopped
        Yahoo cannot be reached, limits the rate or sends no rows, in all attempts.
    """
    frame = _named_columns(_download(symbol, start, today), symbol)
    dates = _session_dates(frame.index, zone, symbol, today)
    gains = frame["Capital Gains"].fillna(0.0) if "Capital Gains" in frame else 0.0
    unpaid = dates[np.asarray(gains > frame["Dividends"]) & (dates < today)]
    if len(unpaid):
        # Yahoo's dividend includes the capital gain, so a larger gain is missing from it
        raise InputError(f"{symbol}: a capital gain of {unpaid[0]:%Y-%m-%d} is not in the dividend")
    bars = frame[list(NAMES)].rename(columns=NAMES).astype(float).reset_index(drop=True)
    bars.insert(0, "date", dates)
    whole = undo_splits(bars[COLUMNS])
    return whole[whole["date"] < today].reset_index(drop=True)


def undo_splits(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars as traded: without the adjustment for later splits."""
    ratios = bars["splits"].replace(0.0, 1.0).to_numpy()
    later = np.append(np.cumprod(ratios[::-1])[::-1][1:], 1.0)
    traded = bars.copy()
    traded[[*PRICES, "dividends"]] = bars[[*PRICES, "dividends"]].mul(later, axis=0)
    traded["volume"] = bars["volume"] / later
    return traded


def _download(symbol: str, start: str, today: pd.Timestamp) -> pd.DataFrame:
    import yfinance  # takes a second
    from yfinance.exceptions import YFException, YFRateLimitError, YFTzMissingError

    # otherwise an outage during the look-up of the time zone is reported as a delisted symbol
    yfinance.config.debug.hide_exceptions = False
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # our own messages are enough
    problem = ""
    for wait in (*WAITS, None):
        try:
            frame: pd.DataFrame = yfinance.Ticker(symbol).history(
                start=start,
                end=f"{today + pd.Timedelta(days=1):%Y-%m-%d}",
                auto_adjust=False,
                actions=True,
                repair=False,
                raise_errors=True,
            )
        except YFRateLimitError:
            problem = "Yahoo limits the rate"
        except (YFException, OSError, ValueError) as error:
            said = " ".join(str(error).split()).partition(". See http")[0][:200]
            if isinstance(error, YFTzMissingError) or getattr(error, "yahoo_reason", None):
                raise InputError(f"{symbol}: Yahoo has no such series ({said})") from None
            problem = f"Yahoo cannot be read ({said or type(error).__name__})"
        else:
            if frame is not None and len(frame):
                return frame
            problem = "Yahoo sent an empty table"
        if wait is not None:
            seconds = wait * random.uniform(1.0, 1.5)
            print(f"{symbol}: {problem}; next try in {seconds:.0f} s", file=sys.stderr)
            sleep(seconds)
    raise Stopped(
        f"{symbol}: {problem}, {len(WAITS) + 1} tries; nothing was changed, try again later"
    )


def _named_columns(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Return the frame with one level of column names; refuse missing and repeated columns."""
    if isinstance(frame.columns, pd.MultiIndex):
        levels = [frame.columns.get_level_values(i) for i in range(frame.columns.nlevels)]
        frame = frame.set_axis(
            next((level for level in levels if "Close" in level), levels[0]), axis=1
        )
    missing = [name for name in NAMES if name not in frame]
    if missing:
        found = ", ".join(map(str, frame.columns))
        raise InputError(f"{symbol}: Yahoo's table lacks {', '.join(missing)}; found: {found}")
    if not frame.columns.is_unique:
        raise InputError(f"{symbol}: Yahoo's table repeats a column; it holds several symbols")
    return frame


def _session_dates(index: Any, zone: str, symbol: str, today: pd.Timestamp) -> pd.DatetimeIndex:
    """Return the session dates of bars whose times are midnights.

    Times are accepted if they are midnight in the time zone of the index (Chicago for ^VIX) or in
    `zone`. Times are not rounded, because that could move a bar by a day. The unfinished bar of
    today may have any time, that of the last trade.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise InputError(f"{symbol}: Yahoo's table has no dates")
    for times in (index, index.tz_convert(zone)) if index.tz is not None else (index,):
        local = times.tz_localize(None)
        days = local.normalize()
        if ((local == days) | (days >= today)).all():
            return days
    local = index.tz_localize(None)
    odd = index[(local != local.normalize()) & (local < today)][0]
    raise InputError(f"{symbol}: the time {odd} of a bar is not midnight in {zone}")
