import numpy as np
import pytest
import torch

from patchscale.model.windows import NORMALISATIONS, Windows

CONTEXT = 12
TRAIN_ROWS = np.arange(20, 70)
KINDS = ["level", "stationary", "level"]


@pytest.fixture
def values() -> np.ndarray:
    random = np.random.default_rng(0)
    trend = 1e12 + 1e9 * np.cumsum(random.standard_normal(120))  # a level as large as a volume's
    return np.column_stack(
        [trend, 3 + 2 * random.standard_normal(120), 50 + np.cumsum(random.standard_normal(120))]
    )


def cut(values: np.ndarray, rows, normalisation: str = "kind", kinds=KINDS) -> np.ndarray:
    windows = Windows(values, kinds, TRAIN_ROWS, CONTEXT, normalisation)
    return windows(torch.as_tensor(rows)).numpy()


def loop(values: np.ndarray, row: int, inside: list[bool]) -> np.ndarray:
    window = values[row - CONTEXT + 1 : row + 1]
    out = np.empty_like(window)
    for column, own in enumerate(inside):
        reference = window[:, column] if own else values[TRAIN_ROWS, column]
        mean = sum(reference) / len(reference)
        spread = (sum((reference - mean) ** 2) / len(reference)) ** 0.5
        out[:, column] = (window[:, column] - mean) / spread
    return out


def test_level_features_have_mean_0_and_deviation_1_inside_each_window(values):
    rows = np.arange(CONTEXT - 1, len(values))
    level = cut(values, rows)[:, :, [0, 2]]
    assert level.shape == (len(rows), CONTEXT, 2)
    assert np.allclose(level.mean(axis=1), 0, atol=1e-4)
    assert np.allclose(level.std(axis=1), 1, atol=1e-4)


def test_stationary_features_are_scored_against_the_training_rows(values):
    last_day = cut(values, TRAIN_ROWS)[:, -1, 1]
    assert last_day.mean() == pytest.approx(0, abs=1e-5)
    assert last_day.std() == pytest.approx(1, abs=1e-5)
    assert abs(cut(values, TRAIN_ROWS)[:, :, 1].mean(axis=1)).max() > 0.1


@pytest.mark.parametrize(
    ("normalisation", "inside"),
    [
        ("kind", [True, False, True]),
        ("window", [True, True, True]),
        ("zscore", [False, False, False]),
    ],
)
def test_windows_equal_a_plain_loop(values, normalisation, inside):
    rows = [CONTEXT - 1, 35, 69, 70, len(values) - 1]
    found = cut(values, rows, normalisation)
    assert found.dtype == np.float32
    for window, row in zip(found, rows, strict=True):
        assert np.allclose(window, loop(values, row, inside), atol=1e-4)


def test_rows_may_come_in_any_order_and_more_than_once(values):
    rows = [40, 20, 40]
    found = cut(values, rows)
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], cut(values, [20])[0])


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1])
def test_a_constant_window_gives_finite_values(values, normalisation, constant):
    values[:] = constant
    assert np.isfinite(cut(values, [CONTEXT - 1, 60], normalisation)).all()


@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1, 1234.56])
def test_a_level_that_stands_still_gives_zeros(values, constant):
    values[30 : 30 + CONTEXT, 0] = constant
    assert np.abs(cut(values, [30 + CONTEXT - 1])[0, :, 0]).max() < 1e-9


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_rows_after_training_never_change_a_training_window(values, normalisation):
    changed = values.copy()
    changed[TRAIN_ROWS[-1] + 1 :] *= -7
    before, after = (cut(each, TRAIN_ROWS, normalisation) for each in (values, changed))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("row", [75, 100])
def test_rows_after_a_date_never_change_its_window(values, normalisation, row):
    changed = values.copy()
    changed[row + 1 :] += 1e13
    before, after = (cut(each, [row], normalisation) for each in (values, changed))
    assert np.array_equal(before, after)


def test_stationary_statistics_do_not_move_with_validation_rows(values):
    changed = values.copy()
    changed[80:100] += 1000
    before, after = (cut(each, [110, 115], "zscore") for each in (values, changed))
    unmoved = slice(-10, None)  # of both windows, after row 100
    assert np.array_equal(before[:, unmoved], after[:, unmoved])


def test_stationary_statistics_move_with_training_rows(values):
    changed = values.copy()
    changed[TRAIN_ROWS[:5], 1] += 10
    assert not np.allclose(cut(values, [110])[0, :, 1], cut(changed, [110])[0, :, 1], atol=0.1)


def test_an_unknown_normalisation_is_refused_with_those_allowed(values):
    with pytest.raises(ValueError, match=r"'batch'; allowed: .*kind.*window.*zscore"):
        cut(values, [50], "batch")
