"""Proposal of the periods of a data set: one that the rules of the study allow."""

import pandas as pd

from patchscale.bars import forward_adjust
from patchscale.check import earliest_test_year
from patchscale.features.tiers import WARM_UP
from patchscale.split.dates import make_split
from patchscale.split.labels import touch_labels
from patchscale.study.errors import InputError
from patchscale.study.params import MOST_YEARS, Dataset, Params

VALIDATION_YEARS = (3, 2, 4, 5, 6)
"""Lengths of the validation that are tried in turn."""


def propose(bars: pd.DataFrame, dataset: Dataset, params: Params) -> dict[str, str]:
    """Return the keys `start, end, validation_from, test_from, walk` of a data set.

    Test begins with a calendar year, the latest that leaves enough days and positive labels at
    every horizon; validation begins some years before. The test years of a walk are all that the
    data allow, but at most the latest 20.

    Parameters
    ----------
    bars
        Canonical bars that passed the checks.
    dataset
        Names the calendar.
    params
        Horizons, target and rules of the split.

    Raises
    ------
    InputError
        The history is too short or too quiet; the message is that of the last try.
    """
    first, last = bars["date"].iloc[0], bars["date"].iloc[-1]
    adjusted = forward_adjust(bars)
    labels = {name: touch_labels(adjusted, params.target, h) for name, h in params.horizons.items()}
    begin = WARM_UP + params.split.longest_context - 1
    problem = InputError(
        f"{len(bars)} bars are too few; {begin} pass before the first label, and training, "
        f"validation and test need {params.split.min_samples} days each"
    )
    for year in range(last.year, first.year, -1):
        for years in VALIDATION_YEARS:
            edges = [_session(bars, year - years), _session(bars, year)]
            if not edges[0] or not edges[1] or not edges[0] < edges[1]:
                continue
            proposed = dataset.model_copy(
                update={"validation_from": edges[0], "test_from": edges[1]}
            )
            try:
                for name, ahead in params.horizons.items():
                    usable = labels[name].notna() & (labels[name].index >= begin)
                    dates = bars.loc[usable, "date"]
                    if not len(dates) or dates.iloc[0] >= pd.Timestamp(edges[0]):
                        raise problem
                    make_split(dates, labels[name][usable], proposed, params.split, ahead)
            except InputError as error:
                problem = error
                continue
            return {
                "start": f"{first:%Y-%m-%d}",
                "end": f"{last:%Y-%m-%d}",
                "validation_from": edges[0],
                "test_from": edges[1],
            } | walk_years(first, last, params)
    raise problem


def walk_years(first: pd.Timestamp, last: pd.Timestamp, params: Params) -> dict[str, str]:
    """Return the keys of the latest test years of a walk that `check` allows."""
    begin = earliest_test_year(f"{first:%Y-%m-%d}", params.split)
    end = last.year if (last.month, last.day) >= (12, 15) else last.year - 1
    if begin > end:
        return {"walk": "null"}
    begin = max(begin, end - MOST_YEARS + 1)
    return {"walk.first": str(begin), "walk.last": str(end)}


def _session(bars: pd.DataFrame, year: int) -> str:
    """Return the first session of a year, nothing where the bars do not reach it."""
    days = bars["date"][bars["date"].dt.year == year]
    return f"{days.iloc[0]:%Y-%m-%d}" if len(days) and year > bars["date"].iloc[0].year else ""
