"""Daily bars in the canonical form: read, checked field by field, written.

Canonical bars: `date,open,high,low,close,volume,dividends,splits`, unadjusted, ascending, one row
per exchange session. `splits` is the ratio on the day it takes effect, 0 on all other days.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.study.errors import InputError

PRICES = ["open", "high", "low", "close"]
COLUMNS = ["date", *PRICES, "volume", "dividends", "splits"]
HEADER = ",".join(COLUMNS)


def read_bars(path: Path) -> pd.DataFrame:
    """Read a canonical CSV; raise InputError as `parse_bars` does."""
    if not path.is_file():
        raise InputError(f"{path}: missing; a CSV with the columns {HEADER} is needed")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); needed: {HEADER}") from None
    if text.startswith("\ufeff"):
        raise InputError(
            f"{path}: begins with a byte order mark; "
            rf"`sed -i '1s/^\xEF\xBB\xBF//' {path}` removes it"
        )
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        raise InputError(
            f"{path}: CRLF line ends, first on line {line}; "
            rf"`sed -i 's/\r$//' {path}` makes them LF"
        )
    return parse_bars(text, str(path))


def parse_bars(text: str, name: str) -> pd.DataFrame:
    """Return canonical text as bars.

    Raises
    ------
    InputError
        The text is empty or truncated, has another header, or a field is no date or no finite
        number; the line says where.
    """
    if not text.strip():
        raise InputError(f"{name}: empty; needed is the header {HEADER} and a row per session")
    header, *rows = text.split("\n")
    if header != HEADER:
        raise InputError(f"{name}: the header is {header[:120]!r}; needed: {HEADER}")
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
                f"{name}: line {line} has {len(found)} fields, needed are {len(COLUMNS)}"
                + ("; the file is truncated" if cut else "")
            )
    if not ended:
        raise InputError(
            f"{name}: line {len(fields) + 1}, the last, has no line end; the file is truncated"
        )
    frame = pd.DataFrame(fields, columns=COLUMNS)
    dates = pd.to_datetime(frame["date"], format="%Y-%m-%d", errors="coerce")
    _refuse_first(name, "date", frame["date"], dates.isna(), "no day of the form 2018-12-31")
    for column in COLUMNS[1:]:
        numbers = pd.to_numeric(frame[column], errors="coerce").astype(float)
        label = column + " of " + frame["date"]
        finite = numbers.abs() < np.inf
        _refuse_first(name, label, frame[column], ~finite, "no number")
        frame[column] = numbers
    return frame.assign(date=dates)


def _refuse_first(
    name: str, what: "str | pd.Series[str]", fields: pd.Series, wrong: pd.Series, why: str
) -> None:
    if wrong.any():
        row, more = int(wrong.to_numpy().argmax()), int(wrong.sum()) - 1
        label = what if isinstance(what, str) else what.iloc[row]
        rest = f" (and {more} more)" if more else ""
        raise InputError(f"{name}: line {row + 2}: {label} is {fields.iloc[row]!r}, {why}{rest}")


def canonical_csv(bars: pd.DataFrame) -> str:
    """Return the canonical CSV text: six decimals, whole volumes, LF line ends."""
    text: str = bars.assign(volume=bars["volume"].round().astype("int64")).to_csv(
        index=False, float_format="%.6f", lineterminator="\n", date_format="%Y-%m-%d"
    )
    return text


def forward_adjust(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars whose prices are multiplied by a factor that starts at 1 and steps up.

    On an ex-date the factor grows by `split * P / (P - dividend)` with P the previous close (in
    units of before the split), so that the adjusted return holds what a holder got. The factor
    of day t is a function of bars up to t: appending data never changes a row. Volumes are
    divided by the splits so far.

    Parameters
    ----------
    bars
        Canonical bars.

    Raises
    ------
    ValueError
        A dividend is not smaller than the previous close.
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
