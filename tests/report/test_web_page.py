import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT

from patchscale.report.glossary import TERMS
from patchscale.report.style import BLUE, panels, save
from patchscale.report.web_page import inlined, web_page

TEXT = """# Results

On `sp500` the log-loss falls; the log-loss again. Some cells & more.

![Slope of every test year](../plots/slopes.svg)

## How sure

| forecast | log-loss |
| --- | --- |
| 20K, log-loss | **+7** [+1, +13] |

<details><summary>Details</summary>

![Learning curves](../plots/learning_curves.svg)

[metrics](../metrics)

</details>
"""
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Elements of a page, and whether each of them is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.opened: list[str] = []
        self.feed(text)
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value for _, attrs in self.found if (value := attrs.get(name))]

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.found)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return two figures that are drawn alike, so that matplotlib names their parts alike."""
    folder = tmp_path_factory.mktemp("plots")
    found = {}
    for name in ("slopes", "learning_curves"):
        figure, ((axis,),) = panels(1, 1, (4, 2))
        axis.plot([0, 1], [0, 1], "o-", color=BLUE)
        save(figure, folder / f"{name}.svg", name)
        found[name] = (folder / f"{name}.svg").read_text()
    return found


@pytest.fixture(scope="module")
def page(pictures: dict[str, str]) -> str:
    return web_page(TEXT, pictures)


def published() -> str:
    return (ROOT / "docs/results.html").read_text(encoding="utf-8")


def test_the_page_is_the_same_bytes_each_time(page: str, pictures: dict[str, str]) -> None:
    assert web_page(TEXT, pictures) == page


def test_every_element_is_closed_and_every_identifier_is_one_element_s(page: str) -> None:
    for text in (page, published()):
        names = Page(text).values("id")
        assert len(names) == len(set(names)) > 40


def test_every_reference_within_the_page_leads_to_a_part_of_it(page: str) -> None:
    for text in (page, published()):
        found = Page(text)
        wanted = {
            link[1:]
            for name in ("href", "xlink:href")
            for link in found.values(name)
            if link[:1] == "#"
        }
        wanted |= set(re.findall(r"url\(#([^)]+)\)", text))
        assert len(wanted) > 5
        assert wanted <= set(found.values("id"))


def test_the_page_loads_nothing(page: str) -> None:
    for text in (page, published()):
        found = Page(text)
        assert found.values("src") == []
        assert not {"link", "iframe", "object", "embed", "img", "image"} & {
            t for t, _ in found.found
        }
        assert not re.search(r"@import|url\((?!#)", text)
        (policy,) = [value for value in found.values("content") if "src" in value]
        assert policy.startswith("default-src 'none'")


def test_pictures_stand_in_figures_with_their_alternative_text(page: str) -> None:
    found = Page(page)
    plots = [attrs for tag, attrs in found.found if tag == "svg"]
    assert [attrs["aria-label"] for attrs in plots] == [
        "Slope of every test year",
        "Learning curves",
    ]
    assert {attrs["role"] for attrs in plots} == {"img"}
    assert found.count("figure") == 2
    assert not re.search(r"<p>\s*<svg", page)


def test_marks_take_the_colour_of_their_place_which_a_style_sheet_reaches(
    pictures: dict[str, str],
) -> None:
    svg = inlined(pictures["slopes"], "slopes", "Slopes")
    definitions = "".join(re.findall(r"<defs>.*?</defs>", svg, re.DOTALL))
    assert "<path" in definitions
    assert "#0072b2" not in definitions
    used = re.findall(r"<use [^>]*>", svg)
    assert used
    assert all("stroke: #" in mark for mark in used)


def test_every_colour_of_the_figures_has_one_on_dark_paper() -> None:
    sheet = (ROOT / "src/patchscale/report/page.css").read_text()
    used = set(re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", published()))
    shades = {colour for colour in used if f'"{colour}"' not in sheet}
    fields = set(re.findall(r'style="(fill: #[0-9a-f]{6}); stroke: #ffffff', published()))
    assert shades <= fields | {"fill: #1a1a1a"}  # the fields of the map of skill keep their colours


def test_the_first_use_of_a_word_in_a_paragraph_is_explained_and_none_in_a_field(page: str) -> None:
    paragraph, field = (
        re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]  # type: ignore[index]
        for tag in ("p", "td")
    )
    assert paragraph.count("<abbr") == 2
    assert re.search(
        r'href="#term-log-loss"><abbr title="Minus the [^"]*">log-loss</abbr>', paragraph
    )
    assert "cells</abbr></a> &amp; more" in paragraph
    assert field == "20K, log-loss"
    (head,) = re.findall(r"<th>([^<]*<abbr.*?)</th>", page)
    assert "<a " not in head


def test_tables_can_be_scrolled_and_folds_stay_folded(page: str) -> None:
    assert re.search(r'<div class="scroll" tabindex="0"><table>\s*<thead>', page)
    assert "<details><summary>Details</summary>" in page
    assert 'href="../metrics"' in page


def test_every_term_has_an_entry(page: str) -> None:
    entries = re.findall(r'<dt id="([^"]+)"><dfn>', page)
    assert entries == [term.anchor for term in TERMS]


def test_the_published_page_has_the_finding_all_figures_and_a_modest_size() -> None:
    text = published()
    finding = (ROOT / "docs/results.md").read_text().split("\n\n")[2]
    shown = re.search(r"<h1>.*?<p>(.*?)</p>", text, re.DOTALL)[1]  # type: ignore[index]
    assert re.sub(r"<[^>]+>", "", shown).replace("&lt;", "<") == finding.replace("`", "")
    assert {Path(name).stem for name in map(str, (ROOT / "plots").glob("*.svg"))} == set(
        re.findall(r'<g id="(\w+)-figure_1"', text)
    )
    assert len(text) < 1_600_000
