"""Random single edits of the committed dvc.lock: each is a finding or refused in one line."""

import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from locked import track, write

from patchscale.study.errors import InputError
from patchscale.verify import records
from patchscale.verify.objects import PUBLISHED
from patchscale.verify.pipeline import Declared, declared_stages
from patchscale.verify.records import same
from patchscale.verify.strict_lock import read_as_dvc, stages_of, strict_stages

TRIES = 150


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository with all published outputs in place."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def copy_checkout(root: Path) -> Path:
    """Copy what stages read and write into a folder, outputs from the published objects."""
    named = ["*.yaml", "dvc.lock", "src", "stages", "inputs", "metrics", "plots", "docs"]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *named],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        write(root / name, (ROOT / name).read_bytes())
    for stage in strict_stages(root / "dvc.lock").values():
        for out in stage["outs"]:
            published = ROOT / PUBLISHED / out["md5"][:2] / out["md5"][2:]
            if out["md5"].endswith(".dir"):
                for entry in json.loads(published.read_text()):
                    content = ROOT / PUBLISHED / entry["md5"][:2] / entry["md5"][2:]
                    target = root / out["path"] / entry["relpath"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(content, target)
            elif published.is_file():
                write(root / out["path"], published.read_bytes())
    track(root)
    return root


def edited_texts(text: str, draw: random.Random) -> Iterator[str]:
    """Yield texts that differ from a text in one line, without end."""
    lines = text.splitlines(keepends=True)
    while True:
        kind = draw.choice(("drop", "twice", "swap", "letter", "indent"))
        at = draw.randrange(len(lines))
        line, new = lines[at], list(lines)
        if kind == "drop":
            del new[at]
        elif kind == "twice":
            new.insert(at, line)
        elif kind == "swap":
            other = draw.randrange(len(lines))
            new[at], new[other] = lines[other], line
        elif kind == "letter":
            place = draw.randrange(len(line))
            new[at] = line[:place] + draw.choice("aZ0:-'\"{[#&*!|>% \t\n\x00é") + line[place + 1 :]
        else:
            new[at] = f"  {line}"
        yield "".join(new)


def edited_contents(content: Any, draw: random.Random) -> Iterator[Any]:
    """Yield contents that differ from that of a lock in one key or value, without end."""
    places = list(below(content))
    while True:
        new = deepcopy(content)
        *above, last = draw.choice(places)
        section = new
        for key in above:
            section = section[key]
        value = section[last]
        kind = draw.choice(("drop", "rename", "more", "value", "value", "other"))
        if kind == "drop":
            del section[last]
        elif kind == "rename" and isinstance(section, dict):
            section[f"{last}x"] = section.pop(last)
        elif kind == "more" and isinstance(value, dict):
            value["more"] = draw.choice((1, "x", None))
        elif kind == "more" and isinstance(value, list):
            value.append(deepcopy(draw.choice(value)) if value else 1)
        elif kind == "other":
            section[last] = draw.choice((None, True, 0, -1, "", "../../x", float("nan"), [], {}))
        else:
            section[last] = near(value, draw)
        yield new


def below(content: Any, *above: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every key and item in a content."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield (*above, key)
            yield from below(value, *above, key)


def near(value: Any, draw: random.Random) -> Any:
    """Return a value of the same type that is a little different."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + draw.choice((-1, 1, 0.5))
    if isinstance(value, str) and value:
        place = draw.randrange(len(value))
        return value[:place] + draw.choice("0123456789abcdef") + value[place + 1 :]
    return draw.choice(("", 1)) if isinstance(value, str) else [value]


def outcome(root: Path, lock: str | Any, original: Any, stages: dict[str, Declared]) -> str:
    """Return how `verify` takes a lock of this text or content."""
    try:
        path = root / "dvc.lock"
        content = read_as_dvc(write(path, lock.encode())) if isinstance(lock, str) else lock
        if same(content, original):
            return "same content"
        rows = list(records.records(stages_of(content, path), stages, root))
    except InputError as error:
        line = str(error)
        return "refused" if line.isprintable() and len(line) < 500 else f"long: {line}"
    found = [row for row in rows if row.verdict == "differs"]
    if not all(row.detail.isprintable() for row in found):
        return "not printable"
    return "differs" if found else "not noticed"


@pytest.mark.slow
def test_every_edit_of_the_committed_lock_is_noticed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "entry_of", cache(records.entry_of))
    text, stages = (checkout / "dvc.lock").read_text(), declared_stages(checkout)
    original = read_as_dvc(checkout / "dvc.lock")
    rows = records.records(original["stages"], stages, checkout)
    assert {row.verdict for row in rows} == {"reproduced"}
    draw = random.Random(0)
    edits = (*islice(edited_texts(text, draw), 10), *islice(edited_contents(original, draw), TRIES))
    counts = Counter(outcome(checkout, edited, original, stages) for edited in edits)
    assert counts.keys() <= {"differs", "refused", "same content"}
    assert min(counts["differs"], counts["refused"]) > TRIES // 6
