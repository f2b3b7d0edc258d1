import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from patchscale.backtest.bootstrap import UNDEFINED, Estimate
from patchscale.backtest.scores import scores
from patchscale.report import cell_figures, figures, style
from patchscale.report.captions import CAPTIONS
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
README = 622
"""Width of a README in points: 830 pixels."""


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


def panels_of(draw: Callable[[Path], None]) -> dict[str, Any]:
    """Return the visible panels of a figure with a panel per cell, by their titles."""
    found: dict[str, Any] = {}

    def look(figure, path, name):
        found.update({axis.get_title(): axis for axis in figure.axes if axis.get_visible()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_figures, "save", look)
        draw(Path("nowhere"))
    return found


@pytest.mark.parametrize("name", ["equity", "reliability", "precision_recall"])
def test_panels_share_their_scales(name):
    found = panels_of(FIGURES[name]).values()
    assert len(found) == 3
    assert len({(axis.get_xlim(), axis.get_ylim()) for axis in found}) == 1


def test_learning_curves_have_axes_of_their_own():
    longer = EPOCHS["2M-h5"].assign(epoch=lambda table: 10 * table["epoch"], val_log_loss=0.1)
    found = panels_of(
        lambda path: cell_figures.learning_curves(GRID, EPOCHS | {"2M-h5": longer}, path)
    )
    assert found["2M-h5"].get_xlim()[1] > 20 > found["2M-h1"].get_xlim()[1]
    assert found["2M-h5"].get_ylim()[0] < 0.1 < found["2M-h1"].get_ylim()[0]


def test_the_outermost_panels_of_a_row_and_column_have_labels():
    found = panels_of(FIGURES["equity"])  # 20M-h1, below 2M-h1 and left of 20M-h5, is absent
    labelled = {
        name: (
            axis.xaxis.get_tick_params()["labelbottom"],
            axis.yaxis.get_tick_params()["labelleft"],
        )
        for name, axis in found.items()
    }
    assert labelled == {
        "2M-h1": (True, True),
        "2M-h5": (False, False),
        "20M-h5": (True, True),
    }


@pytest.mark.parametrize(
    ("periods", "labels"),
    [(250, ["2018", "Apr", "Jul", "Oct"]), (800, ["2018", "2019", "2020", "2021"])],
)
def test_days_are_labelled_with_years_and_months(periods, labels):
    days = pd.bdate_range("2018-01-02", periods=periods)
    table = pd.DataFrame({"date": days, "strategy": 1.0, "buy_and_hold": 1.0})
    axis = panels_of(
        lambda path: cell_figures.equity(
            GRID, {"2M-h1": table}, {"h1": table}, {"2M-h1": TRADES["2M-h1"][:0]}, path
        )
    )["2M-h1"]
    assert [label.get_text() for label in axis.get_xticklabels()] == labels


SIX = {
    f"{budget}-{horizon}": Cell(
        budget=budget, horizon=horizon, search=f"{budget}-h1", d_model=8, n_layers=1, n_heads=1
    )
    for budget in ("20K", "200K", "2M", "20M", "200M", "2B")
    for horizon in ("h1", "h2", "h3", "h5")
    if budget != "2B" or horizon == "h1"
}


def test_six_sizes_of_which_the_largest_has_one_horizon_are_drawn_as_they_are():
    curves = dict.fromkeys(SIX, EPOCHS["2M-h1"])
    found = panels_of(lambda path: cell_figures.learning_curves(SIX, curves, path))
    assert list(found) == list(SIX)
    assert all(axis.lines for axis in found.values())


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible_at_the_width_of_a_readme(tmp_path, name):
    FIGURES[name](tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", svg)]
    assert sizes
    assert min(sizes) * min(1, README / width) >= 9


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_in_its_file_what_it_shows(tmp_path, name):
    FIGURES[name](tmp_path / "figure.svg")
    caption = CAPTIONS[name.partition(",")[0]]
    svg = ElementTree.parse(tmp_path / "figure.svg").getroot()
    said = {child.tag.partition("}")[2]: child.text for child in svg}
    assert said["title"] == caption.title
    assert said["desc"] == caption.description
    assert svg.get("role") == "img"


def test_numbers_that_are_read_are_not_rounded(tmp_path):
    FIGURES["skill"](tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert not re.search(r' d="[^"]*\.\d{3}', svg)
    assert style.COORDINATES.sub(style._rounded, '<text x="1.23456">0.12345</text>') == (
        '<text x="1.23">0.12345</text>'
    )


def test_a_unit_of_loss_has_the_same_length_in_every_panel():
    heights = []

    def look(figure, path, name):
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
