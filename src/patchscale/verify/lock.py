"""Reading of dvc.lock, and of YAML that nobody has looked at.

A document is measured before it is parsed: parsers written in C end the process where lists are
nested too deep.
"""

import reprlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from patchscale.study.errors import InputError
from patchscale.study.params import Section

DEEPEST = 50
"""Levels of nesting allowed in a YAML file; the deepest file of the study has 9."""
LARGEST = 1_000_000
"""Nodes allowed in a YAML file, where an alias counts as all that it stands for."""


def inside(path: str) -> str:
    """Return a relative path; raise ValueError if it could lead out of its folder."""
    windows = PureWindowsPath(path)
    plain = PurePosixPath(path).as_posix() == path and path not in ("", ".") and "\0" not in path
    if not plain or windows.anchor or ".." in windows.parts:
        raise ValueError("a relative path below its folder is needed")
    return path


def md5_name(suffix: str = "") -> Any:
    """Return the type of a hash in hexadecimal, with an optional suffix."""
    return Field(pattern=rf"^[0-9a-f]{{32}}{suffix}$")


Inside = Annotated[str, AfterValidator(inside)]
Count = Annotated[int, Field(ge=0)]


class Entry(Section):
    """A dependency or an output in dvc.lock."""

    path: Inside
    hash: Literal["md5"]
    md5: Annotated[str, md5_name(r"(\.dir)?")]
    size: Count
    nfiles: Count | None = None
    isexec: Literal[True] | None = None


class LockedStage(Section):
    """A stage in dvc.lock."""

    cmd: str
    deps: list[Entry] = Field(default_factory=list)
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)
    outs: list[Entry] = Field(default_factory=list)


class Lock(Section):
    """All of dvc.lock."""

    schema_: Literal["2.0"] = Field(alias="schema")
    stages: dict[str, LockedStage]


def locked_stages(lock: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock.

    Raises
    ------
    InputError
        The file is missing or damaged, a key is unknown or missing, or a value has the wrong type;
        one line that names file, key and value.
    """
    try:
        return stages_of(read_yaml(lock), lock)
    except InputError as error:
        raise InputError(f"{error}; `git checkout {lock}` restores it") from None


def stages_of(content: Any, lock: Path) -> dict[str, Any]:
    """Return the stages in the content of dvc.lock; raise InputError as `locked_stages` does."""
    try:
        Lock.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{lock}: damaged ({one_line(error)})") from None
    stages: dict[str, Any] = content["stages"]
    return stages


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file as DVC reads it.

    Raises
    ------
    InputError
        The file is missing, is not YAML, is nested too deep or is too large.
    """
    from dvc.utils.serialize import ParseError, parse_yaml

    try:
        text = path.read_text(encoding="utf-8")
        measure(yaml.parse(text, Loader=yaml.CSafeLoader))
        return parse_yaml(text, str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except (OSError, ValueError, yaml.YAMLError, ParseError) as error:
        raise InputError(f"{path}: damaged ({shortened(error, 120)})") from None


def measure(events: Iterable[yaml.Event]) -> None:
    """Raise ValueError where the events of a YAML file are nested too deep or are too many."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(str(event.anchor), LARGEST + 1)  # or a node in itself
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > DEEPEST + 1:
                raise ValueError(f"nested deeper than {DEEPEST} levels")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        above, total = open_nodes[-1]
        open_nodes[-1] = above, total + size
        if total + size > LARGEST:
            raise ValueError(f"more than {LARGEST} nodes")


def one_line(error: ValidationError) -> str:
    """Return what is wrong first in checked data: its key, its value and what is allowed."""
    first = error.errors(include_url=False)[0]
    key = shortened(".".join(map(str, first["loc"])) or "the whole file", 120)
    missing = first["type"] in ("missing", "extra_forbidden")
    value = "" if missing else f"{short(first['input'])}: "
    return f"{key}: {value}{first['msg']}"


def short(value: object) -> str:
    """Return the repr of a value, cut to a few words and without line breaks."""
    cut = reprlib.Repr()
    cut.maxstring = cut.maxother = 60
    cut.maxlevel = 2
    return shortened(cut.repr(value), 80)


def shortened(text: object, length: int = 60) -> str:
    """Return a text as one line of printable characters that is not longer than `length`."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= length else line[: length - 3] + "..."
