"""Text of an export: encoding, separator, header, and the fields below it as pandas reads them."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from patchscale.bars import MAX_BYTES, PRICES
from patchscale.importing.columns import roles_of
from patchscale.study.errors import InputError, printable, shown

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEADER_WITHIN = 40
"""Lines among which the header is looked for; what stands above it is a title."""


@dataclass
class Export:
    """Fields of an export as text."""

    header: list[str]
    roles: list[str | None]
    """What each column is, None for those that are not used."""
    fields: pd.DataFrame
    """Text by number of the column; the index is the number of the line in the file."""
    separator: str
    too_long: list[int] = field(default_factory=list)
    """Numbers of fields of the lines that have more than the header."""

    def of(self, role: str) -> list[int]:
        """Return the columns with a role."""
        return [number for number, each in enumerate(self.roles) if each == role]

    def texts(self, role: str) -> pd.Series:
        """Return the text of the first column with a role, empty where there is none."""
        columns = self.of(role)
        if not columns:
            return pd.Series("", index=self.fields.index, dtype="str")
        return self.fields[columns[0]]


def read_export(path: Path) -> Export:
    """Read a vendor's file.

    Raises
    ------
    InputError
        The file is missing, larger than 100 MB, a workbook, has no header that names a close, or a
        field in it has no end.
    """
    text = decoded(path)
    lines = text.splitlines()
    found = max(
        (
            (_score(row), -number, separator, row)
            for number, line in enumerate(lines[:HEADER_WITHIN])
            for separator in SEPARATORS
            for row in [_fields(line, separator)]
        ),
        default=(0, 0, ",", []),
    )
    score, number, separator, header = found
    if score < 2:
        first = next((line for line in lines if line.strip()), "")
        raise InputError(
            f"{path}: no line names a date, open, high, low and close in a language that is known "
            f"(docs/cli.md); the first line is {shown(first)}"
        )
    header = [printable(name) for name in header]
    width, rows, too_long = len(header), [], []
    below = csv.reader((f"{line}\n" for line in lines[1 - number :]), delimiter=separator)
    try:
        for line, row in enumerate(below, start=2 - number):
            if any("\n" in text for text in row):
                raise InputError(
                    f"{path}: line {line}: a field goes on in the next line; is a quotation mark "
                    f"not closed?"
                )
            fields = [text.strip() for text in row]
            length = max((place for place, text in enumerate(fields, start=1) if text), default=0)
            if length > width:
                too_long.append(length)
            rows.append(fields[:width] + [""] * (width - len(fields)))
    except csv.Error as error:
        raise InputError(f"{path}: line {2 - number + len(rows)}: {error}") from None
    frame = pd.DataFrame(rows, pd.RangeIndex(2 - number, 2 - number + len(rows)), range(width), str)
    return Export(header, roles_of(header), frame, separator, too_long)


def decoded(path: Path) -> str:
    """Return the text of a file: UTF-8 or UTF-16 by its mark, else Windows' Latin."""
    if not path.is_file():
        raise InputError(f"{path}: missing; a file that a vendor or a spreadsheet exported")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes, which is the limit")
    content = path.read_bytes()
    if content[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise InputError(f"{path}: a workbook; save its sheet as CSV and import that")
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise InputError(f"{path}: not a text file; a CSV is needed")


def _fields(line: str, separator: str) -> list[str]:
    """Return the fields of a line; none where one has more characters than `csv` allows."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _score(row: list[str]) -> int:
    """Return how many of date, open, high, low and close a row names; 0 without a close."""
    roles = roles_of(row)
    if not {"close", "adjusted close"} & set(roles):
        return 0
    return sum(role in roles for role in ("date", *PRICES, "volume"))
