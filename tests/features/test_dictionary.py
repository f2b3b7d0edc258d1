"""docs/features.md is printed from the code and explains every name."""

import re

from conftest import ROOT

from patchscale.features.dictionary import dictionary, words
from patchscale.features.formulas import FORMULAS, NUMPY
from patchscale.features.tiers import TIERS


def test_page_is_what_the_code_prints() -> None:
    assert (ROOT / "docs/features.md").read_text() == dictionary()


def test_page_has_every_column_and_explains_every_name() -> None:
    text = (ROOT / "docs/features.md").read_text()
    explained = {"vix", "pi", *NUMPY, *re.findall(r"^\| `(\w+)", text, re.MULTILINE)}
    for feature in TIERS["a200c"] + TIERS["a25c"]:
        assert f"| `{feature.name}` | {feature.kind} |" in text
    named = {name for formula in FORMULAS.values() for name in words(formula)}
    assert named <= explained
