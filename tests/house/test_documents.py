"""What README and docs say is what the pipeline wrote and what params.yaml has."""

from conftest import ROOT

from patchscale.study.params import load_params


def paragraphs(name: str) -> list[str]:
    """Return the paragraphs of a page, each on one line."""
    return [" ".join(part.split()) for part in (ROOT / name).read_text().split("\n\n")]


def test_the_first_paragraph_of_the_readme_is_the_finding_of_the_report() -> None:
    title, first, *_ = paragraphs("README.md")
    assert title.startswith("# ")
    assert first == paragraphs("docs/results.md")[2]


def test_no_table_of_the_results_is_wider_than_a_page() -> None:
    tables = [
        [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in part.splitlines()]
        for part in (ROOT / "docs/results.md").read_text().split("\n\n")
        if part.startswith("| ")
    ]
    assert len(tables) > 5
    for head, _, *rows in tables:
        widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(head))]
        assert len(head) <= 9, head
        assert sum(widths) <= 100, head


def test_the_readme_names_the_cells_that_have_not_been_run() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    params = load_params(ROOT)
    absent = [cell for cell in params.cells if cell not in params.trained_cells]
    *others, last = absent
    verb = "have" if others else "has"
    listed = f"{', '.join(others)} and {last}" if others else last
    assert f"{listed} **{verb} not been run**" in readme
