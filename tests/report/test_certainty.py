from dataclasses import replace

import pytest
from fake_verdict import YEARS, corrected, slope, verdict

from patchscale.report.certainty import (
    Scope,
    certainty,
    fixed_certainty,
    seen_years,
    settings_saw,
    years,
)

EVEN = (0.01, 0.5)
FOUND = verdict({"20K": EVEN, "2M": EVEN}, slope())
SAW = {str(year): year < 2018 for year in YEARS}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], ""),
        ([2018], "2018"),
        ([2007, 2008, 2009], "2007 to 2009"),
        ([2007, 2009, 2010], "2007, 2009 to 2010"),
    ],
)
def test_years_are_said_in_ranges(given, said):
    assert years(given) == said


@pytest.mark.parametrize(
    ("first_unseen", "said"),
    [
        (2018, "Settings were chosen on days of 2007 to 2017, but not of 2018."),
        (2019, "Settings were chosen on days of all of these test years."),
        (2007, "No settings were chosen on days of these test years."),
    ],
)
def test_the_years_that_the_settings_saw_are_named(first_unseen, said):
    saw = {"20K": {str(year): year < first_unseen for year in YEARS}, "2M": {}}
    assert settings_saw(FOUND, saw) == said


def test_a_year_counts_as_seen_if_the_settings_of_any_size_saw_it():
    saw = {"20K": dict.fromkeys(SAW, False), "2M": SAW}
    assert seen_years(saw) == list(YEARS[:-1])


def test_the_power_is_said_with_the_spread_of_years_and_seeds():
    text = " ".join(certainty(FOUND, {"20K": SAW}, "200K", []))
    assert "A slope of 0.0040 either way would have been seen in 80 % of studies" in text
    assert "years differ by a standard deviation of 0.0020 and the draw of the seeds adds" in text
    assert "but not of 2018. Losses of seen years may be lower" in text
    few = verdict({"20K": EVEN, "2M": EVEN}, slope(years=YEARS[-5:]))
    assert "Fewer than six years cannot reach p < 0.05" in " ".join(certainty(few, {}, "200K", []))


def test_the_steps_between_sizes_are_said_in_their_order_with_how_many_are_measurable():
    steps = {"200K": corrected(0.001), "20M": corrected(0.003), "2M": corrected(-0.002, 0.049)}
    found = verdict({"20K": EVEN}, slope())
    (text,) = [
        part
        for part in certainty(replace(found, steps=steps), {}, "200K", [])
        if part.startswith("**Where.**")
    ]
    assert (
        "+0.0010 from 20K to 200K, -0.0020 from 200K to 2M, +0.0030 from 2M to 20M; "
        "1 of these 3 steps is measurable." in text
    )
    assert "after the test years were known" in text
    two = verdict({"20K": EVEN}, slope(sizes=("20K", "2M")))  # the step is the slope
    assert "**Where.**" not in " ".join(certainty(two, {}, "200K", []))


def test_the_slope_of_ensembles_is_said_where_a_size_has_several_seeds():
    text = " ".join(certainty(FOUND, {}, "200K", []))
    assert "ensembles of each size's seeds it is -0.0020 [-0.0070, +0.0030], p 0.030" in text
    assert "rose in 6 of 12 years. This was looked at after" in text
    once = verdict({"20K": EVEN, "2M": EVEN}, slope(), seeds=1)
    assert "**Ensembles.**" not in " ".join(certainty(once, {}, "200K", []))


@pytest.mark.parametrize(
    ("takers", "said"),
    [
        ([], ""),
        (["2M"], "2M takes over the settings of 200K: a difference"),
        (["20K", "2M"], "20K, 2M take over the settings of 200K: a difference"),
    ],
)
def test_sizes_whose_settings_come_from_another_one_are_named(takers, said):
    text = " ".join(certainty(FOUND, {}, "200K", takers))
    assert said in text if said else "over the settings" not in text


def test_missing_years_single_seeds_and_absent_sizes_are_named():
    found = verdict(
        {"20K": EVEN, "20M": EVEN},
        missing={"20M": {"h1": [2007, 2008]}},
        not_walked=["2B"],
        seeds=1,
    )
    text = " ".join(certainty(found, {}, "200K", []))
    assert "20M lacks 2007 to 2008 at h1: it is not in the slope." in text
    assert "one seed is its own ensemble: 20K, 20M." in text
    assert "Without any test year: 2B." in text
    assert "missing" not in " ".join(certainty(FOUND, {}, "200K", []))


def test_a_size_of_one_horizon_is_set_against_the_next_smaller_one():
    found = verdict({"20K": EVEN, "200M": EVEN}, slope(), missing={"200M": {"h1": [*YEARS]}})
    text = " ".join(certainty(found, {}, "200K", []))
    assert (
        "200M lacks 2007 to 2018 at h1: it is not in the slope. 200M-h5 less 20K-h5 is "
        "+0.0030 [-0.0020, +0.0080], p 0.200 (12 years)."
    ) in text
    assert "ensemble: 200M" not in text


def test_the_choice_of_the_bar_and_rivals_below_it_are_said():
    (text,) = [part for part in certainty(FOUND, {}, "200K", []) if part.startswith("**Bar.**")]
    assert "The volatility logistic had the lowest log-loss of the simple rivals in 2006" in text
    assert "themselves gradient boosting had a lower log-loss." in text
    led = replace(FOUND, rivals={})
    assert "themselves it led too." in certainty(led, {}, "200K", [])[-1]


SCOPE = Scope(
    as_of="2018-12-31",
    days="246 to 250",
    positives="54 to 135",
    budgets=["2M", "20M"],
    once=["200M"],
    searched={"2M", "20M"},
    slopes=2,
    cells=8,
    strategies=28,
    lucky_sharpe=2.04,
)
BEST = {"h1": "boosting", "h2": "20M-h2", "h3": "boosting"}


def test_the_fixed_year_names_days_corrections_and_luck():
    text = fixed_certainty(SCOPE, BEST)
    for said in (
        "246 to 250 days up to 2018-12-31, 54 to 135 of them positive",
        "Holm's correction for 2 slopes and 8 cells",
        "the Sharpe ratio of 2.0 that luck alone gives the best of 28 strategies",
        "Trained with one seed: 200M.",
        "is that of gradient boosting (h1, h3) and 20M-h2 (h2).",
    ):
        assert said in text
    assert "search" not in text
    assert "one seed" not in fixed_certainty(replace(SCOPE, once=[]), BEST)


@pytest.mark.parametrize(
    ("searched", "said"), [({"2M"}, True), ((), False), ({"2M", "20M"}, False)]
)
def test_sizes_with_and_without_a_search_may_differ_in_tuning(searched, said):
    text = fixed_certainty(replace(SCOPE, searched=searched), BEST)
    tuned = "A search chose the settings of 2M and not those of 20M: a difference between sizes"
    assert (tuned in text) == said
