"""Parameters and bars that are changed at random are read, or refused in one short line."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import random_bars, write_study

from patchscale.bars import PRICES, as_written, canonical_csv, parse_bars, read_bars
from patchscale.check import check
from patchscale.download.calendar import exchange_sessions
from patchscale.download.checks import check_bars
from patchscale.study.errors import InputError
from patchscale.study.params import Dataset, load_params, load_space

TRIES = 150
LONGEST_LINE = 700
YAML_TOKENS = [
    *("&a", "*a", "&a *a", "!", "!!int", "!!binary", "!!timestamp", "<<:", "?", ":", "-", "---"),
    *("[", "]", "{", "}", "|", ">", "%", "@", "`", "#", ",", "'", '"', "\\", "~", "...", "="),
    *("null", "yes", ".inf", ".nan", "0x", "0b_", "1e999", "2018-13-45", "2018-01-01", "1:2:3"),
    *("\n", "\t", "\u00e9", "\uff11", "\ufeff", "\u2028", "\x85", "\x00", "\x1b", "\U0001f600"),
]
CSV_TOKENS = [
    *(",", ",,", ";", '"', "'", "nan", "inf", "-inf", "1e999", "-1", "0", "1e-9", "9e18", "today"),
    *("\u00e9", "\uff11", "\x00", "\r", "\n", "\t", "#"),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 0.0, -0.0, 1e300, 10**30, 10**4400, float("nan"), float("inf")),
    *("", " ", "x", "../up", "h1;true", "a\nb", "\x00", "9" * 5000, "2018-02-30", "^", "\u202e"),
    *([], {}, [[]], [{}], {"a": 1}, {1: 2}, {None: 1}, [1, 1], ["a20", "a20"], ["x"] * 1000),
]
YEAR = Dataset(
    source="csv",
    series="bars",
    path="bars.csv",
    calendar="XNYS",
    start="2018-01-02",
    end="2018-12-31",
    validation_from="2018-06-01",
    test_from="2018-09-04",
)


def changed_text(draw: random.Random, text: str, tokens: list[str]) -> str:
    """Return a text in which one to three spans are deleted, repeated, moved or replaced."""
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.choice([0, 1, 1, 5, 40]))
        span = text[start:end]
        new = draw.choice(
            [
                "",
                span * draw.choice([2, 2000]),
                span[::-1],
                draw.choice(tokens) * draw.choice([1, 1, 3000]),
                chr(draw.randrange(0xD7FF)),
                str(draw.randrange(10 ** draw.choice([1, 20, 4000]))),
            ]
        )
        text = text[:start] + new + text[end:]
    return text


def changed_tree(draw: random.Random, tree: Any) -> Any:
    """Return a tree of YAML in which one value, or one key with its value, is another."""
    if not isinstance(tree, dict | list) or not tree or draw.random() < 0.15:
        return draw.choice(VALUES)
    if isinstance(tree, list):
        place = draw.randrange(len(tree))
        return [*tree[:place], changed_tree(draw, tree[place]), *tree[place + 1 :]]
    key = draw.choice(list(tree))
    changed = dict(tree)
    if draw.random() < 0.2:
        value = changed.pop(key)
        new = draw.choice(VALUES)
        changed[new if isinstance(new, str | int | float | None) else str(new)] = value
    else:
        changed[key] = changed_tree(draw, tree[key])
    return changed


def refused(read: Callable[[], object]) -> bool:
    """Return whether the reader refuses; its line must be short and printable."""
    try:
        read()
    except InputError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) < LONGEST_LINE, line
        return True
    return False


def fuzz_study(draw: random.Random, folder: Path) -> bool:
    """Change one of the three files of a study at random, and load and check the study."""
    write_study(folder)
    path = folder / f"{draw.choice(['params', 'params', 'grid', 'space'])}.yaml"
    text = path.read_text()
    if draw.random() < 0.5:
        text = changed_text(draw, text, YAML_TOKENS)
    else:
        tree = changed_tree(draw, yaml.load(text, Loader=yaml.CSafeLoader))
        try:
            text = yaml.safe_dump(tree, sort_keys=False)
        except ValueError:  # Python prints no integer of more than 4,300 digits
            text = "a: " + "9" * 5000
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return refused(lambda: check(load_params(folder), load_space(folder)))


def fuzz_bars(draw: random.Random, folder: Path) -> bool:
    """Change a file of bars at random, and read, check and write it."""
    path = folder / "bars.csv"
    text = (folder / "good.csv").read_text()
    path.write_bytes(changed_text(draw, text, CSV_TOKENS).encode())

    def read() -> None:
        bars = as_written(read_bars(path))
        check_bars(bars, YEAR, "datasets.mine")
        written = canonical_csv(bars)
        assert canonical_csv(parse_bars(written, "written")) == written

    return refused(read)


FUZZERS = {"study": fuzz_study, "bars": fuzz_bars}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FUZZERS)
def test_random_change_is_read_or_refused_in_one_short_line(tmp_path: Path, kind: str) -> None:
    sessions = exchange_sessions(YEAR)
    bars = random_bars(len(sessions)).assign(date=sessions)
    bars[PRICES] = bars[PRICES].round(2)
    (tmp_path / "good.csv").write_text(canonical_csv(bars))
    results = set()
    for seed in range(TRIES):
        try:
            results.add(FUZZERS[kind](random.Random(seed), tmp_path))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert results == {True, False}
