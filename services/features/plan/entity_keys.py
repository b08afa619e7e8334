"""Entity keys: turns the join-key columns of a batch into the distinct keys under which the online store holds rows.

The encoding is Feast's entity key, version 3: the number of join keys, their names in order, then their values in the same
order, each with type and length. Feast's docs/specs/online_store_format.md specifies it; a test compares with Feast's
own encoder.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import count, repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType, Ragged
from services.features.errors import missing_column, wrong_column

if TYPE_CHECKING:
    # At run time plan.py imports this module.
    from services.features.plan.plan import JoinKey, ViewPlan

_TAKER = "the store's key"
# Numbers of feast.types.ValueType.
_STRING, _INT32, _INT64 = 2, 3, 4
_INTEGERS = {DType.INT32: (_INT32, "<IIi"), DType.INT64: (_INT64, "<IIq")}

Parts = Mapping[str, Sequence[bytes | None]]
"""By join key: each row's value as stored keys hold it; None where there is none."""


class EntityKeys:
    """The distinct keys of a batch for one view.

    `index`: per row, the position of its key in `keys`; len(`keys`) for a row without a key. None: row i has key i.
    `index_array`: the same as an array.
    """

    __slots__ = ("index", "index_array", "keys")

    def __init__(self, keys: list[bytes], index: list[int] | None) -> None:
        self.keys = keys
        self.index = index
        self.index_array = None if index is None else np.array(index, np.intp)


def prefix(names: Sequence[str]) -> bytes:
    """The bytes with which all entity keys of these join keys begin. `names`: sorted."""
    encoded = [name.encode() for name in names]
    return struct.pack("<I", len(names)) + b"".join(struct.pack("<II", _STRING, len(n)) + n for n in encoded)


def read_parts(columns: Mapping[str, Column], keys: Sequence[JoinKey]) -> Parts:
    """The values of each join key.

    Raises Fault INVALID_ARGUMENT for a column that is missing or of another type.
    """
    return {key.name: _parts(columns.get(key.name), key) for key in keys}


def distinct(view: ViewPlan, parts: Parts, rows: int) -> EntityKeys:
    """The distinct stored keys of `rows` rows. A row that lacks one of the join keys has no stored key."""
    prefix = view.key_prefix
    found: list[bytes | None]
    names = view.key_names
    if len(names) == 1:
        found = [part and prefix + part for part in parts[names[0]]]
    else:
        columns = [parts[name] for name in names]
        if [column for column in columns if None in column]:
            found = [None if None in row else prefix + b"".join(row) for row in zip(*columns, strict=True)]
        else:
            found = list(map(b"".join, zip(repeat(prefix, rows), *columns, strict=True)))
    once = dict.fromkeys(found)
    if len(once) == rows and None not in once:
        return EntityKeys(found, None)  # type: ignore[arg-type]  # no None in it
    once.pop(None, None)
    whole: list[bytes] = list(once)  # type: ignore[arg-type]  # None was taken out
    index: dict[bytes | None, int] = dict(zip(whole, count(), strict=False))
    index[None] = len(whole)
    return EntityKeys(whole, list(map(index.__getitem__, found)))


def _parts(column: Column | None, key: JoinKey) -> Sequence[bytes | None]:
    if column is None:
        raise missing_column(key.name, _TAKER)
    values, valid = column.values, column.valid
    if column.row_shape or (column.dtype is not key.dtype and not _is_read_as(column.dtype, key.dtype)):
        raise wrong_column(column, _TAKER, "text" if key.dtype is DType.BYTES else "an integer")
    if isinstance(values, Ragged):
        heads = _TEXT_HEADS
        parts = [heads[len(value)] + value for value in values.to_list()]
    else:
        numbers, valid = _in_range(column, key)
        parts = _integer_parts(numbers, key.dtype)
    if valid is None:
        return parts
    return [part if ok else None for part, ok in zip(parts, valid.tolist(), strict=True)]


def _is_read_as(given: DType, wanted: DType) -> bool:
    return wanted is not DType.BYTES and given.numpy.kind in "iu"


def _in_range(column: Column, key: JoinKey) -> tuple[list[int], NDArray[np.bool_] | None]:
    """The numbers, and which rows have a number that fits the key's type (None: all). Numbers that do not fit have no entity."""
    numbers: list[int] = column.array.tolist()
    if np.can_cast(column.dtype.numpy, key.dtype.numpy):
        return numbers, column.valid
    low, high = key.dtype.bounds
    fits = np.array([low <= n <= high for n in numbers], bool)
    return [n if low <= n <= high else 0 for n in numbers], fits & column.is_valid()


class _TextHeads(dict[int, bytes]):
    """What stands before a text in stored keys, by the length of its UTF-8. Those of long texts are not kept."""

    def __missing__(self, size: int) -> bytes:
        return struct.pack("<II", _STRING, size)


_TEXT_HEADS = _TextHeads({size: struct.pack("<II", _STRING, size) for size in range(256)})


def _integer_parts(numbers: Sequence[int], dtype: DType) -> list[bytes]:
    """Values of an INT32 or INT64 join key, encoded as in entity keys."""
    kind, layout = _INTEGERS[dtype]
    pack, size = struct.Struct(layout).pack, dtype.numpy.itemsize
    return [pack(kind, size, n) for n in numbers]
