import warnings

import numpy as np
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from patchscale.verdict.effects import random_effects, seed_variances


def sample(years: int, seeds: int, sd_years: float, sd_seeds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    effect = sd_years * random.standard_normal((years, 1))
    return 0.3 + effect + sd_seeds * random.standard_normal((years, seeds))


@pytest.mark.parametrize(("years", "seeds"), [(12, 3), (8, 2), (20, 5)])
def test_balanced_data_give_the_components_of_restricted_maximum_likelihood(years, seeds):
    values = sample(years, seeds, 1.0, 0.7)
    groups = np.repeat(np.arange(years), seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = MixedLM(values.ravel(), np.ones(values.size), groups).fit(reml=True)
    (variance,) = seed_variances([values])
    found = random_effects(values.mean(axis=1), variance / seeds)
    assert variance == pytest.approx(fit.scale, rel=1e-4)
    assert found.between_years**2 == pytest.approx(fit.cov_re.item(), rel=1e-3)
    assert found.standard_error == pytest.approx(fit.bse_fe.item(), rel=1e-3)
    assert found.between_seeds == pytest.approx((fit.scale / seeds) ** 0.5, rel=1e-4)


def test_a_size_with_one_seed_gets_the_pooled_variance_and_the_others_their_own():
    sizes = [sample(12, 3, 1, 0.2), sample(12, 5, 1, 0.9, seed=1), sample(10, 1, 1, 0.5, seed=2)]
    small, large, alone = seed_variances(sizes)
    assert small == pytest.approx(sizes[0].var(axis=1, ddof=1).mean())
    assert large == pytest.approx(sizes[1].var(axis=1, ddof=1).mean())
    assert alone == pytest.approx((24 * small + 48 * large) / 72)


def test_single_seeds_alone_leave_the_noise_unknown_and_the_error_that_of_the_years():
    values = sample(12, 1, 1, 0.5)
    assert seed_variances([values]) == [None]
    found = random_effects(values[:, 0], None)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 12**0.5)
    assert found.between_years is found.between_seeds is None


def test_years_that_differ_by_less_than_their_seeds_get_no_variance_of_their_own():
    found = random_effects(np.array([1.0, 1.01, 0.99]), 0.5)
    assert found.between_years == 0
    assert found.standard_error == pytest.approx((0.5 / 3) ** 0.5)


def test_one_year_has_no_standard_error():
    assert random_effects(np.array([1.0]), 0.04).standard_error is None


def test_the_standard_error_is_the_spread_of_the_mean_over_studies():
    studies = [sample(12, 2, 0.5, 1.0, seed=seed) for seed in range(800)]
    errors = [
        random_effects(study.mean(axis=1), seed_variances([study])[0] / 2).standard_error
        for study in studies
    ]
    spread = np.std([study.mean() for study in studies])
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(spread, rel=0.1)
