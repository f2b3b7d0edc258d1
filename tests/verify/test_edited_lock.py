"""Random single edits of the committed dvc.lock: each is a finding or refused in one line."""

import json
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from locked import track, write

from patchscale.study.errors import InputError
from patchscale.verify import records
from patchscale.verify.lock import locked_stages, read_yaml
from patchscale.verify.objects import PUBLISHED
from patchscale.verify.pipeline import Declared, declared_stages
from patchscale.verify.records import same

TRIES = 60


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
    for stage in locked_stages(root / "dvc.lock").values():
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


def edits(text: str, draw: random.Random) -> Iterator[str]:
    """Yield texts that differ from a text in one place, without end."""
    lines = text.splitlines(keepends=True)
    kinds = ("drop", "drop block", "twice", "swap", "digit", "letter", "word", "value", "indent")
    while True:
        kind, at = draw.choice(kinds), draw.randrange(len(lines))
        line, new = lines[at], list(lines)
        if kind == "drop":
            del new[at]
        elif kind == "drop block":
            depth = len(line) - len(line.lstrip(" "))
            end = at + 1
            while end < len(lines) and len(lines[end]) - len(lines[end].lstrip(" ")) > depth:
                end += 1
            del new[at:end]
        elif kind == "twice":
            new.insert(at, line)
        elif kind == "swap":
            other = draw.randrange(len(lines))
            new[at], new[other] = lines[other], line
        elif kind == "digit":
            digits = [m.start() for m in re.finditer(r"[0-9a-f]", line)]
            if digits:
                place = draw.choice(digits)
                new[at] = line[:place] + draw.choice("0123456789abcdef") + line[place + 1 :]
        elif kind == "letter":
            place = draw.randrange(len(line))
            new[at] = line[:place] + draw.choice("aZ0:-'\"{[#&*!|>% \t\n\x00é") + line[place + 1 :]
        elif kind == "word":
            key, colon, _ = line.partition(":")
            new[at] = f"{key}x{colon}{line.partition(':')[2]}"
        elif kind == "value":
            values = ("", "null", "true", "0", "-1", "1e400", ".nan", "[]", "{}", "../../x", "'x'")
            new[at] = f"{line.partition(':')[0]}: {draw.choice(values)}\n"
        else:
            new[at] = f"  {line}"
        yield "".join(new)


def outcome(root: Path, text: str, original: Any, stages: dict[str, Declared]) -> str:
    """Return how `verify` takes a lock of this text."""
    lock = write(root / "dvc.lock", text.encode())
    try:
        if same(read_yaml(lock), original):
            return "same content"
        rows = list(records.records(locked_stages(lock), stages, root))
    except InputError as error:
        line = str(error)
        return "refused" if "\n" not in line and len(line) < 1000 else f"not one line: {line}"
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
    original = read_yaml(checkout / "dvc.lock")
    rows = records.records(original["stages"], stages, checkout)
    assert {row.verdict for row in rows} == {"reproduced"}
    texts = islice(edits(text, random.Random(0)), TRIES)
    counts = Counter(outcome(checkout, edited, original, stages) for edited in texts)
    assert counts.keys() <= {"differs", "refused", "same content"}
    assert min(counts["differs"], counts["refused"]) > TRIES // 6
