"""YAML of strangers is read or refused, and never runs anything."""

from pathlib import Path

import pytest

from patchscale.study.errors import InputError
from patchscale.study.safe_yaml import read_yaml


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[" * 100_000, "line 1: nested more than 20 deep"),
        ("{a: " * 100_000, "line 1: nested more than 20 deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "line 21: nested more than 20 deep"),
        ("a: &x [1]\nb: [*x, *x]\n", "line 1: an anchor or alias"),
        ("a: *x\n", "line 1: an anchor or alias"),
        ("a: 1\nb: " + "9" * 5000, "line 2: a key or value of 5,000 characters; 500 are allowed"),
        ("a: 0x" + "f" * 5000, "line 1: a key or value of 5,002 characters; 500 are allowed"),
        ("'" + "k" * 5000 + "': 1", "line 1: a key or value of 5,000 characters; 500 are allowed"),
        ("a: !!timestamp x", "line 1: the tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        ("a: !!python/object:os.system x", "line 1: the tag 'tag:yaml.org,2002:python"),
        ("a: 2018-13-45", "not valid YAML (month must be in 1..12)"),
        ("a: 0b_", "not valid YAML (invalid literal for int() with base 2"),
        ("a: {b: 1, b: 2}", "not valid YAML (key 'b' occurs twice)"),
        ("? [1]\n: 2", "not valid YAML (while constructing a mapping"),
        ("a: 1\n---\nb: 1\n", "not valid YAML (expected a single document"),
        (
            "a: 017",
            "line 1: 017 is read in two ways by two versions of YAML; a number without a leading 0",
        ),
        ("b: 1\na: -0_7", "line 2: -0_7 is read in two ways"),
        ("a: 1:30", "line 1: 1:30 is read in two ways"),
        ("#" * (1 << 20) + "\na: 1\n", "larger than 1,048,576 bytes, which is the limit"),
    ],
    ids=range(19),
)
def test_yaml_that_no_study_needs_is_refused_in_one_short_line(
    tmp_path: Path, text: str, shown: str
) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: {shown}")
    assert len(line) < len(str(path)) + 320
    assert "\n" not in line


def test_yaml_of_plain_values_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: {b: [1, 2.5, true], c: '017', e: [0, -0.5, 0x1f]}\nd: null\n")
    assert read_yaml(path) == {
        "a": {"b": [1, 2.5, True], "c": "017", "e": [0, -0.5, 31]},
        "d": None,
    }
