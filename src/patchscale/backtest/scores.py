"""Scores of probability forecasts, with intervals; every stage that judges uses these.

Each score is a function of how often a sample holds each day (`bootstrap`): once for the figure
itself, as drawn for its interval.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from patchscale.backtest.bootstrap import estimates, mean, total
from patchscale.study.params import Threshold

COLLAPSED_RANGE = 0.2
BINS = 10

Array = np.ndarray


def log_losses(labels: Array, p: Array) -> Array:
    """Return the log-loss of each forecast in nats; `(n,), (n,) -> (n,)`."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    losses: Array = -np.log(np.where(labels == 1, p, 1 - p))
    return losses


@dataclass(frozen=True)
class Ranked:
    """Labels and forecasts in ascending order of the forecast."""

    order: Array
    labels: Array
    p: Array
    distinct: Array
    """Where each run of equal forecasts begins."""
    bins: Array
    """Where each of up to ten bins begins: of equal size, but equal forecasts are never parted."""

    @classmethod
    def of(cls, labels: Array, p: Array) -> "Ranked":
        """Sort the forecasts of n consecutive days; `(n,), (n,)`."""
        order = np.argsort(p, kind="stable")
        ranked = p[order]
        first_equal = np.searchsorted(ranked, ranked, side="left")
        return cls(
            order, labels[order], ranked, _starts(ranked), _starts(first_equal * BINS // len(p))
        )

    @property
    def says_nothing(self) -> bool:
        """Whether all forecasts are equal."""
        return len(self.distinct) == 1


def _starts(values: Array) -> Array:
    """Return where runs of equal values begin."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))


def ranking(ranked: Ranked, days: Array) -> dict[str, Array]:
    """Return `auc`, ties counting half, and `average_precision`, step-wise; each (draws,).

    `days` are counts in the order of `ranked`, shape (draws, n). NaN where a draw has one class
    only (for the average precision: no positive), or where all forecasts are equal.
    """
    if ranked.says_nothing:
        return dict.fromkeys(("auc", "average_precision"), np.full(len(days), np.nan))
    positives, negatives, hits, called = _called(ranked, days)
    false = called - hits
    above = (negatives * (hits - positives / 2)).sum(axis=1)  # pairs in the right order
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return {
        "auc": _ratio(above, hits[:, 0] * false[:, 0]),
        "average_precision": _ratio((positives * precision).sum(axis=1), hits[:, 0]),
    }


def _called(ranked: Ranked, days: Array) -> tuple[Array, Array, Array, Array]:
    """Return for each distinct forecast, ascending, what it meets and what it would call.

    Positives and negatives at it, positives and days at or above it; each (draws, distinct).
    """
    last = np.append(ranked.distinct[1:], len(ranked.p)) - 1
    hits_to = np.take(np.cumsum(days * ranked.labels.astype(days.dtype), axis=1), last, axis=1)
    days_to = np.take(np.cumsum(days, axis=1), last, axis=1)
    positives, held = hits_to.copy(), days_to.copy()
    positives[:, 1:] -= hits_to[:, :-1]
    held[:, 1:] -= days_to[:, :-1]
    hits = hits_to[:, -1:] - hits_to + positives
    return positives, held - positives, hits, days_to[:, -1:] - days_to + held


def calibration_scores(ranked: Ranked, days: Array) -> dict[str, Array]:
    """Return the expected calibration error and Murphy's parts of the Brier score; each (draws,).

    `days` are counts in the order of `ranked`, shape (draws, n). Over bins of mean forecast f and
    share of positives o: ece = mean |f - o|, reliability = mean (f - o)^2, resolution = mean
    (o - base)^2, uncertainty = base (1 - base). Brier = reliability - resolution + uncertainty +
    within_bins, the last for the spread of forecasts inside a bin (Stephenson et al. 2008). With
    few days a bin, gaps are above zero for a calibrated forecast too, and more so in resamples.

    References
    ----------
    Murphy (1973), "A New Vector Partition of the Probability Score", J. Appl. Meteorology 12.
    """
    size = days.sum(axis=1)
    n = np.add.reduceat(days, ranked.bins, axis=1)
    forecast, observed = (
        _ratio(np.add.reduceat(days * x.astype(days.dtype), ranked.bins, axis=1), n)
        for x in (ranked.p, ranked.labels)
    )
    base = mean(days, ranked.labels)

    def over_bins(gap: Array) -> Array:
        held: Array = np.where(n > 0, n * gap, 0).sum(axis=1) / size
        return held

    reliability = over_bins((forecast - observed) ** 2)
    resolution = over_bins((observed - base[:, None]) ** 2)
    uncertainty = base * (1 - base)
    brier = mean(days, (ranked.p - ranked.labels) ** 2)
    return {
        "ece": over_bins(abs(forecast - observed)),
        "reliability": reliability,
        "resolution": resolution,
        "uncertainty": uncertainty,
        "within_bins": brier - (reliability - resolution + uncertainty),
    }


def calibration(labels: Array, p: Array, horizon: int) -> pd.DataFrame:
    """Return `predicted, observed, observed_low, observed_high, n` of each bin."""
    ranked = Ranked.of(labels, p)

    def observed(days: Array) -> dict[str, Array]:
        held = np.take(days, ranked.order, axis=1)
        n = np.add.reduceat(held, ranked.bins, axis=1)
        hits = np.add.reduceat(held * ranked.labels.astype(held.dtype), ranked.bins, axis=1)
        return {str(number): share for number, share in enumerate(_ratio(hits, n).T)}

    row = estimates(observed, len(p), horizon)
    names = {"observed": "", "observed_low": "_low", "observed_high": "_high"}
    parts = np.split(ranked.p, ranked.bins[1:])
    return pd.DataFrame(
        {"predicted": [part.mean() for part in parts]}
        | {
            name: np.array([row[f"{number}{end}"] for number in range(len(parts))], dtype=float)
            for name, end in names.items()
        }
        | {"n": [len(part) for part in parts]}
    )


def precision_recall(labels: Array, p: Array) -> pd.DataFrame:
    """Return `threshold, precision, recall, false_alarms` at each distinct p, highest first.

    `recall` is the share of positives called, `false_alarms` that of negatives; NaN where there
    are none.
    """
    ranked = Ranked.of(labels, p)
    _, _, hits, called = (part[0, ::-1] for part in _called(ranked, np.ones((1, len(p)))))
    return pd.DataFrame(
        {
            "threshold": ranked.p[ranked.distinct][::-1],
            "precision": hits / called,
            "recall": _ratio(hits, labels.sum()),
            "false_alarms": _ratio(called - hits, (1 - labels).sum()),
        }
    )


def choose_threshold(labels: Array, p: Array, rule: Threshold) -> tuple[float, int]:
    """Return the best threshold by a rule, and among how many it was chosen.

    Candidates are the distinct probabilities whose recall is at least `rule.min_recall`. The best
    has the highest precision, or the highest share of positives less that of negatives called
    (Youden 1950); ties go to the higher threshold. Meant for validation labels, then frozen.

    Raises
    ------
    ValueError
        There is no positive, or no negative, to choose by.
    """
    if labels.min() == labels.max():
        raise ValueError(f"{int(labels.sum())} of {len(labels)} days are positive, one class only")
    table = precision_recall(labels, p)
    allowed = table[table["recall"] >= rule.min_recall]
    worth = {
        "precision": allowed["precision"],
        "youden": (allowed["recall"] - allowed["false_alarms"]).round(12),  # a tie is a tie
    }[rule.rule]
    return float(allowed["threshold"].iloc[int(np.argmax(worth))]), len(allowed)


def at_threshold(labels: Array, p: Array, threshold: float, days: Array) -> dict[str, Array]:
    """Return precision and recall of `p >= threshold`; each (draws,), NaN where undefined."""
    called = (p >= threshold).astype(float)
    hits = total(days, called * labels)
    return {
        "precision": _ratio(hits, total(days, called)),
        "recall": _ratio(hits, total(days, labels)),
    }


def _ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, NaN where the whole is zero."""
    whole = np.broadcast_to(whole, np.shape(part))
    ratio: Array = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
    return ratio


def scores(labels: Array, p: Array, prior: float, threshold: float, horizon: int) -> dict[str, Any]:
    """Return the scores of a forecast, each with its 95 % interval.

    Parameters
    ----------
    labels, p
        0/1 outcomes and probabilities of consecutive days, shape (n,).
    prior
        Share of positives in training; the reference of the Brier skill.
    threshold
        From which probability on a day is called.
    horizon
        Sessions looked ahead; sets the bootstrap's mean block.

    Returns
    -------
    Figures; one that is undefined is None and has its reason under `undefined`.
    """
    losses, squares = log_losses(labels, p), (p - labels) ** 2
    ranked = Ranked.of(labels, p)

    def statistics(days: Array) -> dict[str, Array]:
        brier = mean(days, squares)
        held = np.take(days, ranked.order, axis=1)
        return {
            **at_threshold(labels, p, threshold, days),
            "log_loss": mean(days, losses),
            "brier": brier,
            "brier_skill": 1 - _ratio(brier, mean(days, (prior - labels) ** 2)),
            **ranking(ranked, held),
            **calibration_scores(ranked, held),
        }

    signals, positives = int((p >= threshold).sum()), int(labels.sum())
    row = estimates(statistics, len(labels), horizon)
    span = float(p.max() - p.min())
    return {
        "n": len(labels),
        "positives": positives,
        "signals": signals,
        **row,
        "p_min": float(p.min()),
        "p_max": float(p.max()),
        "p_range": span,
        "collapsed": span < COLLAPSED_RANGE,
        "undefined": _reasons(row, positives, len(labels), threshold, span),
    }


def _reasons(
    row: dict[str, float | None], positives: int, n: int, threshold: float, span: float
) -> dict[str, str]:
    """Say of every figure that is None why it is."""
    if positives in (0, n):
        ranking = f"{positives} of {n} days are positive, one class only"
    else:
        ranking = f"all {n} probabilities are equal" if not span else ""
    why = {
        "precision": f"no probability reaches the threshold {threshold:.4f}",
        "recall": f"none of {n} days is positive",
        "brier_skill": "the prior makes no error here",
        "auc": ranking,
        "average_precision": ranking,
    }
    reasons = {}
    for name, value in row.items():
        if value is None and not name.endswith(("_low", "_high")):
            reasons[name] = why[name]
        elif value is None and name.removesuffix("_low") not in reasons and name.endswith("_low"):
            name = name.removesuffix("_low")
            reasons[f"interval of {name}"] = f"more than 5 % of the resamples have no {name}"
    return reasons
