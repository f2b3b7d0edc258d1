"""Strict reading of dvc.lock, with the parser that DVC uses."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from patchscale.study.errors import InputError, printable, without_secrets
from patchscale.study.safe_yaml import checked_text
from patchscale.study.sections import Section, one_line


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


def strict_stages(lock: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock.

    Raises
    ------
    InputError
        The file is missing or damaged, a key is unknown or missing, or a value has the wrong type;
        one line that names file, key and value.
    """
    try:
        return stages_of(read_as_dvc(lock), lock)
    except InputError as error:
        raise InputError(f"{error}; `git checkout {lock}` restores it") from None


def stages_of(content: Any, lock: Path) -> dict[str, Any]:
    """Return the stages in the content of dvc.lock; raise InputError as `strict_stages` does."""
    try:
        Lock.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{lock}: damaged ({one_line(error, Lock)})") from None
    stages: dict[str, Any] = content["stages"]
    return stages


def read_as_dvc(path: Path) -> Any:
    """Return a YAML file's content as DVC reads it; raise InputError as `checked_text` does."""
    from dvc.utils.serialize import ParseError, parse_yaml

    text = checked_text(path)
    try:
        return parse_yaml(text, str(path))
    except (ValueError, ParseError) as error:
        raise InputError(f"{path}: damaged ({shortened(error, 120)})") from None


def shortened(text: object, length: int = 60) -> str:
    """Return a text as one line of printable characters that is not longer than `length`."""
    line = without_secrets(printable(text))
    return line if len(line) <= length else line[: length - 3] + "..."
