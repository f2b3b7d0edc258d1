"""Forecasts in ascending order, and counts of the days at and above each of them."""

from dataclasses import dataclass

import numpy as np

BINS = 10

Array = np.ndarray


@dataclass(frozen=True)
class Ranked:
    """Labels and forecasts in ascending order of the forecast."""

    order: Array
    labels: Array
    p: Array
    distinct: Array
    """Position at which each run of equal forecasts begins."""
    bins: Array
    """Position at which each of up to ten bins begins; equal forecasts share a bin."""

    @classmethod
    def of(cls, labels: Array, p: Array) -> "Ranked":
        """Sort the labels and forecasts of n consecutive days, each of shape (n,)."""
        order = np.argsort(p, kind="stable")
        ranked = p[order]
        first_equal = np.searchsorted(ranked, ranked, side="left")
        return cls(
            order, labels[order], ranked, _starts(ranked), _starts(first_equal * BINS // len(p))
        )

    @property
    def constant(self) -> bool:
        """Whether all forecasts are equal."""
        return len(self.distinct) == 1


def _starts(values: Array) -> Array:
    """Return the positions at which runs of equal values begin."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))


def counts_above(ranked: Ranked, days: Array) -> tuple[Array, Array, Array, Array]:
    """Return counts for each distinct forecast, ascending, each of shape (draws, distinct).

    The counts are: positives and negatives with this forecast, then positives and days with this
    forecast or a higher one.
    """
    last = np.append(ranked.distinct[1:], len(ranked.p)) - 1
    hits_to = np.take(np.cumsum(days * ranked.labels.astype(days.dtype), axis=1), last, axis=1)
    days_to = np.take(np.cumsum(days, axis=1), last, axis=1)
    positives, n = hits_to.copy(), days_to.copy()
    positives[:, 1:] -= hits_to[:, :-1]
    n[:, 1:] -= days_to[:, :-1]
    hits = hits_to[:, -1:] - hits_to + positives
    return positives, n - positives, hits, days_to[:, -1:] - days_to + n


def ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, NaN where the whole is zero."""
    whole = np.broadcast_to(whole, np.shape(part))
    quotient: Array = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
    return quotient
