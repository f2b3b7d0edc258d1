"""Records of figures as JSON objects, and back.

An estimate `x` becomes the keys `x`, `x_low` and `x_high`, null where it is undefined. A field
with a default is left out while it has that default.
"""

import math
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args

from patchscale.backtest.bootstrap import Estimate

ENDS = ("", "_low", "_high")
Record = TypeVar("Record")


def flatten_estimate(name: str, estimate: Estimate) -> dict[str, float | None]:
    """Return the three keys of an estimate."""
    values = (estimate.value, estimate.low, estimate.high)
    return {
        name + end: None if math.isnan(value) else value
        for end, value in zip(ENDS, values, strict=True)
    }


def flatten(value: Any) -> Any:
    """Return a record, or a dictionary of records, as JSON values."""
    if isinstance(value, dict):
        return {key: flatten(each) for key, each in value.items()}
    if not is_dataclass(value):
        return value
    row: dict[str, Any] = {}
    for field in fields(value):
        found = getattr(value, field.name)
        if isinstance(found, Estimate):
            row |= flatten_estimate(field.name, found)
        elif found is not field.default:
            row[field.name] = flatten(found)
    return row


def restore(kind: type[Record], row: dict[str, Any]) -> Record:
    """Return the record of a class that `flatten` turned into a JSON object.

    Keys that are no field of the class are ignored.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.type is Estimate:
            ends = (row[field.name + end] for end in ENDS)
            values[field.name] = Estimate(*(math.nan if end is None else end for end in ends))
        else:
            values[field.name] = _restored(field.type, row[field.name])
    return kind(**values)


def _restored(kind: Any, value: Any) -> Any:
    if isinstance(kind, UnionType) and value is not None:  # a record or None
        kind = get_args(kind)[0]
    if is_dataclass(kind) and value is not None:
        return restore(kind, value)  # type: ignore[arg-type]
    if isinstance(value, dict):
        return {key: _restored(get_args(kind)[1], each) for key, each in value.items()}
    return value
