"""Reading and writing of files: atomic, with deterministic bytes and errors of one line."""

import errno
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchscale.study.errors import InputError, of_machine
from patchscale.study.lock import refuse_if_damaged

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path, *, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` if the block succeeds.

    What a killed process left of this file is removed first.

    Parameters
    ----------
    path
        The file.
    flushed
        Whether the disk holds the new file before it replaces the old one. Only what may be lost
        when the machine stops can do without.

    Raises
    ------
    Stopped
        The disk is full, read-only or broken. The old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        if flushed:
            flush(temporary)
        temporary.replace(path)
        if flushed:
            flush(path.parent)
    except Exception as error:
        if fault := of_machine(error, path):
            raise fault from None
        raise
    finally:
        with suppress(OSError):  # a read-only disk has no such file and refuses to look
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until the disk holds a file, or the names in a folder."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise  # some network file systems flush names by themselves and know no such call
    finally:
        os.close(handle)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` whose processes have ended."""
    for file in path.parent.glob(".*.tmp"):
        name = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d+)\.tmp", file.name)
        if name and not _lives(int(name[1])):
            file.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with LF line ends."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys; raise ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read a file; the content of an output of another stage is checked against dvc.lock.

    Raises
    ------
    InputError
        The file is missing, cannot be read, or is not what dvc.lock records.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: missing; `dvc pull` or `dvc repro` brings it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    refuse_if_damaged(path, content)
    return content


def read_json(path: Path, *keys: str) -> Any:
    """Read JSON; raise InputError if the file is missing or damaged, or lacks one of the keys."""
    content = read_bytes(path)
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); `dvc checkout` restores it") from None
    if missing := [key for key in keys if not isinstance(value, dict) or key not in value]:
        raise InputError(f"{path}: {missing[0]}: missing; `dvc checkout` restores it")
    return value


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON object with its own SHA-256, for `read_sealed`."""
    write_json(path, {**facts, "sha256": _seal(facts)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_sealed` wrote.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ValueError
        It is not JSON, not an object, or has another hash.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(facts, dict) or facts.pop("sha256", None) != _seal(facts):
        raise ValueError("it has another hash")
    return facts


def _seal(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


MAX_TABLE = 1 << 30
"""Bytes that the columns of a table may take once they are not compressed."""
COMPRESSED = re.compile(rb"(?s)(.{8})(?=\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|[\x50-\x5f]\x2a\x4d\x18)")
"""Length of a column in an Arrow file, before the mark of Zstandard, LZ4 or a skipped frame."""


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

    All of it is validated before any value is used: pyarrow trusts the offsets in a file, and a
    wrong one would end the process.

    Raises
    ------
    InputError
        The file is missing, is not what dvc.lock records, or is not Arrow IPC.
    """
    import pandas as pd
    import pyarrow as pa
    from pyarrow import feather

    content = read_bytes(path)
    try:
        _refuse_growth(content)
        table = feather.read_table(pa.BufferReader(content), memory_map=False)
        table.validate(full=True)
        if len(set(table.schema.names)) < len(table.schema.names):
            raise ValueError("a column occurs twice")
        if "date" in table.schema.names and table.schema.field("date").type != pa.date32():
            raise ValueError("column date holds no days")
        frame: pd.DataFrame = table.to_pandas()
        if "date" in frame:
            frame["date"] = pd.to_datetime(frame["date"])
    except (
        pa.ArrowException,
        MemoryError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
    ) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: damaged ({line}); `dvc checkout` restores it") from None
    return frame


def _refuse_growth(content: bytes) -> None:
    """Raise ValueError for a small file whose columns would take gigabytes of memory."""
    import pyarrow as pa

    known = (pa.types.is_primitive, pa.types.is_string, pa.types.is_large_string)
    for kind in pa.ipc.open_file(pa.BufferReader(content)).schema.types:
        item = kind.value_type if pa.types.is_list(kind) else kind
        if not any(is_known(item) for is_known in known):
            raise ValueError(f"a column of type {kind}")
    lengths = [int.from_bytes(each, "little") for each in COMPRESSED.findall(content)]
    # where four bytes are such a mark by chance, the eight before them are no length
    total = sum(length for length in lengths if length < 1 << 40)
    if total > MAX_TABLE:
        raise ValueError(f"{total:,} bytes of columns; {MAX_TABLE:,} are allowed")


def read_csv(path: Path) -> "pd.DataFrame":
    """Read a CSV table with a header; raise InputError if it is missing or damaged."""
    import pandas as pd

    content = read_bytes(path)
    try:
        return pd.read_csv(io.BytesIO(content))
    except ValueError as error:
        line = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged ({line}); `dvc checkout` restores it") from None


def write_metrics(
    path: Path, figures: Mapping[str, Any], significant: Collection[str] = ()
) -> None:
    """Write what DVC compares: floats with four decimals, null where they are undefined.

    Those named in `significant` have three significant digits instead, however small they are.
    """
    write_json(path, {name: _short(figures[name], name in significant) for name in figures})


def _short(value: Any, significant: bool) -> Any:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.3g}") if significant else round(value, 4)


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


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
