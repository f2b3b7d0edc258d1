"""dvc.lock: the hashes of outputs, and whether a file is the one that its stage wrote."""

import hashlib
import json
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from patchscale.study import paths
from patchscale.study.errors import InputError
from patchscale.study.safe_yaml import read_yaml

CACHE = Path(".dvc/cache/files/md5")


class Recorded(NamedTuple):
    """An output in dvc.lock."""

    stage: str
    """Stage that wrote it last."""
    path: Path
    """File or folder."""
    md5: str


def locked_stages(lock: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock; raise InputError if it is missing or damaged."""
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
        return file_md5(path)
    return folder_md5(
        {file.relative_to(path).as_posix(): file_md5(file) for file in files_of(path)}
    )


def files_of(folder: Path) -> list[Path]:
    """Return the files of a directory that DVC hashes."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts  # as in .dvcignore
    ]


def folder_md5(files: dict[str, str]) -> str:
    """Return DVC's hash of a directory, from the hashes of its files by relative path."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return md5_of(json.dumps(listing).encode()) + ".dir"


def object_of(md5: str, root: Path = Path()) -> Path:
    """Return the path of the cached object with a hash."""
    return root / CACHE / md5[:2] / md5[2:]


def refuse_if_damaged(path: Path, content: bytes) -> None:
    """Refuse what a stage reads where it is not what dvc.lock says that another stage wrote.

    DVC itself does not notice a change that leaves the time of a file as it was. How far the lock
    can be trusted depends on who runs the stage:

    * `dvc repro` and `dvc exp run` write the lock after every stage, so that it is up to date.
    * A fan-out writes it at its end, but puts outputs into the cache at once. There a file is
      refused if its record is in the cache and its own content is not.
    * Where a person runs the stage, an earlier stage may also have been run by hand. A line
      says so, and nothing is refused.

    Parameters
    ----------
    path
        Path relative to the current folder; any other is not checked.
    content
        Its bytes.

    Raises
    ------
    InputError
        The content has another hash.
    """
    recorded = _recorded(path)
    if recorded is None:
        return
    whole = path == recorded.path
    found = md5_of(content) if whole else dvc_md5(recorded.path)
    running = os.environ.get("DVC_STAGE")
    if found == recorded.md5 or recorded.stage == running:
        return
    by_hand = running is None and "DVC_ROOT" not in os.environ
    in_fan_out = running is None and not by_hand
    if in_fan_out and (object_of(found).exists() or not object_of(recorded.md5).exists()):
        return
    line = f"{path}: not the file that dvc.lock records as an output of {recorded.stage}"
    if by_hand:
        print(f"{line}; it is read as it is", file=sys.stderr)
        return
    raise InputError(
        f"{line}; `rm {path}`, then `dvc checkout` or `git checkout {path}` restores that one, "
        f"`dvc commit {recorded.stage}` keeps this one"
    )


def _recorded(path: Path) -> Recorded | None:
    """Return the output in dvc.lock that a file is or lies in."""
    try:
        facts = paths.LOCK.stat()
    except OSError:
        return None
    outputs = _outputs(paths.LOCK.resolve(), facts.st_mtime_ns, facts.st_size)
    return next((outputs[each] for each in (path, *path.parents) if each in outputs), None)


@lru_cache(maxsize=1)
def _outputs(lock: Path, modified: int, size: int) -> dict[Path, Recorded]:
    """Return the outputs of a version of dvc.lock.

    A lock that another DVC command is just writing is cut off: what it does not hold whole is not
    checked.
    """
    try:
        stages = locked_stages(lock)
        records = [
            Recorded(stage, Path(out["path"]), out["md5"])
            for stage, entry in stages.items()
            for out in (entry or {}).get("outs") or []
            if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", str(out.get("md5")))
        ]
    except (InputError, AttributeError, KeyError, TypeError):
        return {}
    return {record.path: record for record in records}


def file_md5(path: Path) -> str:
    """Return the MD5 of a file's bytes in hexadecimal, as dvc.lock has it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def md5_of(content: bytes) -> str:
    """Return the MD5 of bytes in hexadecimal."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
