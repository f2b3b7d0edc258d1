from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from verdict_study import forecasts_of, labels_of

from patchscale.study.errors import InputError
from patchscale.study.files import write_arrow
from patchscale.verdict.forecasts import (
    read_forecasts,
    refuse_other_days,
    with_ensemble,
    with_labels,
)

YEARS = (2007, 2008)
LABELS = labels_of(["h1", "h3"], YEARS)
BY_HORIZON = {str(name): rows for name, rows in LABELS.groupby("horizon")}
PATH = Path("data/walk/2M.arrow")


@pytest.fixture
def table() -> pd.DataFrame:
    return forecasts_of(LABELS, YEARS, {"p_seed0": 0.5, "p_seed1": 0.5})


def test_what_was_written_is_read_in_order_of_days(table, tmp_path):
    write_arrow(tmp_path / "a.arrow", table.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(
        read_forecasts(tmp_path / "a.arrow", ["p_seed1"]), table, check_dtype=False
    )


def test_a_budget_that_is_not_walked_has_no_rows(table, tmp_path):
    for empty in (table[:0], table[:0].drop(columns=["p_seed0", "p_seed1"])):
        write_arrow(tmp_path / "a.arrow", empty)
        assert read_forecasts(tmp_path / "a.arrow").empty


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.drop(columns="year"),
            "must begin with the columns horizon, year, date, subset",
        ),
        (lambda t: t.drop(columns="p_seed1"), "columns p_seed1 are needed"),
        (lambda t: t.assign(p_seed0=1.5), "p_seed0: a probability from 0 to 1 is needed"),
        (lambda t: t.assign(p_seed0=np.nan), "p_seed0: a probability from 0 to 1 is needed"),
        (lambda t: t.assign(p_seed0="high"), "p_seed0: a probability from 0 to 1 is needed"),
        (lambda t: t.assign(subset="train"), "subset: val or test is needed"),
        (lambda t: pd.concat([t, t[:1]]), "date: a day of a year occurs twice"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(table, tmp_path, change, said):
    write_arrow(tmp_path / "a.arrow", change(table))
    with pytest.raises(InputError) as error:
        read_forecasts(tmp_path / "a.arrow", ["p_seed1"])
    assert str(error.value).startswith(f"{tmp_path / 'a.arrow'}: {said}")
    assert "\n" not in str(error.value)


def test_a_year_with_other_days_than_the_baselines_is_refused(table):
    baselines = table.drop(columns="p_seed1")
    refuse_other_days(PATH, table[table["year"] == 2008], baselines)
    swapped = table.assign(subset=table["subset"].map({"val": "test", "test": "val"}))
    for other in (table[1:], swapped, table.assign(year=2020)):
        with pytest.raises(InputError, match=r"2M\.arrow: other days than those of the baselines"):
            refuse_other_days(PATH, other, baselines)


def test_each_day_gets_the_label_of_its_horizon(table):
    labelled = with_labels(PATH, table, BY_HORIZON)
    expected = table.merge(LABELS, on=["horizon", "date"])
    assert labelled["label"].tolist() == expected["label"].tolist()


def test_a_day_without_a_label_is_refused(table):
    short = BY_HORIZON | {"h3": BY_HORIZON["h3"][:-1]}
    unknown = BY_HORIZON | {"h3": BY_HORIZON["h3"].assign(label=np.nan)}
    day = f"{table['date'].max():%Y-%m-%d}"
    with pytest.raises(InputError, match=rf"2M\.arrow: {day} of h3 has no label in data/split"):
        with_labels(PATH, table, short)
    with pytest.raises(InputError, match="of h3 has no label"):
        with_labels(PATH, table, unknown)


def test_the_ensemble_is_the_mean_probability_of_the_seeds(table):
    both = with_ensemble(table)
    assert both["ensemble"].tolist() == pytest.approx(
        ((table["p_seed0"] + table["p_seed1"]) / 2).tolist()
    )
