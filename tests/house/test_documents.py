"""What README and docs say is what the pipeline wrote and what params.yaml has."""

import re

import pytest
from conftest import ROOT

from patchscale.study.params import load_params


def test_the_readme_quotes_the_finding_of_the_report() -> None:
    results = (ROOT / "docs/results.md").read_text().split("\n\n")
    finding = " ".join(results[2].split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert finding in readme


def test_the_readme_names_the_budgets_that_have_not_been_run() -> None:
    readme = (ROOT / "README.md").read_text()
    budgets = load_params(ROOT).budgets
    absent = [name for name, budget in budgets.items() if not budget.trained]
    verb = "has" if len(absent) == 1 else "have"
    assert f"{' and '.join(absent)} **{verb} not been run**" in readme


@pytest.mark.parametrize(
    ("page", "fewer"), [("README.md", 8), ("docs/questions.md", 8), ("docs/remotes.md", 0)]
)
def test_every_parameter_that_a_page_sets_exists(page: str, fewer: int) -> None:
    params = load_params(ROOT).model_dump()
    keys = re.findall(r"-S '?([\w.]+)=", (ROOT / page).read_text())
    assert len(keys) > fewer
    for key in keys:
        section = params
        for part in key.split("."):
            assert part in section, key
            section = section[part]
