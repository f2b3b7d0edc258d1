"""Reading and writing of files: atomic, with deterministic bytes and errors of one line."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from patchscale.study.errors import InputError, shown

if TYPE_CHECKING:
    import pandas as pd


MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_SCALAR = 500
"""Largest YAML file, its deepest nesting, and its longest key or value in characters."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with LF line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys; raise ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raise InputError if the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; `dvc pull` or `dvc repro` brings it") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); `dvc checkout` restores it") from None


class _Loader(yaml.CSafeLoader):
    """Loader that refuses a key that occurs twice, where YAML would take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"key {shown(twice)} occurs twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a YAML file that a person or a stage wrote.

    The C parser would exhaust memory or the stack on a small malicious file. Its events are
    therefore checked before any value is made: no alias, no tag, and bounds on size and depth.

    Raises
    ------
    InputError
        The file is missing, damaged or too large, or uses what these files do not need.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes, which is the limit")
        text = content.decode("utf-8")
        _check_events(text, path)
        return yaml.load(text, Loader=_Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a value like 2018-13-45
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not valid YAML ({reason})") from None


def _check_events(text: str, path: Path) -> None:
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
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise InputError(f"{path}: line {line}: {problem}")


def write_arrow(path: Path, frame: "pd.DataFrame") -> None:
    """Write an Arrow IPC file whose bytes depend only on the values of the frame.

    Column `date` is stored as date32. Pandas metadata, which names library versions, is dropped.
    """
    import pyarrow as pa
    from pyarrow import feather

    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = []
    for field in table.schema:
        kind = field.type
        if field.name == "date":
            kind = pa.date32()
        elif pa.types.is_large_string(kind):
            kind = pa.string()
        fields.append(pa.field(field.name, kind))
    table = table.cast(pa.schema(fields)).combine_chunks()
    with replacing(path) as temporary:
        feather.write_feather(table, str(temporary), compression="zstd")


def read_arrow(path: Path) -> "pd.DataFrame":
    """Read an Arrow IPC file; column `date` is returned as datetime64.

    Raises
    ------
    InputError
        The file is missing or is not Arrow IPC.
    """
    import pandas as pd
    import pyarrow as pa
    from pyarrow import feather

    if not path.is_file():
        raise InputError(f"{path}: missing; `dvc pull` or `dvc repro` brings it")
    try:
        frame: pd.DataFrame = feather.read_table(str(path), memory_map=False).to_pandas()
        if "date" in frame:
            frame["date"] = pd.to_datetime(frame["date"])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged ({line}); `dvc checkout` restores it") from None
    return frame


def write_csv(path: Path, frame: "pd.DataFrame", decimals: int = 6) -> None:
    """Write a CSV with LF line ends and a fixed number of decimals."""
    with replacing(path) as temporary:
        frame.to_csv(
            temporary,
            index=False,
            float_format=f"%.{decimals}f",
            lineterminator="\n",
            date_format="%Y-%m-%d",
        )


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's bytes in hexadecimal; dvc.lock uses `md5`."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()
