"""Sessions, time zone and current date of a data set's exchange, from exchange_calendars."""

from typing import Any

import pandas as pd

from patchscale.study.errors import InputError
from patchscale.study.params import Dataset


def exchange_sessions(dataset: Dataset) -> pd.DatetimeIndex:
    """Return the sessions of the data set's exchange from `start` to `end`."""
    return pd.DatetimeIndex(_calendar(dataset).sessions)


def exchange_zone(dataset: Dataset) -> str:
    """Return the name of the exchange's time zone."""
    return str(_calendar(dataset).tz)


def exchange_today(dataset: Dataset) -> pd.Timestamp:
    """Return the current date in the exchange's time zone."""
    return pd.Timestamp.now(exchange_zone(dataset)).normalize().tz_localize(None)


def _calendar(dataset: Dataset) -> Any:
    import exchange_calendars  # takes half a second

    try:
        return exchange_calendars.get_calendar(
            dataset.calendar, start=dataset.start, end=dataset.end
        )
    except exchange_calendars.errors.InvalidCalendarName:
        raise InputError(
            f"calendar {dataset.calendar!r} is unknown; allowed are the names of "
            f"exchange_calendars, such as XNYS"
        ) from None
    except (ValueError, exchange_calendars.errors.CalendarError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"calendar {dataset.calendar!r} does not cover {dataset.start} to "
            f"{dataset.end} ({reason})"
        ) from None
