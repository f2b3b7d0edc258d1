import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.backtest.scores import scores
from patchscale.report import cell_figures, figures
from patchscale.report.comparison import Difference
from patchscale.report.style import BASELINES
from patchscale.study.params import Cell

LABELS, P = (np.arange(50) % 3 == 0).astype(float), np.linspace(0.1, 0.9, 50)
TEST = scores(LABELS, P, 0.3, 0.5, 1, {"seed0": P, "seed1": P / 2})
SKILL = Difference(
    UNDEFINED, Estimate(0.02, -0.01, 0.05), -2.0, 0.01, 3, 0.01, 0.02, dm_p_holm=0.03
)
ALONE = Difference(UNDEFINED, Estimate(-0.01, -0.04, 0.02), 1.0, 0.4, 3, 0.3, 0.5, dm_p_holm=0.06)
SKILLS = ({"2M-h1": ALONE}, {"2M-h1": SKILL})
DAYS = pd.bdate_range("2018-01-02", periods=5)
GRID = {
    f"{budget}-{horizon}": Cell(
        budget=budget, horizon=horizon, search="2M-h1", d_model=8, n_layers=1, n_heads=1
    )
    for budget, horizon in (("2M", "h1"), ("2M", "h5"), ("20M", "h5"))
}
CELLS = tuple(GRID)


def loss_rows(cells: int) -> dict[str, figures.LossPanel]:
    cell, baselines = ("2M", 2_000_000, TEST), dict.fromkeys(BASELINES, 0.66)
    return {
        name: figures.LossPanel(sessions, 250, [cell] * cells, [("2B", 2_000_000_000)], baselines)
        for name, sessions in (("h1", 1), ("h5", 5))
    }


def search_rows(state: str) -> dict:
    value = 0.5 if state == "COMPLETE" else float("nan")
    trials = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "state": [state, "PRUNED", "FAIL", "COMPLETE"],
            "value": [value, float("nan"), float("nan"), 0.4],
            "losses": [[0.5, 0.5], [0.7], [], [0.4, 0.4]],
        }
    )
    importance = pd.DataFrame({"parameter": ["lr", "d_model"], "importance": [0.7, 0.3]})
    return {"2M-h1": {"trials": trials, "importance": importance}}


def tables(**columns: list) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Return the table for each cell, and for each horizon's benchmark."""
    table = pd.DataFrame(columns)
    return dict.fromkeys(CELLS, table), dict.fromkeys(("h1", "h5"), table)


CALIBRATION = tables(
    predicted=[0.1, 0.5], observed=[0.2, 0.4], observed_low=[0.1, 0.3], observed_high=[0.3, 0.6]
)
CURVE = tables(threshold=[0.9, 0.1], precision=[0.7, 0.3], recall=[0.2, 1.0])
FROZEN = dict.fromkeys((*CELLS, "h1", "h5"), TEST)
EQUITY = tables(
    date=DAYS, strategy=[1.0, 1.0, 1.02, 1.01, 1.01], buy_and_hold=[1.0, 0.9, 0.95, 1.0, 1.1]
)
TRADES = tables(entry=DAYS[[1]], exit=DAYS[[2]])[0]
NO_TRADES = dict.fromkeys(CELLS, TRADES["2M-h1"][:0])
EPOCHS = tables(
    seed=[0, 0, 1, 1],
    epoch=[1, 2, 1, 2],
    train_log_loss=[0.7, 0.6, 0.7, 0.6],
    val_log_loss=[0.7, 0.65, 0.6, 0.62],
)[0]

FIGURES: dict[str, Callable[[Path], None]] = {
    "loss_vs_n": lambda path: figures.loss_vs_n(loss_rows(1), path),
    "loss_vs_n, nothing trained": lambda path: figures.loss_vs_n(loss_rows(0), path),
    "loss_vs_n, one horizon": lambda path: figures.loss_vs_n({"h1": loss_rows(1)["h1"]}, path),
    "skill": lambda path: figures.skill_map(["2M", "2B"], ["h1", "h5"], *SKILLS, path),
    "skill, nothing trained": lambda path: figures.skill_map(["2M"], ["h1"], {}, {}, path),
    "searches": lambda path: figures.searches(search_rows("COMPLETE"), path),
    "searches, trial 0 failed": lambda path: figures.searches(search_rows("FAIL"), path),
    "searches, none": lambda path: figures.searches({}, path),
    "reliability": lambda path: cell_figures.reliability(GRID, *CALIBRATION, path),
    "reliability, nothing trained": lambda path: cell_figures.reliability(GRID, {}, {}, path),
    "precision_recall": lambda path: cell_figures.precision_recall(GRID, *CURVE, FROZEN, path),
    "equity": lambda path: cell_figures.equity(GRID, *EQUITY, TRADES, path),
    "equity, no trade": lambda path: cell_figures.equity(GRID, *EQUITY, NO_TRADES, path),
    "learning_curves": lambda path: cell_figures.learning_curves(GRID, EPOCHS, path),
}


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_bytes_each_time(tmp_path, name):
    for copy in "ab":
        FIGURES[name](tmp_path / f"{copy}.svg")
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in svg
    assert len(svg) < 200_000


def drawn(tmp_path: Path, name: str) -> list[str]:
    FIGURES[name](tmp_path / "figure.svg")
    return texts(tmp_path / "figure.svg")


def test_a_size_that_was_not_run_is_labelled(tmp_path):
    assert drawn(tmp_path, "loss_vs_n").count("run") == 2  # below "not", once a horizon
    assert drawn(tmp_path, "skill").count("not run") == 6  # on two maps
    assert drawn(tmp_path, "skill, nothing trained").count("not run") == 2
    assert "no cell was trained" in drawn(tmp_path, "reliability, nothing trained")


def test_the_loss_is_drawn_with_every_baseline_and_n(tmp_path):
    said = drawn(tmp_path, "loss_vs_n")
    assert "h1: 1 session ahead, n 250" in said
    assert "h5: 5 sessions ahead, n 250" in said
    for name in ("prior", "persistence", "vol logistic", "har logistic", "boosting"):
        assert name in said


def test_a_skill_has_its_interval_and_a_star_if_significant_after_correction(tmp_path):
    said = drawn(tmp_path, "skill")
    assert {"+2.0%*", "[-1.0%, +5.0%]"} < set(said)
    assert {"-1.0%", "[-4.0%, +2.0%]"} < set(said)


def test_skills_of_single_seeds_and_of_ensembles_are_on_maps_of_their_own(tmp_path):
    said = drawn(tmp_path, "skill")
    titles = [text for text in said if text.endswith(": log-loss saved against the bar")]
    assert [title.partition(":")[0] for title in titles] == [
        "single seeds on average",
        "ensemble of seeds",
    ]


def test_every_trained_cell_has_a_panel_and_no_other(tmp_path):
    for name in ("reliability", "precision_recall", "equity", "learning_curves"):
        said = drawn(tmp_path, name)
        assert [text for text in said if re.fullmatch(r"\d+M-h\d", text)] == list(CELLS)


def test_panels_share_their_scales():
    for draw in (
        lambda path: cell_figures.equity(GRID, *EQUITY, TRADES, path),
        lambda path: cell_figures.learning_curves(GRID, EPOCHS, path),
        lambda path: cell_figures.reliability(GRID, *CALIBRATION, path),
    ):
        limits = []

        def look(figure, path, limits=limits):
            shown = [axis for axis in figure.axes if axis.get_visible()]
            limits += [(axis.get_xlim(), axis.get_ylim()) for axis in shown]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cell_figures, "save", look)
            draw(Path("nowhere"))
        assert len(limits) == 3
        assert len(set(limits)) == 1


def test_a_unit_of_loss_has_the_same_length_in_every_panel():
    heights = []

    def look(figure, path):
        heights.extend(axis.get_ylim()[1] - axis.get_ylim()[0] for axis in figure.axes)

    rows = loss_rows(1)
    rows["h5"] = replace(rows["h5"], baselines=dict.fromkeys(BASELINES, 0.9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", look)
        figures.loss_vs_n(rows, Path("nowhere"))
    assert heights[0] == pytest.approx(heights[1])


def test_trial_0_is_drawn_where_it_has_a_loss(tmp_path):
    assert "trial 0, the table" in drawn(tmp_path, "searches")
    assert "trial 0, the table" not in drawn(tmp_path, "searches, trial 0 failed")
    assert "no search was made" in drawn(tmp_path, "searches, none")
