"""Scores of probability forecasts, with bootstrap intervals.

Each score is a function of how often a sample contains each day (see `bootstrap`): once for the
score itself, as drawn for its interval.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from patchscale.backtest.bootstrap import Estimate, block_length, estimates, mean, total
from patchscale.backtest.ranked import Array, Ranked, counts_above, ratio
from patchscale.study.params import Threshold

COLLAPSED_RANGE = 0.2


@dataclass(frozen=True)
class SeedScores:
    """Scores of a single seed of a cell."""

    log_loss: float
    auc: float | None
    """None if undefined."""


@dataclass(frozen=True)
class Scores:
    """Scores of a forecast on the days of a subset."""

    n: int
    positives: int
    block: int
    """Mean block length of the intervals in days, that of the daily log-losses."""
    signals: int
    """Days whose probability reaches the threshold."""
    precision: Estimate
    recall: Estimate
    log_loss: Estimate
    brier: Estimate
    brier_skill: Estimate
    """Share of the Brier score of the training prior that is saved."""
    auc: Estimate
    average_precision: Estimate
    ece: Estimate
    """Expected calibration error."""
    reliability: Estimate
    resolution: Estimate
    uncertainty: Estimate
    within_bins: Estimate
    p_min: float
    p_max: float
    p_range: float
    collapsed: bool
    """Whether the range of the probabilities is below 0.2."""
    undefined: dict[str, str]
    """Reason of each score, and `interval of` a score, that is undefined."""
    seeds: dict[str, SeedScores]


def log_losses(labels: Array, p: Array) -> Array:
    """Return the log-loss of each forecast in nats; `(n,), (n,) -> (n,)`."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    losses: Array = -np.log(np.where(labels == 1, p, 1 - p))
    return losses


def ranking(ranked: Ranked, days: Array) -> dict[str, Array]:
    """Return `auc`, ties counting half, and `average_precision`, step-wise; each (draws,).

    `days` are counts in the order of `ranked`, shape (draws, n). NaN where a draw has one class
    only (for the average precision: no positive), or where all forecasts are equal.
    """
    if ranked.constant:
        return dict.fromkeys(("auc", "average_precision"), np.full(len(days), np.nan))
    positives, negatives, hits, called = counts_above(ranked, days)
    false = called - hits
    above = (negatives * (hits - positives / 2)).sum(axis=1)  # concordant pairs
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return {
        "auc": ratio(above, hits[:, 0] * false[:, 0]),
        "average_precision": ratio((positives * precision).sum(axis=1), hits[:, 0]),
    }


def calibration_scores(ranked: Ranked, days: Array) -> dict[str, Array]:
    """Return the calibration error and Murphy's decomposition of the Brier score; each (draws,).

    `days` are counts in the order of `ranked`, shape (draws, n). Over bins of mean forecast f and
    share of positives o: ece = mean |f - o|, reliability = mean (f - o)^2, resolution = mean
    (o - base)^2, uncertainty = base (1 - base). Brier = reliability - resolution + uncertainty +
    within_bins; the last term is the spread of forecasts inside a bin (Stephenson et al. 2008).
    With few days a bin, ece and reliability are above zero for a calibrated forecast too, and
    higher still in resamples.

    References
    ----------
    Murphy (1973), "A New Vector Partition of the Probability Score", J. Appl. Meteorology 12.
    """
    size = days.sum(axis=1)
    n = np.add.reduceat(days, ranked.bins, axis=1)
    forecast, observed = (
        ratio(np.add.reduceat(days * x.astype(days.dtype), ranked.bins, axis=1), n)
        for x in (ranked.p, ranked.labels)
    )
    base = mean(days, ranked.labels)

    def over_bins(gap: Array) -> Array:
        average: Array = np.where(n > 0, n * gap, 0).sum(axis=1) / size
        return average

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
    ranked, block = Ranked.of(labels, p), block_length(log_losses(labels, p), horizon)

    def observed(days: Array) -> dict[str, Array]:
        sorted_days = np.take(days, ranked.order, axis=1)
        n = np.add.reduceat(sorted_days, ranked.bins, axis=1)
        positives = sorted_days * ranked.labels.astype(days.dtype)
        hits = np.add.reduceat(positives, ranked.bins, axis=1)
        return {str(number): share for number, share in enumerate(ratio(hits, n).T)}

    shares = estimates(observed, len(p), block).values()
    parts = np.split(ranked.p, ranked.bins[1:])
    return pd.DataFrame(
        {
            "predicted": [part.mean() for part in parts],
            "observed": [share.value for share in shares],
            "observed_low": [share.low for share in shares],
            "observed_high": [share.high for share in shares],
            "n": [len(part) for part in parts],
        }
    )


def precision_recall(labels: Array, p: Array) -> pd.DataFrame:
    """Return `threshold, precision, recall, false_alarms` at each distinct p, highest first.

    `recall` is the share of positives called, `false_alarms` the share of negatives called; NaN
    where there are none.
    """
    ranked = Ranked.of(labels, p)
    _, _, hits, called = (part[0, ::-1] for part in counts_above(ranked, np.ones((1, len(p)))))
    return pd.DataFrame(
        {
            "threshold": ranked.p[ranked.distinct][::-1],
            "precision": hits / called,
            "recall": ratio(hits, labels.sum()),
            "false_alarms": ratio(called - hits, (1 - labels).sum()),
        }
    )


def choose_threshold(labels: Array, p: Array, rule: Threshold) -> float:
    """Return the best threshold by a rule.

    Candidates are the distinct probabilities whose recall is at least `rule.min_recall`. The best
    has the highest precision, or the highest recall less false alarms (Youden 1950); ties go to
    the higher threshold. To be called with validation labels only.

    Raises
    ------
    ValueError
        All labels are equal.
    """
    if labels.min() == labels.max():
        raise ValueError(f"{int(labels.sum())} of {len(labels)} days are positive, one class only")
    table = precision_recall(labels, p)
    allowed = table[table["recall"] >= rule.min_recall]
    criterion = {
        "precision": allowed["precision"],
        "youden": (allowed["recall"] - allowed["false_alarms"]).round(12),  # ties despite rounding
    }[rule.rule]
    return float(allowed["threshold"].iloc[int(np.argmax(criterion))])


def at_threshold(labels: Array, p: Array, threshold: float, days: Array) -> dict[str, Array]:
    """Return precision and recall of `p >= threshold`; each (draws,), NaN where undefined."""
    called = (p >= threshold).astype(float)
    hits = total(days, called * labels)
    return {
        "precision": ratio(hits, total(days, called)),
        "recall": ratio(hits, total(days, labels)),
    }


def score_seed(labels: Array, p: Array) -> SeedScores:
    """Return log-loss and AUC of a single seed, without intervals."""
    (auc,) = ranking(Ranked.of(labels, p), np.ones((1, len(p))))["auc"]
    return SeedScores(
        log_loss=float(log_losses(labels, p).mean()),
        auc=float(auc) if np.isfinite(auc) else None,
    )


def scores(
    labels: Array,
    p: Array,
    prior: float,
    threshold: float,
    horizon: int,
    seeds: dict[str, Array],
) -> Scores:
    """Return the scores of a forecast, each with its 95 % interval.

    Parameters
    ----------
    labels, p
        0/1 outcomes and probabilities of consecutive days, shape (n,).
    prior
        Share of positives in training; the reference of the Brier skill.
    threshold
        Lowest probability at which a day is called.
    horizon
        Sessions looked ahead, the least mean block length of the bootstrap.
    seeds
        Probabilities of each seed whose mean is the forecast, shape (n,).
    """
    losses, squares = log_losses(labels, p), (p - labels) ** 2
    ranked, block = Ranked.of(labels, p), block_length(losses, horizon)

    def statistics(days: Array) -> dict[str, Array]:
        brier = mean(days, squares)
        sorted_days = np.take(days, ranked.order, axis=1)
        return {
            **at_threshold(labels, p, threshold, days),
            "log_loss": mean(days, losses),
            "brier": brier,
            "brier_skill": 1 - ratio(brier, mean(days, (prior - labels) ** 2)),
            **ranking(ranked, sorted_days),
            **calibration_scores(ranked, sorted_days),
        }

    signals, positives = int((p >= threshold).sum()), int(labels.sum())
    row = estimates(statistics, len(labels), block)
    span = float(p.max() - p.min())
    return Scores(
        n=len(labels),
        positives=positives,
        block=block,
        signals=signals,
        **row,
        p_min=float(p.min()),
        p_max=float(p.max()),
        p_range=span,
        collapsed=span < COLLAPSED_RANGE,
        undefined=_reasons(row, positives, len(labels), threshold, span),
        seeds={name: score_seed(labels, alone) for name, alone in seeds.items()},
    )


def _reasons(
    row: dict[str, Estimate], positives: int, n: int, threshold: float, span: float
) -> dict[str, str]:
    """Return the reason of each estimate, or interval, that is undefined."""
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
    for name, estimate in row.items():
        if math.isnan(estimate.value):
            reasons[name] = why[name]
        elif math.isnan(estimate.low):
            reasons[f"interval of {name}"] = f"more than 5 % of the resamples have no {name}"
    return reasons
