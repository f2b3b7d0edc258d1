import re

import pandas as pd
import pytest

from patchscale.plots import loss_vs_n, searches
from patchscale.report import (
    cells_table,
    finding,
    searches_table,
    slopes_table,
    strategy_table,
)


def horizon(slope: tuple[float, float] | None, gap: tuple[float, float] = (-0.1, 0.1)) -> dict:
    gaps = {"vs_vol_logistic_low": gap[0], "vs_vol_logistic_high": gap[1]}
    cells = [{"cell": "2M-h1"} | gaps]
    if slope is None:
        return {"slope": None, "cells": cells}
    low, high = slope
    fitted = {
        "slope": (low + high) / 2,
        "slope_low": low,
        "slope_high": high,
        "sizes": 2,
        "days": 250,
    }
    return {"slope": fitted, "cells": cells}


BETTER, WORSE, NEITHER = (-0.03, -0.01), (0.01, 0.03), (-0.01, 0.02)


def test_without_a_trained_cell_nothing_is_claimed():
    text = finding({"h1": {"slope": None, "cells": []}, "h5": {"slope": None, "cells": []}}, ())
    assert text == "No cell has been trained, so nothing can be said yet."


def test_without_two_sizes_nothing_is_claimed_about_size():
    text = finding({"h1": horizon(None), "h5": horizon(None)}, ())
    assert "nothing can be said yet about size" in text
    assert "bigger" not in text


@pytest.mark.parametrize(
    ("h1", "h5", "claim"),
    [
        (BETTER, NEITHER, "better at h1 and measurably worse at no horizon"),
        (BETTER, BETTER, "better at h1, h5 and measurably worse at no horizon"),
        (NEITHER, WORSE, "better at no horizon and measurably worse at h5"),
        (WORSE, BETTER, "better at h5 and measurably worse at h1"),
        (NEITHER, NEITHER, "better at no horizon and measurably worse at no horizon"),
        (None, BETTER, "better at h5 and measurably worse at no horizon"),
    ],
)
def test_the_claim_about_size_follows_from_the_slopes_intervals(h1, h5, claim):
    text = finding({"h1": horizon(h1), "h5": horizon(h5)}, ())
    start = "Across the 2 sizes trained so far, a bigger model forecasts measurably"
    assert f"{start} {claim}. " in text
    assert text.count("bigger") == 1


def test_sizes_that_were_not_searched_alike_are_said_to_differ_in_tuning():
    scaling = {"h1": horizon(WORSE), "h5": horizon(NEITHER)}
    scaling["h1"]["cells"].append(scaling["h1"]["cells"][0] | {"cell": "20M-h1"})
    text = finding(scaling, {"2M"})
    assert "A search chose the settings of 2M and not those of 20M" in text
    assert text.endswith("may be one of tuning.")
    for searched in ((), {"2M", "20M"}):
        assert "search" not in finding(scaling, searched)


@pytest.mark.parametrize("touching", [(-0.02, 0.0), (0.0, 0.02)])
def test_an_interval_that_touches_zero_claims_nothing(touching):
    text = finding({"h1": horizon(touching, gap=touching)}, ())
    assert "better at no horizon and measurably worse at no horizon" in text
    assert "none forecast the test year" in text
    assert "none measurably worse" in text


@pytest.mark.parametrize(
    ("gap", "better", "worse"),
    [(BETTER, "2M-h1", "none"), (WORSE, "none", "2M-h1"), (NEITHER, "none", "none")],
)
def test_the_claim_against_the_regression_follows_from_the_gaps_interval(gap, better, worse):
    for slope in (None, BETTER):
        text = finding({"h1": horizon(slope, gap)}, ())
        assert f"{better} forecast the test year measurably better than a logistic" in text
        assert f"{worse} measurably worse." in text


def judged_cell(**changes) -> dict:
    test = {
        "log_loss": 0.61,
        "log_loss_low": 0.58,
        "log_loss_high": 0.64,
        "auc": 0.55,
        "auc_low": 0.47,
        "auc_high": 0.62,
        "precision": 0.4,
        "recall": 0.25,
        "p_range": 0.31,
        "collapsed": False,
        "seeds": {f"seed{k}": {"log_loss": 0.6 + k} for k in (0.022, 0.011, 0.033)},
    }
    return {"trained": True, "n_params": 1_998_017, "test": test | changes}


GAPS = {
    "2M-h1": {
        "vs_vol_logistic": 0.012,
        "vs_vol_logistic_low": -0.004,
        "vs_vol_logistic_high": 0.027,
    }
}


def row_of(judged: dict) -> list[str]:
    table = cells_table(["2M-h1"], {"2M-h1": judged}, GAPS)
    return [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]]


def test_a_trained_cell_shows_its_scores_with_intervals():
    assert row_of(judged_cell()) == [
        "2M-h1",
        "1,998,017",
        "3: 0.611 to 0.633",
        "0.610 [0.580, 0.640]",
        "+0.012 [-0.004, 0.027]",
        "0.550 [0.470, 0.620]",
        "0.40 / 0.25",
        "0.31",
    ]


def test_what_is_undefined_or_collapsed_is_said():
    row = row_of(judged_cell(precision=None, recall=0.0, p_range=0.12, collapsed=True))
    assert row[-2:] == ["none / 0.00", "0.12 collapsed"]


def test_an_absent_cell_says_so_and_shows_no_number_but_its_n():
    judged = {"2M-h1": judged_cell(), "2B-h1": {"trained": False, "n_params": 2_000_123_456}}
    lines = cells_table(["2M-h1", "2B-h1"], judged, GAPS).splitlines()
    assert len(lines) == 4
    absent = lines[3]
    assert "not run" in absent
    assert re.findall(r"\d[\d,.]*", absent.replace("2B-h1", "")) == ["2,000,123,456"]
    assert {line.count("|") for line in lines} == {9}


def test_a_slope_needs_two_sizes():
    lines = slopes_table({"h1": horizon(BETTER), "h5": horizon(None)}).splitlines()
    assert lines[2] == "| h1 | 2 | 250 | -0.0200 [-0.0300, -0.0100] |"
    assert lines[3] == "| h5 | 1 |  | absent: needs two sizes |"


def test_a_strategy_that_never_traded_has_no_sharpe():
    row = {
        "trades": 0,
        "exposure": 0.0,
        "total_return": 0.0,
        "total_return_at_bps": {"0": 0.0, "5": -0.01},
        "sharpe": None,
        "max_drawdown": 0.0,
    }
    line = strategy_table({"2M-h1": row}).splitlines()[2]
    assert line == "| 2M-h1 | 0 | 0% | +0.0% | +0.0% at 0 bp, -1.0% at 5 bp | no trade | 0.0% |"


def figure_rows() -> dict[str, dict]:
    cell = {"budget": "2M", "n_params": 2e6} | judged_cell()["test"]
    return {
        name: {
            "sessions": sessions,
            "cells": cells,
            "absent": [("2B", 2e9)],
            "prior": 0.66,
            "vol_logistic": 0.6,
        }
        for name, sessions, cells in (("h1", 1, [cell]), ("h5", 5, []))
    }


def test_the_figure_is_the_same_bytes_each_time(tmp_path):
    loss_vs_n(figure_rows(), tmp_path / "a.svg")
    loss_vs_n(figure_rows(), tmp_path / "b.svg")
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes()
    for text in (b"1 session ahead", b"5 sessions ahead", b"not", b"lower is better"):
        assert text in svg
    assert b"<dc:date>" not in svg


SEARCH = {
    "trials": 30,
    "complete": 9,
    "pruned": 20,
    "fail": 1,
    "n": 660,
    "positives": 154,
    "trial_0_val_log_loss": 0.4886,
    "val_log_loss": 0.4801,
    "best_trial": 17,
    "epochs": 240,
    "wall_clock_hours": 0.204,
    "device_hours": 0.391,
    "device": "cpu",
}


def test_a_search_is_shown_against_its_trial_0_with_its_cost():
    row = searches_table({"2M-h1": SEARCH}).splitlines()[2]
    assert row == (
        "| 2M-h1 | 30: 9, 20, 1 | 660, 154 | 0.4886 | 0.4801 (trial 17) | 0.0085 | 240 "
        "| 0.20, 0.39 cpu |"
    )
    failed = searches_table({"2M-h1": SEARCH | {"trial_0_val_log_loss": None}})
    assert "| failed | 0.4801 (trial 17) |  |" in failed


def search_rows() -> dict:
    trials = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "state": ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"],
            "value": [0.5, float("nan"), float("nan"), 0.4],
            "curve": [[0.6, 0.5], [0.7], [], [0.4, 0.5]],
        }
    )
    importance = pd.DataFrame({"parameter": ["lr", "d_model"], "importance": [0.7, 0.3]})
    return {"2M-h1": {"trials": trials, "importance": importance}}


def test_the_figure_of_searches_is_the_same_bytes_each_time_also_without_any(tmp_path):
    first_failed = search_rows()
    first_failed["2M-h1"]["trials"].loc[0, ["state", "value"]] = ["FAIL", float("nan")]
    for name, rows in {"one": search_rows(), "none": {}, "failed": first_failed}.items():
        searches(rows, tmp_path / f"{name}.svg")
        searches(rows, tmp_path / "again.svg")
        assert (tmp_path / f"{name}.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert b"trial 0, the table" in (tmp_path / "one.svg").read_bytes()
    assert b"trial 0, the table" not in (tmp_path / "failed.svg").read_bytes()
    assert b"no search was made" in (tmp_path / "none.svg").read_bytes()
