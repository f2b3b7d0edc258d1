"""Reading and writing of files: atomic, with deterministic bytes and errors of one line."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchscale.study.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


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
