"""Canonical daily bars: reading, writing and forward adjustment.

Canonical bars have the columns `date,open,high,low,close,volume,dividends,splits`, unadjusted
prices, and one row per exchange session in ascending order. `splits` is the ratio on the day it
takes effect and 0 on all other days.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.study import paths
from patchscale.study.errors import InputError, shown
from patchscale.study.files import read_bytes
from patchscale.study.params import Params

PRICES = ["open", "high", "low", "close"]
COLUMNS = ["date", *PRICES, "volume", "dividends", "splits"]
HEADER = ",".join(COLUMNS)
MAX_BYTES = 100_000_000
DAY = re.compile(r"(1[89]|2[01])[0-9]{2}-[0-9]{2}-[0-9]{2}")
NUMBER = re.compile(r" *[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)? *")
"""Forms of a field, in ASCII; pandas would also take other digits, `2020-1-5` and `today`."""


def read_study(params: Params) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the adjusted bars of a study, and those of its volatility index where it has one.

    Raises
    ------
    InputError
        As `read_bars`, or a price is not positive, or a dividend is not below the previous close.
    """
    data = params.data
    path = paths.raw(params.dataset, data.series)
    bars = read_bars(path)
    try:
        if not (bars[PRICES] > 0).to_numpy().all():
            raise ValueError("a price is not positive")
        bars = forward_adjust(bars)
    except ValueError as error:
        raise InputError(f"{path}: {error}; `dvc checkout` restores it") from None
    return bars, read_bars(paths.raw(params.dataset, data.volatility)) if data.volatility else None


def read_bars(path: Path) -> pd.DataFrame:
    """Read a canonical CSV.

    Raises
    ------
    InputError
        The file is missing or larger than 100 MB, is not UTF-8, has a byte order mark, CRLF or CR
        line ends, or its text is not canonical (`parse_bars`).
    """
    if not path.is_file():
        raise InputError(f"{path}: missing; a CSV with the columns {HEADER} is needed")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes, which is the limit")
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); {HEADER} is needed") from None
    if text.startswith("\ufeff"):
        raise InputError(
            f"{path}: begins with a byte order mark; "
            rf"`sed -i '1s/^\xEF\xBB\xBF//' {path}` removes it"
        )
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        kind, rule = ("CRLF", r"s/\r$//") if "\r\n" in text else ("CR", r"s/\r/\n/g")
        raise InputError(
            f"{path}: {kind} line ends, first on line {line}; "
            f"`sed -i '{rule}' {path}` makes them LF"
        )
    return parse_bars(text, str(path))


def parse_bars(text: str, name: str) -> pd.DataFrame:
    """Return the bars of a text in canonical form.

    Raises
    ------
    InputError
        The text is empty or truncated, has another header, or a field is not a date or not a
        finite number; the message names the line.
    """
    if not text.strip():
        raise InputError(f"{name}: empty; the header {HEADER} and a row per session are needed")
    header, *rows = text.split("\n")
    if header != HEADER:
        raise InputError(f"{name}: the header is {shown(header)}; {HEADER} is needed")
    if not any(rows):
        raise InputError(f"{name}: no rows below the header")
    ended = rows[-1] == ""
    fields = [row.split(",") for row in (rows[:-1] if ended else rows)]
    for line, found in enumerate(fields, start=2):
        if found == [""]:
            raise InputError(f"{name}: line {line} is empty")
        if len(found) != len(COLUMNS):
            cut = len(found) < len(COLUMNS) and line == len(fields) + 1
            raise InputError(
                f"{name}: line {line} has {len(found)} fields; {len(COLUMNS)} are needed"
                + ("; the file is truncated" if cut else "")
            )
    if not ended:
        raise InputError(
            f"{name}: line {len(fields) + 1}, the last, has no line end; the file is truncated"
        )
    frame = pd.DataFrame(fields, columns=COLUMNS)
    is_day = frame["date"].map(lambda field: bool(DAY.fullmatch(field)))
    dates = pd.to_datetime(frame["date"].where(is_day), format="%Y-%m-%d", errors="coerce")
    _refuse_first(name, "date", frame["date"], dates.isna(), "not a date like 2018-12-31")
    for column in COLUMNS[1:]:
        is_number = frame[column].map(lambda field: bool(NUMBER.fullmatch(field)))
        numbers = pd.to_numeric(frame[column].where(is_number), errors="coerce").astype(float)
        label = column + " of " + frame["date"]
        finite = numbers.abs() < np.inf
        _refuse_first(name, label, frame[column], ~finite, "not a finite number")
        frame[column] = numbers
    return frame.assign(date=dates)


def _refuse_first(
    name: str, what: "str | pd.Series[str]", fields: pd.Series, wrong: pd.Series, why: str
) -> None:
    if wrong.any():
        row, more = int(wrong.to_numpy().argmax()), int(wrong.sum()) - 1
        label = what if isinstance(what, str) else what.iloc[row]
        rest = f" (and {more} more)" if more else ""
        raise InputError(
            f"{name}: line {row + 2}: {label} is {shown(fields.iloc[row])}, {why}{rest}"
        )


def as_written(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars with the digits that `canonical_csv` writes, so that these are checked.

    A source's prices may have an error of 1e-13, which is no contradiction, or be so small that
    nothing is left of them. A split of ratio 1 is no split and becomes 0.
    """
    written = bars.copy()
    exact = [*PRICES, "dividends", "splits"]
    with np.errstate(over="ignore"):  # of prices that no exchange has
        written[exact] = bars[exact].round(6)
    written["volume"] = bars["volume"].round()
    written["splits"] = written["splits"].replace(1.0, 0.0)
    return written


def canonical_csv(bars: pd.DataFrame) -> str:
    """Return bars as canonical CSV text: six decimals, whole volumes, LF line ends."""
    text: str = bars.assign(volume=bars["volume"].round().astype("int64")).to_csv(
        index=False, float_format="%.6f", lineterminator="\n", date_format="%Y-%m-%d"
    )
    return text


def forward_adjust(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars adjusted for dividends and splits by a factor that is 1 on the first day.

    On an ex-date the factor is multiplied by `split * P / (P - paid)`, where P is the previous
    close and `paid` the dividend per share held before the split, so that adjusted returns are
    those of a holder. The factor of day t depends on bars up to t, so that appended bars never
    change earlier rows. Volumes are divided by the product of all splits up to their day.

    Parameters
    ----------
    bars
        Canonical bars.

    Raises
    ------
    ValueError
        A dividend is not below the previous close.
    """
    split = np.where(bars["splits"] == 0, 1.0, bars["splits"])
    previous = bars["close"].shift(1).to_numpy()
    paid = (bars["dividends"] * split).to_numpy()
    too_large = paid >= previous  # False on the first day, whose previous close is NaN
    if too_large.any():
        day = bars["date"][too_large].iloc[0]
        raise ValueError(f"the dividend of {day:%Y-%m-%d} is not below the previous close")
    step = np.where(paid > 0, previous / (previous - paid), 1.0)
    step[0] = 1.0
    splits = np.cumprod(split)
    adjusted = bars.copy()
    adjusted[PRICES] = bars[PRICES].mul(splits * np.cumprod(step), axis=0)
    adjusted["volume"] = bars["volume"] / splits
    return adjusted
