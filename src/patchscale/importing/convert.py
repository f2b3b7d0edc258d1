"""Bars of an export: each column in its place, with what was decided and what is wrong."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from patchscale.bars import COLUMNS, PRICES, as_written
from patchscale.download.seams import on_tick_grid
from patchscale.download.yahoo import undo_splits
from patchscale.importing.days import Days, read_days
from patchscale.importing.export import SEPARATORS, Export
from patchscale.importing.numbers import decimal_mark, is_missing, numbers, ratios
from patchscale.study.errors import InputError, shown, some

SHOWN = 3
NEEDED = (
    "needed are prices as traded with the dividends beside them, such as "
    "yfinance.Ticker(SYMBOL).history(auto_adjust=False, period='max').to_csv(FILE)"
)
"""What to ask a vendor for where its prices are adjusted."""


@dataclass
class Imported:
    """Bars of an export, and what a reader should know of them."""

    bars: pd.DataFrame
    """Canonical bars, ascending; not checked against the exchange's calendar."""
    mapping: dict[str, str]
    """For each canonical column the column of the file, or what stands in its place."""
    unused: list[str]
    notes: list[str] = field(default_factory=list)
    """What was decided or left out."""
    problems: list[str] = field(default_factory=list)
    """What must be mended before the bars can be used."""
    unread: pd.DatetimeIndex = field(default_factory=lambda: pd.DatetimeIndex([]))
    """Days with a field that cannot be read; where it is a price `bars` lacks them."""


def convert(
    export: Export,
    zone: str,
    today: pd.Timestamp,
    *,
    order: str | None = None,
    mark: str | None = None,
    close_only: bool = False,
) -> Imported:
    """Return the canonical bars of an export.

    Parameters
    ----------
    export
        Fields of the file.
    zone, today
        Time zone of the exchange and the date there, whose bar is unfinished and left out.
    order
        `day first` or `month first`, where the dates cannot tell.
    mark
        Decimal mark, where the prices cannot tell.
    close_only
        Whether a close may stand for open, high and low, as in a volatility index.
    """
    empty = pd.DataFrame(columns=COLUMNS)
    result = Imported(empty, {}, _unused(export))
    result.problems += _header_problems(export, close_only)
    if result.problems:
        return result
    prices = {name: export.texts(name if export.of(name) else "close") for name in PRICES}
    texts = pd.concat(list(prices.values()), ignore_index=True)
    mark = mark or decimal_mark(texts)
    if mark is None:
        example = shown(texts[~is_missing(texts)].iloc[0])
        result.problems.append(
            f"prices such as {example} may have a decimal comma or a comma "
            f"between thousands; no price of the file decides, so say --decimal comma or point"
        )
        return result
    values = pd.DataFrame({name: numbers(column, mark) for name, column in prices.items()})
    is_bar = values.notna().any(axis=1)
    _set_aside(export, is_bar, result)
    if not is_bar.any():
        result.problems.append("no line has a price")
        return result
    try:
        days = read_days(export.texts("date")[is_bar], zone, order)
    except InputError as error:
        result.problems.append(str(error))
        return result
    bars = values[is_bar].assign(date=days.days)
    for name in ("volume", "dividends", "splits"):
        fields = export.texts(name)[is_bar]
        read = ratios(fields, mark) if name == "splits" else numbers(fields, mark)
        bars[name] = read.fillna(0.0)
        unread = ~is_missing(fields) & read.isna()
        _tell_fields(f"{name} is no number", fields[unread], bars, result)
    _tell_fields("no date", export.texts("date")[is_bar][bars["date"].isna()], bars, result)
    for name in PRICES:
        lacking = bars[name].isna()
        _tell_fields(f"{name} is no number", prices[name][is_bar][lacking], bars, result)
    result.mapping = _mapping(export)
    _describe(export, days, mark, bars, result)
    _tell_adjusted(export, bars, mark, result)
    good = bars.dropna(subset=["date", *PRICES])
    result.bars = _finished(good[COLUMNS], today, result)
    return result


def _header_problems(export: Export, close_only: bool) -> list[str]:
    """Return what is wrong with the header: columns that are missing, twice, or adjusted."""
    found = []
    needed = ("date", "close") if close_only else ("date", *PRICES)
    missing = [name for name in needed if not export.of(name)]
    if "close" in missing and export.of("adjusted close"):
        found.append(f"all closes are adjusted; {NEEDED}")
        missing.remove("close")
    if missing:
        names = ", ".join(name for name in export.header if name)
        found.append(f"no column for {', '.join(missing)}; the header is {shown(names)}")
    for name in COLUMNS:
        if len(columns := export.of(name)) > 1:
            alike = ", ".join(export.header[number] for number in columns)
            found.append(f"{len(columns)} columns may be {name} ({alike}); one symbol a file")
    if export.too_long:
        found.append(
            f"{len(export.too_long)} lines have more fields than the header, the first has "
            f"{export.too_long[0]} instead of {len(export.header)} (decimal commas between commas?)"
        )
    return found


def _unused(export: Export) -> list[str]:
    used = [export.of(name)[0] for name in COLUMNS if export.of(name)]
    return [name for number, name in enumerate(export.header) if name and number not in used]


def _mapping(export: Export) -> dict[str, str]:
    """Return for each canonical column the header's word, or what stands in its place."""
    instead = {"volume": "none: 0", "dividends": "none: 0", "splits": "none: 0"}
    mapping = {}
    for name in COLUMNS:
        columns = export.of(name)
        words = export.header[columns[0]] or "first column" if columns else ""
        mapping[name] = words or instead.get(name, "none: the close")
    return mapping


def _set_aside(export: Export, is_bar: "pd.Series[bool]", result: Imported) -> None:
    """Say which lines have no price: titles, footers, days without a trade."""
    left = export.fields[~is_bar]
    lines = left.iloc[:, 0].str.cat(left.iloc[:, 1:], sep=" ").str.strip()
    lines = lines[lines != ""]
    if len(lines):
        result.notes.append(
            f"{len(lines)} lines without a price are left out, the first is line "
            f"{lines.index[0]}: {shown(lines.iloc[0])}"
        )


def _tell_fields(problem: str, texts: pd.Series, bars: pd.DataFrame, result: Imported) -> None:
    """Say which fields cannot be read, and note their days."""
    if len(texts):
        days = pd.DatetimeIndex(bars["date"][texts.index].dropna())
        result.unread = result.unread.union(days)
        rows = some((f"line {line}: {shown(text)}" for line, text in texts.items()), SHOWN)
        result.problems.append(f"{problem} on {rows}")


def _describe(export: Export, days: Days, mark: str, bars: pd.DataFrame, result: Imported) -> None:
    """Say how the file is written."""
    steps = bars["date"].dropna().diff().dt.days.iloc[1:]
    newest = bool(len(steps)) and (steps < 0).mean() > 0.5
    result.notes.insert(
        0,
        f"{len(bars)} bars, fields between {SEPARATORS[export.separator]}, decimal "
        f"{'point' if mark == '.' else 'comma'}, dates with {days.form}, "
        f"{'newest' if newest else 'oldest'} bar first",
    )


def _tell_adjusted(export: Export, bars: pd.DataFrame, mark: str, result: Imported) -> None:
    """Say that prices are, or may be, adjusted, as far as the columns of the file show it."""
    adjusted = numbers(export.texts("adjusted close").loc[bars.index], mark)
    paid = (abs(adjusted / bars["close"] - 1) > 1e-4).sum()
    if export.of("dividends"):
        return
    if paid:
        result.notes.append(
            f"the adjusted close differs from the close on {paid} days: dividends were paid that "
            f"the file does not list, and their falls count as losses; {NEEDED}"
        )
    elif on_tick_grid(bars).mean() < 0.5:
        result.notes.append(
            f"most prices are not multiples of a cent: those of an index, or adjusted; if "
            f"adjusted, {NEEDED}"
        )


def _finished(bars: pd.DataFrame, today: pd.Timestamp, result: Imported) -> pd.DataFrame:
    """Return bars in ascending order and as traded, without that of today."""
    if (bars["date"] == today).any():
        result.notes.append(f"the bar of {today:%Y-%m-%d}, today, is unfinished and left out")
    future = bars["date"][bars["date"] > today]
    if len(future):
        result.problems.append(f"{future.iloc[0]:%Y-%m-%d} lies in the future")
    bars = bars[bars["date"] < today].sort_values("date", kind="stable", ignore_index=True)
    if splits_were_applied(bars):
        bars = undo_splits(bars)
        result.notes.append(
            "prices, dividends and volumes were adjusted for the splits beside them, as Yahoo's "
            "are; they are as traded now"
        )
    return as_written(bars.astype({name: float for name in COLUMNS[1:]}))


def splits_were_applied(bars: pd.DataFrame) -> bool:
    """Tell whether prices do not move by most of the splits that are listed beside them."""
    ratio = bars["splits"].where(bars["splits"] > 0, 1.0)
    large = (np.abs(np.log(ratio)) > np.log(1.2)) & (bars.index > 0)
    if not large.any():
        return False
    move = np.log(bars["close"] / bars["close"].shift(1))
    still = np.abs(move) < np.abs(move + np.log(ratio))
    return bool(still[large].mean() > 0.5)
