"""One column: a fixed-width array, or byte strings, with an optional mask of the values that are there.

`DType` is the type of its elements: its number on the wire, its NumPy form and its Open Inference Protocol name.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


class DType(enum.IntEnum):
    """Numbered as headrace.api.batch.v1.DataType. `numpy`: NumPy type of one element, little-endian; object for BYTES."""

    numpy: np.dtype[np.generic]

    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FLOAT16 = 10
    FLOAT32 = 11
    FLOAT64 = 12
    BYTES = 13

    # Enum's own hash runs Python code; types are part of the key of every call that waits in a batcher.
    __hash__ = int.__hash__

    @property
    def oip(self) -> str:
        """Name in the Open Inference Protocol: FP32, INT64, BYTES …"""
        return _OIP[self]

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type; 0 and 1 for BOOL. Raises TypeError for any other type."""
        kind = self.numpy.kind
        if kind not in "iub":
            raise TypeError(f"{self.name} is no integer type")
        bits = 1 if kind == "b" else 8 * self.numpy.itemsize
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else (0, (1 << bits) - 1)

    @property
    def is_float(self) -> bool:
        return self.numpy.kind == "f"


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.BOOL: np.dtype("bool"),
    DType.UINT8: np.dtype("u1"),
    DType.UINT16: np.dtype("<u2"),
    DType.UINT32: np.dtype("<u4"),
    DType.UINT64: np.dtype("<u8"),
    DType.INT8: np.dtype("i1"),
    DType.INT16: np.dtype("<i2"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT64: np.dtype("<f8"),
    DType.BYTES: np.dtype("object"),
}
for _dtype, _numpy in _NUMPY.items():
    _dtype.numpy = _numpy
BY_NUMBER = {int(d): d for d in DType}
"""The types by their numbers on the wire."""
_OIP = {d: d.name.replace("FLOAT", "FP") for d in DType}
_BY_NUMPY = {v: k for k, v in _NUMPY.items()}
_BY_OIP = {v: k for k, v in _OIP.items()}


def of_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The DType of a NumPy type; text and byte strings are BYTES. Raises TypeError for any other kind."""
    if dtype.kind in "SU":
        return DType.BYTES
    found = _BY_NUMPY.get(dtype) or _BY_NUMPY.get(dtype.newbyteorder("<"))
    if found is None:
        raise TypeError(f"no column type for NumPy's {dtype}")
    return found


def of_oip(name: str) -> DType | None:
    """The DType with that Open Inference Protocol name; None if there is none, as for BF16."""
    return _BY_OIP.get(name)


Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]


# Neither class is frozen: creating a frozen dataclass takes three times as long, and a batcher creates several per row.
# No code changes one after it is created.
@dataclass(slots=True, eq=False)
class Ragged:
    """Byte strings of different lengths in one buffer: element i is data[offsets[i]:offsets[i+1]].

    `offsets`: uint32 (elements + 1,), ascending. The first need not be 0 (a slice shares `data`).
    """

    offsets: NDArray[np.uint32]
    data: bytes | memoryview

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, items: Sequence[bytes]) -> Ragged:
        # For one element this takes a sixth of the time of np.cumsum; for a thousand it is still faster.
        offsets = np.fromiter(accumulate(map(len, items), initial=0), np.uint32, len(items) + 1)
        return cls(offsets, b"".join(items))

    def to_list(self) -> list[bytes]:
        """The elements, each a copy."""
        data, bounds = self.data, self.offsets.tolist()
        if not isinstance(data, bytes):
            first = bounds[0]
            data, bounds = bytes(data[first : bounds[-1]]), [b - first for b in bounds]
        return [data[a:b] for a, b in pairwise(bounds)]

    @property
    def nbytes(self) -> int:
        offsets = self.offsets
        return offsets.item(-1) - offsets.item(0)

    def slice(self, start: int, stop: int) -> Ragged:
        return Ragged(self.offsets[start : stop + 1], self.data)

    def take(self, index: NDArray[np.intp]) -> Ragged:
        items = self.to_list()
        return Ragged.of([items[i] for i in index.tolist()])

    def compact(self) -> Ragged:
        """The same elements with offsets from 0, and no other bytes in `data`."""
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        if first == 0 and last == len(self.data):
            return self
        return Ragged(self.offsets - np.uint32(first), self.data[first:last])


@dataclass(slots=True, eq=False)
class Column:
    """The values of one name for all rows of a batch.

    `values`: an array of shape (rows, *row_shape), or Ragged with rows × prod(row_shape) elements.
    `row_shape`: dimensions of 1 or more; () for a scalar per row.
    `valid`: bool (rows,), False where the row has no value (`values` has 0 or an empty string there, without meaning);
    None: all rows have one.
    """

    name: str
    dtype: DType
    values: Array | Ragged
    row_shape: tuple[int, ...] = ()
    valid: Mask | None = None

    @classmethod
    def of(cls, name: str, values: Array, valid: Mask | None = None) -> Column:
        """Column from a fixed-width array of shape (rows, …), C-contiguous little-endian (else copied)."""
        dtype = _BY_NUMPY.get(values.dtype) or of_numpy(values.dtype)
        return cls(name, dtype, np.ascontiguousarray(values, dtype.numpy), values.shape[1:], valid)

    @classmethod
    def of_bytes(cls, name: str, items: Sequence[bytes | None], row_shape: tuple[int, ...] = ()) -> Column:
        """Column of byte strings, `prod(row_shape)` per row. None: no value (only with one string per row)."""
        if None not in items:
            return cls(name, DType.BYTES, Ragged.of(items), row_shape)  # type: ignore[arg-type]  # no None in it
        valid = np.fromiter((i is not None for i in items), bool, len(items))
        return cls(name, DType.BYTES, Ragged.of([i or b"" for i in items]), row_shape, valid)

    @classmethod
    def of_text(cls, name: str, items: Sequence[str | None]) -> Column:
        """Column of text, one per row, as UTF-8. None: no value."""
        return cls.of_bytes(name, [None if i is None else i.encode() for i in items])

    @property
    def row_size(self) -> int:
        size = 1
        for n in self.row_shape:
            size *= n
        return size

    def __len__(self) -> int:
        if isinstance(self.values, Ragged):
            return len(self.values) // self.row_size
        return len(self.values)

    @property
    def array(self) -> Array:
        """The fixed-width values. Raises TypeError for a BYTES column."""
        if isinstance(self.values, Ragged):
            raise TypeError(f"column {self.name} holds byte strings")
        return self.values

    @property
    def ragged(self) -> Ragged:
        """The byte strings. Raises TypeError for a fixed-width column."""
        if not isinstance(self.values, Ragged):
            raise TypeError(f"column {self.name} holds {self.dtype.name}")
        return self.values

    def is_valid(self) -> Mask:
        """bool (rows,): which rows have a value."""
        return np.ones(len(self), bool) if self.valid is None else self.valid

    def text(self) -> list[str | None]:
        """The byte strings as text (invalid UTF-8 replaced), None where there is no value; one string per row only."""
        items = [i.decode(errors="replace") for i in self.ragged.to_list()]
        if self.valid is None:
            return list(items)
        return [i if ok else None for i, ok in zip(items, self.valid.tolist(), strict=True)]

    def slice(self, start: int, stop: int) -> Column:
        """Rows start…stop−1, sharing memory."""
        valid = None if self.valid is None else self.valid[start:stop]
        values = self.values
        if isinstance(values, Ragged):
            if self.row_shape:
                start, stop = start * self.row_size, stop * self.row_size
            part: Array | Ragged = Ragged(values.offsets[start : stop + 1], values.data)
        else:
            part = values[start:stop]
        return Column(self.name, self.dtype, part, self.row_shape, valid)

    def take(self, index: NDArray[np.intp]) -> Column:
        """The rows at the positions `index`, in that order (copied)."""
        valid = None if self.valid is None else self.valid[index]
        if isinstance(self.values, Ragged):
            size = self.row_size
            flat = index if size == 1 else (index[:, None] * size + np.arange(size)).ravel()
            return Column(self.name, self.dtype, self.values.take(flat), self.row_shape, valid)
        return Column(self.name, self.dtype, self.values[index], self.row_shape, valid)

    def renamed(self, name: str) -> Column:
        return Column(name, self.dtype, self.values, self.row_shape, self.valid)


def join(parts: Sequence[Column]) -> Column:
    """The rows of several columns of one name, type and row shape, one column after the other.

    Raises ValueError if type or row shape differ.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    dtype, shape = first.dtype, first.row_shape
    if [p for p in parts if p.dtype is not dtype or p.row_shape != shape]:
        raise ValueError(f"column {first.name} has different types or shapes in one batch")
    valid = None
    if [p for p in parts if p.valid is not None]:
        valid = np.concatenate([p.is_valid() for p in parts])
    if dtype is DType.BYTES:
        return Column(first.name, dtype, _join_ragged([p.ragged for p in parts]), shape, valid)
    return Column(first.name, dtype, np.concatenate([p.values for p in parts]), shape, valid)


# Up to this many parts, a few NumPy calls per part are faster than more NumPy calls for all parts together.
_FEW_PARTS = 6


def _join_few(parts: Sequence[Ragged]) -> Ragged:
    offsets = np.zeros(sum(map(len, parts)) + 1, np.uint32)
    pieces, place, end = [], 1, 0
    for part in parts:
        first, last = part.offsets.item(0), part.offsets.item(-1)
        following = place + len(part)
        # `end - first` may be negative. Modulo 2³² it is a uint32, and the sum wraps to the right offset.
        np.add(part.offsets[1:], np.uint32((end - first) % (1 << 32)), out=offsets[place:following])
        pieces.append(part.data if last - first == len(part.data) else part.data[first:last])
        place, end = following, end + last - first
    return Ragged(offsets, b"".join(pieces))


def _join_ragged(parts: Sequence[Ragged]) -> Ragged:
    if len(parts) <= _FEW_PARTS:
        return _join_few(parts)
    # A few NumPy calls for all parts: with many parts of one element each, calls per part would take most of the time.
    sizes = [len(p.offsets) for p in parts]
    bounds = np.concatenate([p.offsets for p in parts])
    if len(bounds) == 2 * len(parts) and max(sizes) == 2:
        first, last = bounds[::2], bounds[1::2]
        lengths = last - first
    else:
        ends = np.cumsum(sizes)
        first, last = bounds[ends - sizes], bounds[ends - 1]
        # The differences between the last offset of a part and the first of the next one are no lengths.
        lengths = np.delete(np.diff(bounds), ends[:-1] - 1)
    offsets = np.zeros(len(lengths) + 1, np.uint32)
    lengths.cumsum(out=offsets[1:], dtype=np.uint32)
    spans = zip(parts, first.tolist(), last.tolist(), strict=True)
    pieces = [p.data if b - a == len(p.data) else p.data[a:b] for p, a, b in spans]
    return Ragged(offsets, b"".join(pieces))
