import re

import pytest
from conftest import ROOT

from patchscale.report.glossary import TERMS, Term, glossary


def test_the_page_is_printed_from_the_terms() -> None:
    assert (ROOT / "docs/glossary.md").read_text() == glossary()


def test_terms_are_in_the_order_of_the_alphabet_and_no_two_alike() -> None:
    names = [term.name.lower() for term in TERMS]
    assert names == sorted(set(names))
    assert len({term.anchor for term in TERMS}) == len(TERMS)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.anchor)
def test_a_meaning_is_one_to_three_sentences_and_no_circle(term: Term) -> None:
    assert re.fullmatch(r"[A-Z].*\.", term.meaning)
    assert len(term.meaning) < 240
    assert not term.meaning.lower().startswith(term.name.lower())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("test years", "walk-forward"),
        ("Diebold and Mariano's test", "Diebold-Mariano test"),
        ("Holm", "Holm's correction"),
        ("single seeds", "seed"),
        ("the bar", "bar"),
    ],
)
def test_forms_of_a_word_are_found(text: str, name: str) -> None:
    (term,) = [term for term in TERMS if term.name == name]
    assert re.fullmatch(term.pattern, text, re.IGNORECASE)
