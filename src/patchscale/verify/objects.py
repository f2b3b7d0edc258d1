"""Objects of DVC: files named by the MD5 of their content, and listings of folders."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from patchscale.study.errors import InputError
from patchscale.study.lock import file_md5, object_of
from patchscale.study.sections import Section, one_line
from patchscale.verify.records import DIFFERS, REPRODUCED, Check
from patchscale.verify.strict_lock import Inside, md5_name, shortened

PUBLISHED = Path("published/files/md5")
STORE = PUBLISHED.parents[1]
OBJECT = re.compile(rf"{PUBLISHED.as_posix()}/[0-9a-f]{{2}}/[0-9a-f]{{30}}(\.dir)?")


class Listed(Section):
    """A file in the listing of a folder."""

    md5: Annotated[str, md5_name()]
    relpath: Inside


LISTING = TypeAdapter(list[Listed])


def published(root: Path) -> Iterator[Check]:
    """Check every file of the folder that `dvc pull` reads, before DVC reads it.

    DVC writes the files of a listing wherever their names lead to, and takes objects from the
    layout of its older versions as well.
    """
    count = 0
    for path in sorted((root / STORE).rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        count += 1
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or not path.is_file() or not OBJECT.fullmatch(name):
            wrong = "not an object that DVC has written; remove it"
        else:
            wrong = flaw(path, path.parent.name + path.name)
            wrong += f"; `git checkout {name}` restores it" if wrong else ""
        if wrong:
            yield Check(f"published object {shortened(name, 120)}", DIFFERS, wrong)
    yield Check(f"{count} published objects", REPRODUCED)


def cached(lock: dict[str, Any], root: Path) -> Iterator[Check]:
    """Hash every cached object of the outputs; `dvc checkout` would restore a damaged one."""
    found: dict[str, str] = {}
    for name, stage in lock.items():
        for out in stage.get("outs", []):
            found.setdefault(out["md5"], f"{out['path']} of {shortened(name)}")
            if out["md5"].endswith(".dir") and (listing := object_of(out["md5"], root)).is_file():
                for md5, file in entries(listing):
                    found.setdefault(md5, f"{out['path']}/{file} of {shortened(name)}")
    count = 0
    for md5, whose in found.items():
        path = object_of(md5, root)
        if not path.is_file():
            continue
        count += 1
        if wrong := flaw(path, md5):
            where = path.relative_to(root)
            yield Check(
                f"cache object of {whose}",
                DIFFERS,
                f"{where} is damaged ({wrong}); `rm {where}`, then `dvc pull` or `dvc repro`",
            )
    yield Check(f"{count} cache objects", REPRODUCED)


def flaw(path: Path, md5: str) -> str:
    """Return what is wrong with an object; an empty text if nothing is."""
    if file_md5(path) != md5.removesuffix(".dir"):
        return "its content has another MD5"
    if md5.endswith(".dir"):
        try:
            read_listing(path)
        except InputError as error:
            return str(error)
    return ""


def read_listing(path: Path) -> list[Listed]:
    """Return the files of a folder from its listing.

    Raises
    ------
    InputError
        It is not a listing, or a name in it leads out of the folder or occurs twice.
    """
    try:
        listing = LISTING.validate_python(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        line = one_line(error, Listed) if isinstance(error, ValidationError) else shortened(error)
        raise InputError(f"not a listing: {line}") from None
    if len({entry.relpath for entry in listing}) < len(listing):
        raise InputError("not a listing: a name occurs twice")
    return listing


def entries(listing: Path) -> list[tuple[str, str]]:
    """Return hash and name of each file of a cached folder; none if its listing is damaged."""
    try:
        return [(entry.md5, entry.relpath) for entry in read_listing(listing)]
    except InputError:
        return []
