from dataclasses import replace

import pandas as pd
import pytest
from fake_verdict import N_PARAMS, YEARS, corrected, flips, slope, verdict

from patchscale.report.walk_tables import (
    calibration_in_years_table,
    difference,
    differences_table,
    rivals_table,
    slopes_table,
    steps_table,
    years_table,
)

LOST, EVEN = (0.0104, 0.001), (-0.0004, 0.5)
SIZES = {"20K": LOST, "2M": EVEN}
FOUND = verdict(SIZES, slope(), not_walked=["2B"])


def rows_of(text: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert len({len(line) for line in lines}) == 1
    return lines[2:]


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (corrected(0.0104, 0.049), "**+10 [+5, +15]**"),
        (corrected(0.0104, 0.05), "+10 [+5, +15]"),
        (corrected(-0.0004, 0.5, years=3), "+0"),
        (flips(0.06, 0.001), "+60 [+55, +65]"),
        (None, ""),
    ],
)
def test_a_difference_is_in_thousandths_and_bold_if_it_survives_the_correction(test, text):
    assert difference(test) == text


def test_every_budget_then_every_baseline_is_set_against_the_bar():
    rows = rows_of(differences_table(FOUND, ["20K", "2M", "2B"], [], ["h1", "h5"]))
    assert [row[0] for row in rows] == [
        "20K, single seeds",
        "20K, ensemble",
        "2M, single seeds",
        "2M, ensemble",
        "2B",
        "the training prior",
        "persistence",
        "the HAR logistic",
        "gradient boosting",
    ]
    assert rows[0] == ["20K, single seeds", "12", *["**+10 [+5, +15]**"] * 3]
    assert rows[4] == ["2B", "not run", "", "", ""]
    fixed = rows_of(differences_table(FOUND, ["2B"], ["2B"], ["h1", "h5"]))[0]
    assert fixed == ["2B", "none", "", "", ""]
    assert rows[-1] == ["gradient boosting", "12", "-10 [-15, -5]", *["-10 [-20, +0]"] * 2]


def test_every_size_is_set_against_every_other_baseline_smallest_first():
    against = {"2M": corrected(0.01, 0.05), "20K": corrected(0.02, 0.049)}
    boosting = replace(FOUND.rivals["boosting"], sizes=against)
    found = replace(
        FOUND,
        sizes=dict(reversed(FOUND.sizes.items())),
        rivals={"boosting": boosting, "prior": FOUND.rivals["prior"]},
    )
    text = rivals_table(found)
    assert text.splitlines()[0] == "| size | the training prior | gradient boosting |"
    assert rows_of(text) == [
        ["20K", "+20 [+15, +25]", "**+20 [+15, +25]**"],
        ["2M", "+20 [+15, +25]", "+10 [+5, +15]"],
    ]


def test_one_seed_has_one_row():
    rows = rows_of(differences_table(verdict(SIZES, seeds=1), ["20K", "2M"], [], ["h1", "h5"]))
    assert [row[0] for row in rows[:2]] == ["20K, one seed", "2M, one seed"]


def test_a_size_without_all_years_shows_how_many_it_has():
    found = verdict(SIZES, missing={"2M": {"h1": [2007, 2008], "h5": [2007, 2008]}})
    rows = rows_of(differences_table(found, ["20K", "2M"], [], ["h1", "h5"]))
    assert [row[1] for row in rows[:4]] == ["12", "12", "10", "10"]


def test_a_size_with_years_of_one_horizon_only_shows_that_one():
    found = replace(FOUND, sizes={})
    row = rows_of(differences_table(found, ["20K"], [], ["h1", "h5"]))[0]
    assert row == ["20K, single seeds", "12", "", *["**+10 [+5, +15]**"] * 2]


def test_the_primary_slope_stands_above_those_of_the_horizons():
    rows = rows_of(slopes_table(FOUND))
    primary = ["all, the primary test", "+0.0010 [-0.0040, +0.0060]", "0.500", "", "6 of 12"]
    assert rows[0] == primary
    assert rows[1] == ["h1", primary[1], "0.500", "0.500", "6 of 12"]
    assert rows_of(slopes_table(verdict(SIZES))) == []


def yearly(*keys: tuple[str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(keys, columns=["budget", "horizon", "year", "single_seeds_minus_bar"])


def test_a_step_stands_between_its_sizes_whatever_the_order_of_the_file():
    steps = {"200K": corrected(0.001), "20M": corrected(0.003), "2M": corrected(0.002)}
    rows = rows_of(steps_table(replace(FOUND, steps=steps)))
    assert [row[:2] for row in rows] == [
        ["20K to 200K", "+0.0010 [-0.0040, +0.0060]"],
        ["200K to 2M", "+0.0020 [-0.0030, +0.0070]"],
        ["2M to 20M", "+0.0030 [-0.0020, +0.0080]"],
    ]
    assert rows_of(steps_table(verdict(SIZES))) == []


def test_a_year_shows_its_slope_and_the_mean_over_horizons_where_a_size_has_all():
    table = yearly(
        *(("20K", h, year, gap) for year in YEARS for h, gap in (("h1", 0.01), ("h5", 0.03))),
        ("2M", "h1", 2007, 0.01),
        ("2M", "h1", 2008, 0.01),
        ("2M", "h5", 2008, -0.03),
        *(("200M", "h5", year, 0.01) for year in YEARS),
    )
    rows = rows_of(years_table(table, FOUND, [2007]))
    assert rows[0] == ["2007†", "+0.0000", "+20", ""]
    assert rows[1] == ["2008", "+0.0010", "+20", "-10"]
    assert len(rows) == 12
    assert rows_of(years_table(table, verdict(SIZES), []))[0][:2] == ["2007", ""]


def test_mean_probabilities_stand_beside_the_share_of_positive_days():
    text = calibration_in_years_table(FOUND, "vol_logistic", ["2M", "20K", "2B"], YEARS[:-1])
    assert text.splitlines()[0].split(" | ")[1:] == [
        "positive days",
        "the volatility logistic",
        "2M",
        "20K |",
    ]
    assert rows_of(text)[-1] == ["2018", "40.0%", "41.0%", "42.0%", "42.0%"]


def test_the_first_table_fits_a_page():
    found = verdict(dict.fromkeys(N_PARAMS, (0.01234, 0.001)), horizons=["h1", "h2", "h3", "h5"])
    rows = rows_of(differences_table(found, N_PARAMS, [], ["h1", "h2", "h3", "h5"]))
    widths = [max(len(row[at].strip("*")) for row in rows) for at in range(7)]
    assert sum(widths) <= 100
