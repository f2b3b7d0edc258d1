"""What git tracks and what would lead DVC out of the repository.

DVC collects every dvc.yaml and `*.dvc` of the repository, takes objects from a cache that was
committed with it, and writes and deletes through links.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import Field

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.sections import Section, load
from patchscale.verify.pipeline import tracked
from patchscale.verify.records import DIFFERS, REPRODUCED, Check
from patchscale.verify.strict_lock import Entry, shortened

OF_DVC = re.compile(r"\.dvc/(\.gitignore|config|plots/[\w.-]+\.json)", re.ASCII)
"""What a repository holds of the folder .dvc; the rest of it belongs to one copy."""
KINDS = {"120000": "a link", "160000": "a repository within this one"}
"""What git tracks besides files, by its mode."""


class Added(Section):
    """A file that `dvc add` wrote: outputs without a stage, in DVC's present layout."""

    outs: list[Entry] = Field(min_length=1)


def staying(root: Path) -> Iterator[Check]:
    """Check that nothing which git tracks leads DVC out of the repository, before DVC runs."""
    files = tracked(root)
    for mode, name in files:
        if wrong := KINDS.get(mode) or strange(root, name):
            yield Check(f"tracked file {shortened(name, 120)}", DIFFERS, f"{wrong}; remove it")
    yield Check(f"{len(files)} tracked files", REPRODUCED)


def strange(root: Path, name: str) -> str:
    """Return why DVC must not find a tracked file; an empty text if it may."""
    path = PurePosixPath(name.casefold())
    if ".dvc" in path.parts and not OF_DVC.fullmatch(name):
        return "it belongs to one copy of a repository"
    if path.name in (paths.PIPELINE.name, paths.LOCK.name) and name != path.name:
        return "another pipeline, which DVC would run"
    if path.suffix == ".dvc":
        try:
            load(root / name, Added)
        except InputError as error:
            line = str(error).removeprefix(f"{root / name}: ")
            return f"not what `dvc add` writes ({shortened(line, 160)})"
    return ""
