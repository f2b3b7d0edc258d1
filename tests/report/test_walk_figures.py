import re
from pathlib import Path

import numpy as np
import pytest
from fake_verdict import N_PARAMS, YEARS, corrected, slope

from patchscale.report import walk_figures
from patchscale.report.walk_figures import SizePanel, size, slopes

BAR = "vol_logistic"
RIVALS = {BAR: 0.0, "har_logistic": -0.003, "boosting": -0.004, "prior": 0.07, "persistence": 0.07}
SIZES = {**N_PARAMS, "2B": 2_000_000_000}


def panel(years: int = 12, cells: int = 4) -> SizePanel:
    tests = {name: corrected(0.01, years=years) for name in list(N_PARAMS)[:cells]}
    notes = {"2B": "not\nrun", "20M": "8 of\n12 y"}
    return SizePanel(1, SIZES, tests, dict(list(tests.items())[:2]), RIVALS, notes)


PANELS = {
    "four horizons": dict.fromkeys(("h1", "h2", "h3", "h5"), panel()),
    "three horizons": dict.fromkeys(("h1", "h2", "h3"), panel()),
    "few years": {"h1": panel(years=3)},
    "one size": {"h1": panel(cells=1)},
    "no walk": {},
}


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def axes_of(monkeypatch, draw) -> list:
    found: list = []
    monkeypatch.setattr(walk_figures, "save", lambda figure, *_: found.extend(figure.axes))
    draw()
    return found


@pytest.mark.parametrize("name", PANELS)
def test_a_figure_is_the_same_bytes_each_time(tmp_path, name):
    for copy in "ab":
        size(PANELS[name], BAR, tmp_path / f"{copy}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ("no test year was walked" in texts(tmp_path / "a.svg")) == (name == "no walk")


def test_absent_sizes_and_missing_years_stand_on_the_axis(tmp_path):
    size(PANELS["four horizons"], BAR, tmp_path / "size.svg")
    said = texts(tmp_path / "size.svg")
    assert said.count("run") == said.count("12 y") == 4
    for budget in SIZES:
        assert said.count(budget) == 4


def test_the_bar_is_named_and_baselines_out_of_range_point_away(tmp_path):
    size(PANELS["few years"], BAR, tmp_path / "size.svg")
    said = texts(tmp_path / "size.svg")
    assert {"bar: volatility", "HAR", "boosting", "↑ prior +0.070"} < set(said)


def test_labels_of_baselines_do_not_overlap(monkeypatch):
    (axis,) = axes_of(monkeypatch, lambda: size(PANELS["few years"], BAR, Path("nowhere")))
    heights = sorted(text.xy[1] for text in axis.texts if text.xy[0] == 1.02)
    assert len(heights) == len(RIVALS)
    assert min(np.diff(heights)) >= walk_figures.APART - 1e-9
    assert heights[-1] <= 1


def test_panels_show_all_intervals_on_one_scale(monkeypatch):
    axes = axes_of(monkeypatch, lambda: size(PANELS["four horizons"], BAR, Path("nowhere")))
    ((low, high),) = {axis.get_ylim() for axis in axes}
    assert low < -0.004
    assert 0.015 < high < 0.07
    assert {axis.get_xscale() for axis in axes} == {"log"}


def test_single_seeds_and_ensembles_have_marks_of_their_own(tmp_path, monkeypatch):
    (axis,) = axes_of(monkeypatch, lambda: size(PANELS["one size"], BAR, Path("nowhere")))
    points = [line for line in axis.lines if line.get_marker() in "oD"]
    assert [line.get_marker() for line in points] == ["o", "D"]
    assert points[0].get_xdata()[0] < 20_000 < points[1].get_xdata()[0]
    assert points[0].get_ydata()[0] == 0.01


def test_every_year_has_a_slope_filled_if_the_settings_have_not_seen_it(monkeypatch):
    found = slope()
    (axis,) = axes_of(monkeypatch, lambda: slopes(found, YEARS[:-1], Path("nowhere")))
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [dot.get_ydata()[0] for dot in dots] == list(found.slopes.values())
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True] * 11 + [False]


@pytest.mark.parametrize("found", [None, slope(years=YEARS[:3])])
def test_slopes_without_an_interval_are_drawn(tmp_path, found):
    slopes(found, [], tmp_path / "slopes.svg")
    missing = "fewer than two sizes have all test years" in texts(tmp_path / "slopes.svg")
    assert missing == (found is None)
