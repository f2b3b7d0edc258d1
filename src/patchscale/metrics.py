"""Scores of probability forecasts, with intervals; every stage that judges uses these."""

from collections.abc import Callable

import numpy as np
import pandas as pd

COLLAPSED_RANGE = 0.2
REPETITIONS = 1000
CALIBRATION_BINS = 10


def log_losses(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the log-loss of each forecast; `(n,), (n,) -> (n,)`."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    losses: np.ndarray = -np.log(np.where(labels == 1, p, 1 - p))
    return losses


def brier(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the mean squared error of the probabilities."""
    return float(np.mean((p - labels) ** 2))


def auc(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the area under the ROC curve (ties count half); NaN with one class only."""
    positives = labels == 1
    n_positive, n_negative = int(positives.sum()), int((~positives).sum())
    if not n_positive or not n_negative:
        return float("nan")
    _, where, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]  # average rank of ties, from 1
    wins = ranks[positives].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def average_precision(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the step-wise area under the precision-recall curve; NaN without positives."""
    if not labels.sum():
        return float("nan")
    precision, recall, _ = precision_recall(labels, p)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(
    labels: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and threshold for every distinct p, highest threshold first."""
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.append(np.diff(p[order]) != 0, True)  # the last of each run of ties
    called = np.arange(1, len(p) + 1)[last]
    return hits[last] / called, hits[last] / labels.sum(), p[order][last]


def choose_threshold(labels: np.ndarray, p: np.ndarray, min_recall: float) -> float:
    """Return the threshold of highest precision with recall >= `min_recall`.

    Ties go to the higher threshold. Meant for validation labels; the result is then frozen.
    """
    precision, recall, thresholds = precision_recall(labels, p)
    allowed = np.where(recall >= min_recall, precision, -1.0)
    return float(thresholds[int(np.argmax(allowed))])


def at_threshold(labels: np.ndarray, p: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Return signals, precision and recall of `p >= threshold`; None where undefined."""
    called = p >= threshold
    hits = int((called & (labels == 1)).sum())
    positives = int(labels.sum())
    return {
        "signals": int(called.sum()),
        "precision": hits / int(called.sum()) if called.any() else None,
        "recall": hits / positives if positives else None,
    }


def scores(labels: np.ndarray, p: np.ndarray, prior: float, horizon: int) -> dict[str, object]:
    """Return the scores of a forecast, with n and 95 % intervals.

    Parameters
    ----------
    labels, p
        0/1 outcomes and probabilities of consecutive days, shape (n,).
    prior
        Share of positives in training; the reference of the Brier skill.
    horizon
        Sessions looked ahead; sets the bootstrap's mean block.
    """

    def log_loss_and_auc(rows: np.ndarray) -> np.ndarray:
        y, q = labels[rows], p[rows]
        return np.array([log_losses(y, q).mean(), auc(y, q)])

    (loss_low, auc_low), (loss_high, auc_high) = bootstrap_interval(
        log_loss_and_auc, len(labels), horizon
    )
    reference = brier(labels, np.full(len(labels), prior))
    span = float(p.max() - p.min())
    return {
        "n": len(labels),
        "positives": int(labels.sum()),
        "log_loss": float(log_losses(labels, p).mean()),
        "log_loss_low": loss_low,
        "log_loss_high": loss_high,
        "brier": brier(labels, p),
        "brier_skill": 1 - brier(labels, p) / reference,
        "auc": auc(labels, p),
        "auc_low": auc_low,
        "auc_high": auc_high,
        "average_precision": average_precision(labels, p),
        "p_min": float(p.min()),
        "p_max": float(p.max()),
        "p_range": span,
        "collapsed": span < COLLAPSED_RANGE,
    }


def block_length(horizon: int) -> int:
    """Return the bootstrap's mean block: labels overlap over H days, volatility for weeks."""
    return max(20, 4 * horizon)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, horizon: int, level: float = 0.95
) -> tuple[list[float], list[float]]:
    """Return lower and upper ends of a stationary-bootstrap percentile interval.

    Parameters
    ----------
    statistic
        Maps resampled row numbers, shape (n,), to k figures.
    n
        Number of consecutive days.
    horizon
        Sessions looked ahead; sets the mean block.
    level
        Coverage.
    """
    rows = stationary_bootstrap(n, block_length(horizon), REPETITIONS)
    draws = np.array([statistic(sample) for sample in rows])
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail], axis=0)
    return low.tolist(), high.tolist()


def stationary_bootstrap(n: int, block: float, repetitions: int, seed: int = 0) -> np.ndarray:
    """Return row numbers of bootstrap samples in blocks of geometric length, wrapping around.

    Parameters
    ----------
    n
        Number of consecutive days.
    block
        Mean block length.
    repetitions, seed
        Number of samples and seed of the draw.

    Returns
    -------
    Integers in [0, n), shape (repetitions, n).

    References
    ----------
    Politis and Romano (1994), "The Stationary Bootstrap", JASA 89. (arch has it too; its import
    takes seconds in each of 20 stages, so it is the oracle of the tests instead.)
    """
    random = np.random.default_rng(seed)
    restart = random.random((repetitions, n)) < 1 / block
    restart[:, 0] = True
    start = random.integers(n, size=(repetitions, n))
    day = np.arange(n)
    begun = np.maximum.accumulate(np.where(restart, day, 0), axis=1)  # when the block began
    rows: np.ndarray = (np.take_along_axis(start, begun, axis=1) + day - begun) % n
    return rows


def calibration(labels: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    """Return `predicted, observed, n` for ten bins of equally many days."""
    order = np.argsort(p, kind="stable")
    bins = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    return pd.DataFrame(
        {
            "predicted": [p[part].mean() for part in bins],
            "observed": [labels[part].mean() for part in bins],
            "n": [len(part) for part in bins],
        }
    )
