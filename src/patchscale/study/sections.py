"""Sections of YAML files: typed, without unknown keys, and with errors of one line."""

from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from patchscale.study.errors import InputError, shown
from patchscale.study.safe_yaml import read_yaml

NUMBERS: dict[Any, str] = {int: "an integer", float: "a number"}
BOUNDS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
"""Words of a message for the bounds of a number in the schema."""


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
    """Return what is wrong first: its key, its value and what is allowed.

    An unknown key goes before all else, for where a key is misspelt the right one is missing as
    well; that it is missing is then not counted.
    """
    problems: list[Any] = list(error.errors(include_url=False))
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    location = first["loc"]
    key = ".".join(shown(part).strip("'") for part in location) or "the whole file"
    fields = _fields(location, section)
    follows: tuple[Any, ...] = ()
    if first["type"] == "extra_forbidden":
        near = get_close_matches(str(location[-1]), fields, 1)
        hint = f", perhaps {near[0]}" if near else ""
        line = f"{key}: unknown key{hint}; allowed: {', '.join(sorted(fields))}"
        follows = (*location[:-1], *near)
    elif first["type"] == "missing":
        line = f"{key}: missing"
    else:
        line = f"{key}: {shown(first['input'])} is not allowed; {_rule(first, fields)}"
    more = sum(
        each is not first and (each["type"], each["loc"]) != ("missing", follows)
        for each in problems
    )
    return line + (f" (and {more} more)" if more else "")


def _fields(location: tuple[int | str, ...], section: Any) -> dict[str, FieldInfo]:
    """Return the keys that are allowed where a problem was found, none outside a section."""
    for part in location[:-1]:
        fields = getattr(section, "model_fields", {})
        if part in fields:  # otherwise the key of an entry, such as 2M in budgets
            section = fields[part].annotation
            while arguments := [each for each in get_args(section) if each is not NoneType]:
                section = arguments[-1] if get_origin(section) is not Annotated else arguments[0]
    return getattr(section, "model_fields", {})


def _rule(problem: Any, fields: dict[str, FieldInfo]) -> str:
    """Return what is allowed: a number's whole range, the choices, or what pydantic says."""
    field = fields.get(problem["loc"][-1]) if problem["loc"] else None
    if field and field.annotation in NUMBERS:
        bounds = [
            f"{words} {getattr(each, sign):,}"
            for sign, words in BOUNDS.items()
            for each in field.metadata
            if hasattr(each, sign)
        ]
        return f"{NUMBERS[field.annotation]} {' and '.join(bounds)} is needed"
    if problem["type"] == "literal_error":
        return f"{problem['ctx']['expected']} is needed"
    rule = problem["msg"].removeprefix("Value error, ")
    return f"{rule[0].lower()}{rule[1:]}"
