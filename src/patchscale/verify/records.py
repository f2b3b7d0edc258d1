"""Compare dvc.lock with files, cached objects, parameters and commands."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_json, read_yaml

CACHE = Path(".dvc/cache/files/md5")

REPRODUCED = "reproduced"
WITHIN = "within tolerance"
DIFFERS = "differs"
UNAVAILABLE = "not available"


@dataclass(frozen=True)
class Check:
    """One compared item: what it is, the verdict, and details."""

    what: str
    verdict: str
    detail: str = ""


def locked_stages(lock: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock."""
    try:
        stages = read_yaml(lock)["stages"]
    except (InputError, KeyError, TypeError):
        stages = None
    if not isinstance(stages, dict):
        raise InputError(f"{lock}: missing or damaged; `git checkout {lock}` restores it")
    return stages


def dvc_md5(path: Path) -> str:
    """Return DVC's hash of a file, or of a directory: the MD5 of its sorted listing."""
    if path.is_file():
        return digest(path, "md5")
    return folder_md5(
        {
            file.relative_to(path).as_posix(): digest(file, "md5")
            for file in path.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts  # as in .dvcignore
        }
    )


def folder_md5(files: dict[str, str]) -> str:
    """Return DVC's hash of a directory, from the hashes of its files by relative path."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def records(stages: dict[str, Any], root: Path) -> Iterator[Check]:
    """Compare the outputs, dependencies, parameters and command of every stage with dvc.lock."""
    params = cache(lambda file: read_yaml(root / file))
    hashed = cache(lambda path: dvc_md5(root / path))
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            path = out["path"]
            if not (root / path).exists():
                yield Check(path, UNAVAILABLE, f"of {name}; `dvc pull` brings what is published")
            elif hashed(path) != out["md5"]:
                yield Check(path, DIFFERS, f"from what {name} wrote; `dvc checkout` restores it")
            else:
                yield Check(path, REPRODUCED)
        wrong = [
            dep["path"]
            for dep in stage.get("deps", [])
            if (root / dep["path"]).exists() and hashed(dep["path"]) != dep["md5"]
        ]
        wrong += [
            f"{file}: {key}"
            for file, values in stage.get("params", {}).items()
            for key, value in values.items()
            if look_up(params(file), key) != value
        ]
        if stage["cmd"] != command(name):
            wrong.append(f"cmd: {stage['cmd']}")
        yield Check(
            f"record of {name}",
            DIFFERS if wrong else REPRODUCED,
            f"{', '.join(wrong)}: not what dvc.lock says; `dvc repro {name}` makes it anew"
            if wrong
            else "",
        )


def look_up(params: Any, key: str) -> Any:
    """Return the value of a dotted key, None where there is none."""
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def command(stage: str) -> str:
    """Return the command of a stage: its script, and the word after the @ in its name."""
    script, _, word = stage.partition("@")
    return f"python stages/{script}.py {word}".rstrip()


def cached(stages: dict[str, Any], root: Path) -> Iterator[Check]:
    """Hash every cached object of the outputs; `dvc checkout` would restore a damaged one."""
    found: dict[str, str] = {}
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            found.setdefault(out["md5"], f"{out['path']} of {name}")
            if out["md5"].endswith(".dir") and (listing := object_of(out["md5"], root)).is_file():
                for entry in entries(listing):
                    found.setdefault(entry["md5"], f"{out['path']}/{entry['relpath']} of {name}")
    count = 0
    for md5, whose in found.items():
        path = object_of(md5, root)
        if not path.is_file():
            continue
        count += 1
        if digest(path, "md5") != md5.removesuffix(".dir"):
            where = path.relative_to(root)
            yield Check(
                f"cache object of {whose}",
                DIFFERS,
                f"{where} is damaged; `rm {where}`, then `dvc pull` or `dvc repro`",
            )
    yield Check(f"{count} cache objects", REPRODUCED)


def object_of(md5: str, root: Path) -> Path:
    """Return the path of the cached object with a hash."""
    return root / CACHE / md5[:2] / md5[2:]


def entries(listing: Path) -> list[dict[str, str]]:
    """Return the files of a cached directory; none if its listing is damaged."""
    try:
        found: list[dict[str, str]] = read_json(listing)
    except InputError:
        return []
    return found
