"""Sections of YAML files: typed, without unknown keys, and with errors of one line."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from patchscale.study.errors import InputError, shown
from patchscale.study.safe_yaml import read_yaml


class Section(BaseModel):
    """Base of all sections: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Loaded = TypeVar("Loaded", bound=Section)


def load(path: Path, section: type[Loaded]) -> Loaded:
    """Read a YAML file as a section.

    Raises
    ------
    InputError
        The file is missing or damaged, a key is unknown or missing, or a value has the wrong type;
        one line that names file, key and value, and what is allowed.
    """
    try:
        return section.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {one_line(error, section)}") from None


def one_line(error: ValidationError, section: type[Section]) -> str:
    """Return what is wrong first: its key, its value and what is allowed."""
    problems = error.errors(include_url=False)
    first: Any = problems[0]
    key = ".".join(shown(part).strip("'") for part in first["loc"]) or "the whole file"
    if first["type"] == "extra_forbidden":
        line = f"{key}: unknown key; allowed: {', '.join(_siblings(first['loc'], section))}"
    elif first["type"] == "missing":
        line = f"{key}: missing"
    else:
        rule = first["msg"].removeprefix("Value error, ")
        line = f"{key}: {shown(first['input'])} is not allowed; {rule[0].lower()}{rule[1:]}"
    return line + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")


def _siblings(location: tuple[int | str, ...], section: Any) -> list[str]:
    """Return the keys that are allowed where an unknown one was found."""
    for part in location[:-1]:
        field = section.model_fields.get(part)
        if field is not None:  # otherwise the key of an entry, such as 2M in budgets
            arguments = getattr(field.annotation, "__args__", ())
            section = arguments[-1] if arguments else field.annotation
    return sorted(section.model_fields)
