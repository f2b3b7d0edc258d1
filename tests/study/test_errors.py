"""A value in a message is its repr, on one line and short."""

import pytest

from patchscale.study.errors import shown


@pytest.mark.parametrize("value", [1, 0.5, None, True, "a", "it's", [0.5, 0.1], {"a": 1}])
def test_short_value_is_shown_as_its_repr(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000,
        [["y" * 1000] * 1000] * 1000,
        10**4000,
        16**10_000,
        [16**10_000],
        {"k" * 999: 1},
    ],
    ids=range(6),
)
def test_long_value_is_cut(value: object) -> None:
    assert len(shown(value)) <= 100


def test_control_characters_are_escaped() -> None:
    assert shown("a\x1b[31m\nb") == r"'a\x1b[31m\nb'"
