import numpy as np
import pytest
from sklearn import metrics as oracle

from patchscale.backtest.bootstrap import UNDEFINED, counts
from patchscale.backtest.ranked import Ranked
from patchscale.backtest.scores import (
    Scores,
    at_threshold,
    calibration,
    calibration_scores,
    choose_threshold,
    log_losses,
    precision_recall,
    ranking,
    scores,
)
from patchscale.study.params import Threshold


def forecasts(seed: int, n: int = 300, digits: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and informative probabilities; few digits make ties."""
    random = np.random.default_rng(seed)
    p = np.round(random.random(n), digits)
    labels = (random.random(n) < 0.2 + 0.5 * p).astype(float)
    return labels, p


def score(
    labels: np.ndarray, p: np.ndarray, prior: float, threshold: float, horizon: int
) -> Scores:
    """Return the scores of a forecast without seeds."""
    return scores(labels, p, prior, threshold, horizon, {})


CASES = [(seed, digits) for seed in range(4) for digits in (16, 1)]
ONCE = np.ones((1, 300))
PRECISION = Threshold(rule="precision", min_recall=0.1)


def several(n: int) -> np.ndarray:
    """Return draws of days, and every day once."""
    return np.concatenate([np.ones((1, n)), counts(n, 20)[0][:5]]).astype(float)


@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_rankings_equal_scikit_learns_on_the_days_and_on_draws_of_them(seed, digits):
    labels, p = forecasts(seed, digits=digits)
    ranked, days = Ranked.of(labels, p), several(300)
    found = ranking(ranked, days[:, ranked.order])
    for draw, weights in enumerate(days):
        for name, theirs in (
            ("auc", oracle.roc_auc_score),
            ("average_precision", oracle.average_precision_score),
        ):
            assert found[name][draw] == pytest.approx(theirs(labels, p, sample_weight=weights))


@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_losses_equal_scikit_learns(seed, digits):
    labels, p = forecasts(seed, digits=digits)
    inside = np.clip(p, 0.01, 0.99)  # scikit-learn clips elsewhere
    row = score(labels, inside, 0.4, 0.5, 1)
    assert log_losses(labels, inside).mean() == pytest.approx(oracle.log_loss(labels, inside))
    assert row.log_loss.value == pytest.approx(oracle.log_loss(labels, inside))
    assert row.brier.value == pytest.approx(oracle.brier_score_loss(labels, inside))
    called = inside >= 0.5
    assert row.precision.value == pytest.approx(oracle.precision_score(labels, called))
    assert row.recall.value == pytest.approx(oracle.recall_score(labels, called))


@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_the_precision_recall_curve_equals_scikit_learns(seed, digits):
    labels, p = forecasts(seed, digits=digits)
    precision, recall, thresholds = oracle.precision_recall_curve(labels, p)
    ours = precision_recall(labels, p)
    assert np.allclose(ours["precision"], precision[-2::-1])
    assert np.allclose(ours["recall"], recall[-2::-1])
    assert ours["threshold"].tolist() == thresholds[::-1].tolist()
    false, _, descending = oracle.roc_curve(labels, p, drop_intermediate=False)
    assert np.allclose(ours["false_alarms"], false[1:])
    assert ours["threshold"].tolist() == descending[1:].tolist()


def murphy(labels: np.ndarray, p: np.ndarray, parts: list[np.ndarray]) -> dict[str, float]:
    """Return the scores over given bins, day by day."""
    n, base = len(labels), labels.mean()
    sums = dict.fromkeys(("ece", "reliability", "resolution"), 0.0)
    for part in parts:
        observed, predicted = labels[part].mean(), p[part].mean()
        for _ in part:
            sums["ece"] += abs(observed - predicted) / n
            sums["reliability"] += (observed - predicted) ** 2 / n
            sums["resolution"] += (observed - base) ** 2 / n
    return sums | {"uncertainty": base * (1 - base)}


@pytest.mark.parametrize("seed", range(4))
def test_calibration_scores_equal_their_definition(seed):
    labels, p = forecasts(seed)
    ranked = Ranked.of(labels, p)
    found = calibration_scores(ranked, ONCE)
    expected = murphy(labels, p, np.array_split(np.argsort(p), 10))
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_murphys_parts_sum_to_the_brier_score_of_every_draw(seed, digits):
    labels, p = forecasts(seed, digits=digits)
    ranked, days = Ranked.of(labels, p), several(300)
    part = calibration_scores(ranked, days[:, ranked.order])
    whole = part["reliability"] - part["resolution"] + part["uncertainty"] + part["within_bins"]
    expected = [oracle.brier_score_loss(labels, p, sample_weight=weights) for weights in days]
    assert whole == pytest.approx(expected)
    if digits == 1:  # forecasts of a bin are not all equal, so the term is small but not zero
        assert abs(part["within_bins"]).max() < 0.01


def test_forecasts_that_are_equal_within_their_bin_have_no_within_bins_term():
    labels, _ = forecasts(0)
    p = np.repeat(np.linspace(0.05, 0.95, 10), 30)
    assert calibration_scores(Ranked.of(labels, p), ONCE)["within_bins"] == pytest.approx(0)


def test_a_constant_forecast_has_one_bin_whatever_the_order_of_days():
    labels = np.repeat([1.0, 0.0], [60, 140])
    found = calibration_scores(Ranked.of(labels, np.full(200, 0.3)), np.ones((1, 200)))
    assert found["ece"] == pytest.approx(0)
    assert found["resolution"] == pytest.approx(0)
    assert len(calibration(labels, np.full(200, 0.3), 1)) == 1


def test_equal_forecasts_share_a_bin():
    labels, p = forecasts(3, digits=1)
    ranked = Ranked.of(labels, p)
    for part, following in zip(ranked.bins[:-1], ranked.bins[1:], strict=True):
        assert ranked.p[following - 1] < ranked.p[following]
        assert part < following


def test_a_certain_and_wrong_forecast_has_a_finite_loss():
    losses = log_losses(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert np.isfinite(losses).all()
    assert losses[:2] == pytest.approx([27.6, 27.6], abs=0.1)
    assert losses[2] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("min_recall", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("rule", ["precision", "youden"])
@pytest.mark.parametrize(("seed", "digits"), CASES)
def test_the_threshold_equals_that_of_brute_force(seed, digits, rule, min_recall):
    labels, p = forecasts(seed, n=80, digits=digits)
    allowed = {}
    for threshold in np.unique(p):
        called = p >= threshold
        recall = labels[called].sum() / labels.sum()
        if recall >= min_recall:
            false = (1 - labels)[called].sum() / (1 - labels).sum()
            allowed[threshold] = labels[called].mean() if rule == "precision" else recall - false
    top = max(allowed.values())
    expected = max(threshold for threshold, value in allowed.items() if value > top - 1e-12)
    found = choose_threshold(labels, p, Threshold(rule=rule, min_recall=min_recall))
    assert found == expected


@pytest.mark.parametrize(("min_recall", "expected"), [(0.1, 0.9), (0.5, 0.8), (0.51, 0.2)])
def test_ties_in_precision_go_to_the_higher_threshold(min_recall, expected):
    labels = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    p = np.array([0.9, 0.8, 0.5, 0.4, 0.3, 0.2])
    rule = Threshold(rule="precision", min_recall=min_recall)
    assert choose_threshold(labels, p, rule) == expected


def test_a_threshold_needs_both_classes():
    for labels in (np.zeros(4), np.ones(4)):
        with pytest.raises(ValueError, match="of 4 days are positive, one class only"):
            choose_threshold(labels, np.linspace(0, 1, 4), PRECISION)


def test_precision_and_recall_at_a_threshold_count_it_as_a_signal():
    labels, p = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.9, 0.6, 0.6, 0.1])
    at = at_threshold(labels, p, 0.6, np.ones((1, 4)))
    assert at["precision"].tolist() == at["recall"].tolist() == [2 / 3]


@pytest.mark.parametrize(("low", "high", "collapsed"), [(0.45, 0.6, True), (0.3, 0.6, False)])
def test_forecasts_within_a_range_below_02_are_flagged_as_collapsed(low, high, collapsed):
    labels = (np.arange(60) % 3 == 0).astype(float)
    row = score(labels, np.linspace(low, high, 60), 0.3, 0.5, 1)
    assert row.collapsed is collapsed
    assert (row.p_min, row.p_max) == (low, high)
    assert row.p_range == pytest.approx(high - low)


def test_every_score_has_n_and_an_interval_around_it():
    labels, p = forecasts(0, n=200)
    row = score(labels, p, 0.4, 0.5, 5)
    assert (row.n, row.positives) == (200, int(labels.sum()))
    assert row.signals == (p >= 0.5).sum()
    assert row.undefined == {}
    for name in ("precision", "recall", "log_loss", "brier", "brier_skill", "auc"):
        estimate = getattr(row, name)
        assert estimate.low < estimate.value < estimate.high
    reference = np.mean((0.4 - labels) ** 2)
    assert row.brier_skill.value == pytest.approx(1 - np.mean((p - labels) ** 2) / reference)
    assert score(labels, np.full(200, 0.4), 0.4, 0.5, 5).brier_skill.value == 0


def test_ranking_scores_of_a_constant_forecast_are_undefined_with_a_reason():
    labels, _ = forecasts(0, n=200)
    row = score(labels, np.full(200, 0.4), 0.4, 0.3, 1)
    for name in ("auc", "average_precision"):
        assert getattr(row, name) is UNDEFINED
        assert row.undefined[name] == "all 200 probabilities are equal"
    assert row.collapsed
    assert row.precision.value == pytest.approx(labels.mean())


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_the_reason_of_undefined_scores(label):
    row = score(np.full(100, label), np.linspace(0, 1, 100), 0.4, 0.5, 1)
    why = f"{int(100 * label)} of 100 days are positive, one class only"
    assert row.auc is UNDEFINED
    assert row.undefined["auc"] == why
    if not label:
        assert row.average_precision is row.recall is UNDEFINED
        assert row.undefined["recall"] == "none of 100 days is positive"
        assert row.undefined["average_precision"] == why
    assert row.log_loss.value > 0
    assert row.brier.value > 0


def test_precision_is_undefined_without_signals():
    labels, p = forecasts(0, n=200)
    row = score(labels, p, 0.4, 1.5, 1)
    assert (row.signals, row.recall.value) == (0, 0.0)
    assert row.precision is UNDEFINED
    assert row.undefined == {"precision": "no probability reaches the threshold 1.5000"}


def test_signals_in_few_draws_have_an_undefined_interval_with_a_reason():
    labels, p = forecasts(0, n=200)
    p[:190], p[190:] = 0.1, 0.9
    row = score(labels, p, 0.4, 0.5, 20)
    assert row.precision.value == pytest.approx(labels[190:].mean())
    assert np.isnan([row.precision.low, row.precision.high]).all()
    assert row.undefined == {
        "interval of precision": "more than 5 % of the resamples have no precision"
    }


def test_brier_skill_is_undefined_for_a_prior_without_error():
    row = score(np.zeros(50), np.linspace(0.1, 0.3, 50), 0.0, 0.2, 1)
    assert row.brier_skill is UNDEFINED
    assert row.undefined["brier_skill"] == "the prior makes no error here"


def test_calibration_bins_hold_equally_many_days_in_order_of_the_forecast():
    labels, p = forecasts(1, n=105)
    table = calibration(labels, p, 1)
    assert sorted(table["n"]) == [10] * 5 + [11] * 5
    assert table["predicted"].is_monotonic_increasing
    assert (table["predicted"] * table["n"]).sum() == pytest.approx(p.sum())
    assert (table["observed"] * table["n"]).sum() == pytest.approx(labels.sum())
    assert (table["observed_low"] <= table["observed"] + 1e-6).all()
    assert (table["observed_high"] >= table["observed"] - 1e-6).all()
