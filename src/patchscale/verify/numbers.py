"""Compare files that were made again on a processor which rounds otherwise."""

from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.study.errors import InputError
from patchscale.study.files import read_arrow, read_csv, read_json
from patchscale.study.lock import files_of
from patchscale.verify.records import same

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Largest difference of a number, as a share of it and near zero. NumPy's logarithm has other last
bits with AVX-512 than without; that moves published features by up to 1.5e-13 of their size, and
p-values by up to 1e-13 (docs/LOG.md)."""


def close(made: Path, published: Path) -> bool:
    """Tell whether two files or folders are the same but for the last bits of numbers.

    Tables (.arrow, .csv) and .json files are compared value by value, with `RELATIVE` and
    `ABSOLUTE` for floats; everything else byte by byte.
    """
    if made.is_dir() and published.is_dir():
        names = [[file.relative_to(base) for file in files_of(base)] for base in (made, published)]
        return names[0] == names[1] and all(
            close(made / name, published / name) for name in names[0]
        )
    if not (made.is_file() and published.is_file()):
        return False
    if made.read_bytes() == published.read_bytes():
        return True
    try:
        match published.suffix:
            case ".arrow":
                return close_tables(read_arrow(made), read_arrow(published))
            case ".csv":
                return close_tables(read_csv(made), read_csv(published))
            case ".json":
                return same(read_json(made), read_json(published), RELATIVE, ABSOLUTE)
    except InputError:  # one of them is damaged
        return False
    return False


def close_tables(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Tell whether tables have the same columns, types and rows, and floats that are close."""
    if list(one) != list(other) or len(one) != len(other) or list(one.dtypes) != list(other.dtypes):
        return False
    floats = one.dtypes.index[[kind.kind == "f" for kind in one.dtypes]]
    exact = one.columns.difference(floats)
    near = np.isclose(one[floats], other[floats], rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return bool(near.all()) and one[exact].equals(other[exact])
