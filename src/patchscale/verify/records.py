"""Compare dvc.lock with what dvc.yaml declares, and with files and parameters."""

import math
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from patchscale.study.errors import shown, some
from patchscale.study.lock import dvc_md5, files_of
from patchscale.verify.pipeline import Declared

REPRODUCED = "reproduced"
WITHIN = "within tolerance"
DIFFERS = "differs"
UNAVAILABLE = "not available"

SHOWN = 5
"""Flaws of one stage that are named."""


@dataclass(frozen=True)
class Check:
    """One compared item: what it is, the verdict, and details."""

    what: str
    verdict: str
    detail: str = ""


def entry_of(path: str, root: Path) -> dict[str, Any]:
    """Return what dvc.lock says of a file or directory as it is here."""
    target = root / path
    entry = {"path": path, "hash": "md5", "md5": dvc_md5(target)}
    if target.is_file():
        facts = target.stat()
        executable = facts.st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return entry | {"size": facts.st_size} | ({"isexec": True} if executable else {})
    files = files_of(target)
    return entry | {"size": sum(file.stat().st_size for file in files), "nfiles": len(files)}


def records(lock: dict[str, Any], stages: dict[str, Declared], root: Path) -> Iterator[Check]:
    """Compare the record of every stage with what dvc.yaml declares and with the files here.

    Parameters
    ----------
    lock
        Stages of dvc.lock.
    stages
        Stages of dvc.yaml.
    root
        The repository.
    """
    here = cache(lambda path: entry_of(path, root))
    made = {out["path"]: out for stage in lock.values() for out in stage.get("outs", [])}
    for name in lock:
        if name not in stages:
            yield Check(f"record of {shown(name)}", DIFFERS, "dvc.yaml has no such stage")
    for name, stage in stages.items():
        if name not in lock:
            yield Check(
                f"record of {name}", DIFFERS, f"dvc.lock has none; `dvc repro {name}` makes it"
            )
            continue
        outs = {out["path"]: out for out in lock[name].get("outs", [])}
        for path in stage.outs:
            if path not in outs:
                continue
            if not (root / path).exists():
                yield Check(path, UNAVAILABLE, f"of {name}; `dvc pull` brings what is published")
            elif here(path) != outs[path]:
                yield Check(path, DIFFERS, f"from what {name} wrote; `dvc checkout` restores it")
            else:
                yield Check(path, REPRODUCED)
        wrong = list(flaws(lock[name], stage, here, made, root))
        yield Check(
            f"record of {name}",
            DIFFERS if wrong else REPRODUCED,
            f"{some(wrong, SHOWN)}: not what dvc.lock says; `dvc repro {name}` makes it anew"
            if wrong
            else "",
        )


def flaws(
    locked: dict[str, Any], stage: Declared, here: Any, made: dict[str, Any], root: Path
) -> Iterator[str]:
    """Yield what in the record of a stage is not as declared, except the files of its outputs."""
    if locked["cmd"] != stage.command:
        yield f"cmd: {shown(locked['cmd'])}"
    for part, declared in (("deps", stage.deps), ("outs", stage.outs)):
        named = Counter(entry["path"] for entry in locked.get(part, []))
        yield from (f"{part}: {path} has no record" for path in declared if path not in named)
        yield from (
            f"{part}: {shown(path)} is not declared" for path in sorted(named.keys() - {*declared})
        )
        yield from (f"{part}: {shown(path)} occurs twice" for path in named if named[path] > 1)
    for dep in locked.get("deps", []):
        path = dep["path"]
        if path not in stage.deps:
            continue
        if (root / path).exists():
            if here(path) != dep:
                yield path
        elif path in made:
            if made[path] != dep:
                yield path
        elif not any(
            f"{out}/".startswith(f"{path}/") or path.startswith(f"{out}/") for out in made
        ):
            yield f"{path} is missing"  # a part of an output that is not here is not available
    params = locked.get("params", {})
    for file in sorted(params.keys() | stage.params.keys()):
        said, true = params.get(file, {}), stage.params.get(file, {})
        yield from (
            f"{file}: {key}"
            for key, value in true.items()
            if key not in said or not same(said[key], value)
        )
        yield from (
            f"{shown(file)}: {shown(key)} is not declared" for key in said if key not in true
        )
        if not said or not true:
            yield f"{shown(file)}: {'no record' if file not in params else 'not declared'}"


def same(one: Any, other: Any, relative: float = 0.0, absolute: float = 0.0) -> bool:
    """Tell whether two values of YAML or JSON are the same in type and value.

    1 is neither 1.0 nor true. Floats may differ by the tolerances of `math.isclose`.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(one[key], other[key], relative, absolute) for key in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(
            same(*pair, relative, absolute) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=relative, abs_tol=absolute)
    return bool(one == other)
