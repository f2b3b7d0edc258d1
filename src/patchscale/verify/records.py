"""Compare dvc.lock with files, cached objects, parameters and commands."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from patchscale.study.errors import InputError
from patchscale.study.files import digest, read_json
from patchscale.study.lock import dvc_md5, object_of
from patchscale.study.safe_yaml import read_yaml

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


def entries(listing: Path) -> list[dict[str, str]]:
    """Return the files of a cached directory; none if its listing is damaged."""
    try:
        found: list[dict[str, str]] = read_json(listing)
    except InputError:
        return []
    return found
