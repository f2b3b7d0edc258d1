"""Days of an export: one form for the whole column, which also decides day before month."""

import re
from dataclasses import dataclass

import pandas as pd

from patchscale.study.errors import InputError, shown

STAMP = re.compile(
    r"^(?P<day>.*?\d)(?:[T ,]+(?P<time>\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AaPp][Mm])?)"
    r" ?(?P<zone>Z|UTC|[-+]\d\d:?\d\d)?)?$"
)
FORMS = {
    "year first": r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}",
    "eight digits": r"(?:1[89]|2[01])\d{6}",
    "seconds since 1970": r"-?\d{9,10}",
    "milliseconds since 1970": r"-?\d{12,13}",
    "numbers": r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",
    "month by name": r".*[A-Za-z]{3}.*\d.*",
}
"""Forms of a day, as patterns of the whole text."""
WITH_NAMES = ("%b %d %Y", "%B %d %Y", "%d %b %Y", "%d %B %Y", "%d %b %y", "%b %d %y")
DAY_FIRST, MONTH_FIRST = "day first", "month first"


@dataclass(frozen=True)
class Days:
    """Days of a column."""

    days: "pd.Series[pd.Timestamp]"
    """NaT where a text is no day of the form."""
    form: str
    """The form in words, for the reader."""


def read_days(texts: pd.Series, zone: str, order: str | None = None) -> Days:
    """Return the days of a column.

    A time stamp that is not midnight where it was written, and that names its zone, is moved to the
    exchange's zone; its day there is the session's.

    Parameters
    ----------
    texts
        Fields of rows that have a price.
    zone
        Time zone of the exchange.
    order
        `day first` or `month first`, where the column cannot tell.

    Raises
    ------
    InputError
        No form fits, or the numbers may be day and month as well as month and day.
    """
    parts = texts.str.extract(STAMP)
    day, time, offset = (parts[name].fillna("") for name in ("day", "time", "zone"))
    fits = {name: day.str.fullmatch(pattern) for name, pattern in FORMS.items()}
    form = max(fits, key=lambda name: int(fits[name].sum()))
    if not fits[form].any():
        raise InputError(f"the date {shown(texts.iloc[0])} has no form that is known")
    if form.endswith("1970"):
        seconds = pd.to_numeric(day.where(fits[form])) / (1 if form.startswith("sec") else 1000)
        stamps = pd.to_datetime(seconds, unit="s", utc=True, errors="coerce")
        return Days(_session_days(stamps, zone), form)
    plain = day.where(fits[form]).str.replace(r"[-/., ]+", " ", regex=True).str.strip()
    if form == "numbers":
        order = order or _order(plain.dropna())
        year = "%Y" if plain.dropna().str.fullmatch(r".* \d{4}").all() else "%y"
        days = _parsed(plain, f"%d %m {year}" if order == DAY_FIRST else f"%m %d {year}")
        form = order
    elif form == "month by name":
        plain = plain.str.replace(r"^[A-Za-z]+ (?=[A-Za-z])", "", regex=True)  # day of the week
        days = max((_parsed(plain, each) for each in WITH_NAMES), key=lambda each: each.count())
    else:
        days = _parsed(plain, "%Y%m%d" if form == "eight digits" else "%Y %m %d")
    if (offset != "").any() and not time.isin(("", "00:00", "00:00:00")).all():
        written = days.dt.strftime("%Y-%m-%d ") + time + offset.replace("UTC", "Z")
        stamps = pd.to_datetime(written, utc=True, errors="coerce", format="mixed")
        return Days(_session_days(stamps, zone), f"{form}, times moved to {zone}")
    return Days(days, form)


def _order(plain: pd.Series) -> str:
    """Return whether the day or the month stands first, from all numbers of the column."""
    numbers = plain.str.split(" ", expand=True).astype(int)
    day_first, month_first = (numbers[0] > 12), (numbers[1] > 12)
    if day_first.any() and month_first.any():
        one, other = plain[day_first].iloc[0], plain[month_first].iloc[0]
        raise InputError(
            f"dates have the day first ({shown(one)}) and the month first ({shown(other)})"
        )
    if not (day_first.any() or month_first.any()):
        raise InputError(
            f"dates such as {shown(plain.iloc[0])} may be day and month or month and day; no date "
            f"of the file decides, so say --dates day-first or --dates month-first"
        )
    return DAY_FIRST if day_first.any() else MONTH_FIRST


def _parsed(plain: pd.Series, form: str) -> "pd.Series[pd.Timestamp]":
    days: pd.Series[pd.Timestamp] = pd.to_datetime(plain, format=form, errors="coerce")
    return days


def _session_days(stamps: "pd.Series[pd.Timestamp]", zone: str) -> "pd.Series[pd.Timestamp]":
    """Return the days of UTC times: as they are if all are midnights, else at the exchange."""
    midnight = (stamps.dropna() == stamps.dropna().dt.normalize()).all()
    local = stamps if midnight else stamps.dt.tz_convert(zone)
    days: pd.Series[pd.Timestamp] = local.dt.tz_localize(None).dt.normalize()
    return days
