"""All that stage download would refuse in bars, found at once and not one after the other."""

from collections.abc import Iterable, Iterator

import pandas as pd

from patchscale.download.calendar import exchange_sessions
from patchscale.download.checks import MAX_MOVE, RULES, check_bars
from patchscale.download.seams import tick_seams
from patchscale.study.errors import InputError, some
from patchscale.study.params import Dataset

SHOWN = 5


def problems(
    bars: pd.DataFrame,
    dataset: Dataset,
    key: str,
    max_move: float = MAX_MOVE,
    unread: Iterable[pd.Timestamp] = (),
) -> Iterator[str]:
    """Yield each problem of a series in the words of stage download.

    Rows that break a rule are named and left out. Then every kind of check is made alone: the days
    of the other kinds count as excepted, so that none hides another.

    Parameters
    ----------
    bars
        Canonical bars, ascending, at least one.
    dataset, key, max_move
        As `check_bars` takes them.
    unread
        Days with a field that could not be read: a problem that was said before.
    """
    checked = (dataset, key, max_move)
    repeated = bars["date"].duplicated()
    if repeated.any():
        yield f"several rows a day on {_days(bars['date'][repeated])}: daily bars are needed"
    bars = bars[~repeated]
    broken = pd.Series(False, index=bars.index)
    for problem, rule in RULES.items():
        wrong = ~rule(bars)
        if wrong.any():
            yield f"{problem} on {_days(bars['date'][wrong])}"
            broken |= wrong
    lost = pd.DatetimeIndex(bars["date"][broken]).union(pd.DatetimeIndex(list(unread)))
    bars = bars[~broken].reset_index(drop=True)
    if bars.empty:
        return
    days, sessions = pd.DatetimeIndex(bars["date"]), exchange_sessions(dataset)
    missing, extra = sessions.difference(days).difference(lost), days.difference(sessions)
    weekend = extra.day_of_week >= 5
    yield from _refusals(bars, [missing, extra[weekend], extra[~weekend]], lost, *checked)
    bars = bars[~days.isin(extra)].reset_index(drop=True)
    days = pd.DatetimeIndex(bars["date"])
    held = bars["close"] / bars["close"].shift(1) * bars["splits"].where(bars["splits"] > 0, 1.0)
    kinds = [days[(held - 1).abs() > max_move], tick_seams(bars), days[bars["dividends"] != 0]]
    yield from _refusals(bars, kinds, lost.union(missing), *checked)


def _refusals(
    bars: pd.DataFrame,
    kinds: list[pd.DatetimeIndex],
    excepted: pd.DatetimeIndex,
    dataset: Dataset,
    key: str,
    max_move: float,
) -> Iterator[str]:
    """Yield what `check_bars` says of each kind of days where those of the others are excepted.

    A day of several kinds counts as the first of them.
    """
    for number, kind in enumerate(kinds):
        own = kind.difference(excepted)
        later = [each.difference(own) for each in kinds[number + 1 :]]
        reasons = {f"{day:%Y-%m-%d}": "other" for days in (excepted, *later) for day in days}
        excepted = excepted.union(kind)
        if not len(own):
            continue
        try:
            check_bars(bars, dataset.model_copy(update={"exceptions": reasons}), key, max_move)
        except InputError as error:
            yield str(error).removeprefix(f"{key}: ")


def _days(dates: "pd.Series[pd.Timestamp]") -> str:
    return some((f"{day:%Y-%m-%d}" for day in dates), SHOWN)
