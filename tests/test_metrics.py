import numpy as np
import pytest
from sklearn import metrics as oracle

from patchscale.metrics import (
    at_threshold,
    auc,
    average_precision,
    block_length,
    bootstrap_interval,
    brier,
    calibration,
    choose_threshold,
    log_losses,
    precision_recall,
    scores,
    stationary_bootstrap,
)


def forecasts(seed: int, n: int = 300, digits: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and informative probabilities; few digits make ties."""
    random = np.random.default_rng(seed)
    p = np.round(random.random(n), digits)
    labels = (random.random(n) < 0.2 + 0.5 * p).astype(float)
    return labels, p


CASES = [(seed, digits) for seed in range(4) for digits in (16, 1)]


@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_scores_equal_those_of_scikit_learn(seed, digits):
    labels, p = forecasts(seed, digits=digits)
    inside = np.clip(p, 0.01, 0.99)  # scikit-learn clips elsewhere
    assert log_losses(labels, inside).mean() == pytest.approx(oracle.log_loss(labels, inside))
    assert brier(labels, p) == pytest.approx(oracle.brier_score_loss(labels, p))
    assert auc(labels, p) == pytest.approx(oracle.roc_auc_score(labels, p))
    assert average_precision(labels, p) == pytest.approx(oracle.average_precision_score(labels, p))


@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_the_precision_recall_curve_equals_scikit_learns(seed, digits):
    labels, p = forecasts(seed, digits=digits)
    precision, recall, thresholds = oracle.precision_recall_curve(labels, p)
    ours = precision_recall(labels, p)
    assert np.allclose(ours[0], precision[-2::-1])
    assert np.allclose(ours[1], recall[-2::-1])
    assert np.array_equal(ours[2], thresholds[::-1])


def test_a_certain_and_wrong_forecast_costs_much_but_not_infinity():
    losses = log_losses(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert np.isfinite(losses).all()
    assert losses[:2] == pytest.approx([27.6, 27.6], abs=0.1)
    assert losses[2] == pytest.approx(0, abs=1e-9)


def test_auc_has_no_value_with_one_class_and_is_half_when_all_tie():
    assert np.isnan(auc(np.ones(5), np.linspace(0, 1, 5)))
    assert np.isnan(auc(np.zeros(5), np.linspace(0, 1, 5)))
    assert np.isnan(average_precision(np.zeros(5), np.linspace(0, 1, 5)))
    assert auc(np.array([0.0, 1.0, 0.0, 1.0]), np.full(4, 0.3)) == 0.5


@pytest.mark.parametrize(("seed", "digits"), CASES)
@pytest.mark.parametrize("min_recall", [0.1, 0.5, 1.0])
def test_the_threshold_is_the_one_brute_force_finds(seed, digits, min_recall):
    labels, p = forecasts(seed, n=80, digits=digits)
    allowed = {}
    for threshold in np.unique(p):
        called = p >= threshold
        if labels[called].sum() / labels.sum() >= min_recall:
            allowed[threshold] = labels[called].mean()
    top = max(allowed.values())
    expected = max(threshold for threshold, value in allowed.items() if value == top)
    assert choose_threshold(labels, p, min_recall) == expected


def test_ties_in_precision_go_to_the_higher_threshold():
    labels = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    p = np.array([0.9, 0.8, 0.5, 0.4, 0.3, 0.2])
    assert choose_threshold(labels, p, 0.1) == 0.9
    assert choose_threshold(labels, p, 0.5) == 0.8
    assert choose_threshold(labels, p, 0.51) == 0.2


def test_precision_and_recall_at_a_threshold_count_it_as_a_signal():
    labels, p = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.9, 0.6, 0.6, 0.1])
    assert at_threshold(labels, p, 0.6) == {"signals": 3, "precision": 2 / 3, "recall": 2 / 3}


def test_what_is_undefined_at_a_threshold_is_none():
    labels, p = np.array([1.0, 0.0]), np.array([0.2, 0.3])
    assert at_threshold(labels, p, 0.5) == {"signals": 0, "precision": None, "recall": 0.0}
    none = at_threshold(np.zeros(2), p, 0.1)
    assert none == {"signals": 2, "precision": 0.0, "recall": None}


@pytest.mark.parametrize(("low", "high", "collapsed"), [(0.45, 0.6, True), (0.3, 0.6, False)])
def test_forecasts_within_a_fifth_are_flagged_as_collapsed(low, high, collapsed):
    labels = (np.arange(60) % 3 == 0).astype(float)
    row = scores(labels, np.linspace(low, high, 60), 0.3, 1)
    assert row["collapsed"] is collapsed
    assert (row["p_min"], row["p_max"]) == (low, high)
    assert row["p_range"] == pytest.approx(high - low)


def test_the_scores_of_a_forecast_belong_together():
    labels, p = forecasts(0, n=200)
    prior = 0.4
    row = scores(labels, p, prior, 5)
    assert (row["n"], row["positives"]) == (200, int(labels.sum()))
    assert row["log_loss_low"] < row["log_loss"] < row["log_loss_high"]
    assert row["auc_low"] < row["auc"] < row["auc_high"]
    reference = np.mean((prior - labels) ** 2)
    assert row["brier_skill"] == pytest.approx(1 - np.mean((p - labels) ** 2) / reference)
    constant = scores(labels, np.full(200, prior), prior, 5)
    assert constant["brier_skill"] == 0
    assert constant["auc"] == 0.5


def test_bootstrap_rows_are_days_in_blocks_of_the_mean_length():
    n, block = 500, 20
    rows = stationary_bootstrap(n, block, 300)
    assert rows.shape == (300, n)
    assert rows.min() == 0
    assert rows.max() == n - 1
    begins = np.diff(rows, axis=1) % n != 1
    assert 1 / begins.mean() == pytest.approx(block, rel=0.05)
    shares = np.bincount(rows.ravel(), minlength=n) / rows.size
    assert shares == pytest.approx(np.full(n, 1 / n), rel=0.6)  # no day is favoured


def test_a_bootstrap_is_a_function_of_its_arguments():
    assert np.array_equal(stationary_bootstrap(90, 20, 5), stationary_bootstrap(90, 20, 5))
    assert not np.array_equal(
        stationary_bootstrap(90, 20, 5, seed=0), stationary_bootstrap(90, 20, 5, seed=1)
    )


def test_blocks_are_never_shorter_than_20_days_nor_than_four_horizons():
    assert [block_length(horizon) for horizon in (1, 5, 6, 20)] == [20, 20, 24, 80]


def autoregressive(n: int) -> np.ndarray:
    noise = np.random.default_rng(5).standard_normal(n)
    series = np.zeros(n)
    for day in range(1, n):
        series[day] = 0.8 * series[day - 1] + noise[day]
    return series


def test_the_interval_of_a_mean_is_archs_on_dependent_days():
    from arch.bootstrap import StationaryBootstrap

    series = autoregressive(800)
    (low,), (high,) = bootstrap_interval(
        lambda rows: np.array([series[rows].mean()]), len(series), horizon=1
    )
    theirs = StationaryBootstrap(20, series, seed=1).conf_int(
        np.mean, reps=1000, method="percentile"
    )
    width = high - low
    assert [low, high] == pytest.approx(theirs.ravel().tolist(), abs=0.1 * width)
    independent = 2 * 1.96 * series.std() / np.sqrt(len(series))
    assert width > 1.5 * independent


def test_intervals_are_deterministic_and_widen_with_their_level():
    series = autoregressive(200)

    def interval(level: float) -> tuple[list[float], list[float]]:
        return bootstrap_interval(
            lambda rows: np.array([series[rows].mean(), 7.0]), len(series), 1, level
        )

    assert interval(0.95) == interval(0.95)
    (low, _), (high, _) = interval(0.5)
    (lower, seven), (higher, also_seven) = interval(0.95)
    assert lower < low < high < higher
    assert seven == also_seven == 7.0


def test_calibration_bins_hold_equally_many_days_in_order_of_the_forecast():
    labels, p = forecasts(1, n=105)
    table = calibration(labels, p)
    assert table["n"].tolist() == [11] * 5 + [10] * 5
    assert table["predicted"].is_monotonic_increasing
    assert (table["predicted"] * table["n"]).sum() == pytest.approx(p.sum())
    assert (table["observed"] * table["n"]).sum() == pytest.approx(labels.sum())
