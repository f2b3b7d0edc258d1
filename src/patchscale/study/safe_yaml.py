"""Read YAML files that anybody may have written."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from patchscale.study.errors import InputError, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_SCALAR = 500
"""Largest YAML file, its deepest nesting, and its longest key or value in characters."""
TWO_WAYS = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
"""Numbers that YAML 1.1, read here, and 1.2, read by DVC, take for others: 017 is 15 or 17."""


class _Loader(yaml.CSafeLoader):
    """Loader that refuses a key that occurs twice, where YAML would take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"key {shown(twice)} occurs twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a YAML file that a person or a stage wrote; raise InputError as `checked_text` does."""
    return parse_yaml(_read(path), path)


def parse_yaml(text: str, name: object) -> Any:
    """Return the content of a YAML text.

    Parameters
    ----------
    text
        The text.
    name
        What the text is called in messages.

    Raises
    ------
    InputError
        The text is damaged, or uses what these files do not need.
    """
    _check_events(text, name)
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a value like 2018-13-45
        raise _not_valid(name, error) from None


def checked_text(path: Path) -> str:
    """Return the text of a YAML file that any parser can read.

    Raises
    ------
    InputError
        The file is missing, damaged or too large, or uses what these files do not need.
    """
    text = _read(path)
    _check_events(text, path)
    return text


def _read(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes, which is the limit")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from None


def _not_valid(name: object, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).replace('in "<unicode string>", line', "at line")
    return InputError(f"{name}: not valid YAML ({reason[:300]})")


def _check_events(text: str, name: object) -> None:
    """Refuse a text before any value is made of it: alias, tag, deep nesting or a long scalar.

    A parser written in C would exhaust memory or the stack on a small malicious text.
    """
    try:
        problem = next(_problems(text), "")
    except (yaml.YAMLError, UnicodeError) as error:
        raise _not_valid(name, error) from None
    if problem:
        raise InputError(f"{name}: {problem}")


def _problems(text: str) -> Iterator[str]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        problem = ""
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "an anchor or alias (& or *) is not allowed; write the values out"
        elif tag := getattr(event, "tag", None):
            problem = f"the tag {shown(tag)} is not allowed"
        elif depth > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} deep"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            length = len(event.value)
            problem = f"a key or value of {length:,} characters; {MAX_SCALAR} are allowed"
        elif (
            isinstance(event, yaml.ScalarEvent)
            and event.implicit[0]
            and TWO_WAYS.fullmatch(event.value)
        ):
            problem = (
                f"{event.value} is read in two ways by two versions of YAML; a number without a "
                f"leading 0, or a text in quotes, is needed"
            )
        if problem:
            yield f"line {event.start_mark.line + 1 if event.start_mark else 1}: {problem}"
