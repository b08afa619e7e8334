"""Replies: Feast's stored values as the bytes of columns, without a protobuf object per value, and the columns of a plan.

All features of one stored type stand together, then the ages and the sources of all views.

A stored value is a serialised `feast.types.Value`: a tag and the value, or nothing for null. If it has exactly the form
that serialisers write, the value's bytes are copied out of it; other valid forms (repeated or unknown fields) protobuf parses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.columns.column import Array, Mask
from headrace.columns.wire import joined_column, split_columns
from services.features.feast.messages import Value

if TYPE_CHECKING:
    from services.features.freshness.freshness import ViewResult
    from services.features.plan.plan import ServicePlan

# Fewer rows are handled faster one by one than by NumPy.
MANY_ROWS = 8

DTYPES: dict[str, DType] = {
    "double_val": DType.FLOAT64,
    "float_val": DType.FLOAT32,
    "int64_val": DType.INT64,
    "int32_val": DType.INT32,
    "bool_val": DType.BOOL,
    "string_val": DType.BYTES,
    "bytes_val": DType.BYTES,
    "unix_timestamp_val": DType.INT64,
}
"""Field of Value → type of its column."""


Packed: TypeAlias = tuple[bytes, bytes, bytes]
"""A column's data, offsets and validity, as headrace.api.batch.v1.Column holds them."""

Raws: TypeAlias = Sequence[bytes]
Packer: TypeAlias = Callable[[Raws], Packed]


def packer(field: str) -> Packer:
    """The packer for values of this field, one per row; empty = null. NaN becomes null, as in Feast's stores."""
    return _PACKERS.get(field, _refuse)


class FloatPacker:
    """Packs floating-point numbers: those of one column, or of whole rows."""

    def __init__(self, tag: int, code: str, field: str) -> None:
        size = struct.calcsize(code)
        self._tag, self._tag_byte, self._code, self._field = tag, bytes([tag]), code, field
        self._size, self._width = size, 1 + size
        self._record = np.dtype([("tag", "u1"), ("value", f"<f{size}")])
        self.dtype: np.dtype[Any] = self._record["value"]

    def __call__(self, raws: Raws) -> Packed:
        if len(raws) == 1:
            raw, size = raws[0], self._size
            # An exponent with all bits set means NaN or infinity; these are handled below.
            if len(raw) == self._width and raw[0] == self._tag and raw[size] & 0x7F != 0x7F:
                return raw[1:], b"", b""
        cut = self._cut(raws)
        return self._slowly(raws) if cut is None else _packed(*cut)

    def matrix(self, rows: Sequence[tuple[bytes, ...]]) -> Array | None:
        """Rows whose values are all of this type, as (rows, features), NaN = null. None if protobuf has to parse a value, or
        if a stored value is NaN: the array could not distinguish it from null."""
        raws = list(chain.from_iterable(rows))
        cut = self._cut(raws)
        if cut is None:
            return None
        values, valid = cut
        if valid is not None:
            if len(raws) - raws.count(b"") != np.count_nonzero(valid):
                return None
            values = np.where(valid, values, self.dtype.type(np.nan))
        return values.reshape(len(rows), -1)

    @staticmethod
    def pack_matrices(matrices: Sequence[Array], counts: Sequence[int]) -> Packed:
        """The first `counts` columns of each matrix, column after column. All have the same number of rows."""
        values = np.concatenate([m.T[:count] for m, count in zip(matrices, counts, strict=True)])
        nan = np.isnan(values)
        if not nan.any():
            return values.tobytes(), b"", b""
        return _packed(np.where(nan, values.dtype.type(0), values), ~nan)

    def _cut(self, raws: Raws) -> tuple[Array, Mask | None] | None:
        """The values, and which of them exist (None: all); a missing one is 0. Returns None if a value has another form."""
        lengths, data = list(map(len, raws)), b"".join(raws)
        found = set(lengths)
        if not found <= {self._width, 0} or data[:: self._width].strip(self._tag_byte):
            return None
        values, valid = np.frombuffer(data, self._record)["value"], None
        if 0 in found:
            valid = np.frombuffer(bytes(lengths), np.uint8) > 0
            whole = np.zeros(len(raws), values.dtype)
            whole[valid] = values
            values = whole
        nan = np.isnan(values)
        if nan.any():
            values = np.where(nan, values.dtype.type(0), values)
            valid = ~nan if valid is None else valid & ~nan
        return values, valid

    def _slowly(self, raws: Raws) -> Packed:
        found = [_parsed(raw, self._field) for raw in raws]
        present = [v is not None and v == v for v in found]
        data = struct.pack(
            f"<{len(raws)}{self._code}", *[v if ok else 0.0 for v, ok in zip(found, present, strict=True)]
        )
        return data, b"", _bitmap(np.array(present))


def _packed(values: Array, valid: Mask | None) -> Packed:
    return values.tobytes(), b"", _bitmap(valid)


def _integers(tag: int, code: str, field: str) -> Packer:
    def value_of(raw: bytes) -> int | None:
        # One-byte values up to 127 (flags and small counts). Protobuf parses all others.
        if len(raw) == 2 and raw[0] == tag and raw[1] < 0x80 and code != "?":
            return raw[1]
        return _parsed(raw, field) if raw else None

    def pack(raws: Raws) -> Packed:
        found = [value_of(raw) for raw in raws]
        if None not in found:
            return struct.pack(f"<{len(raws)}{code}", *found), b"", b""
        data = struct.pack(f"<{len(raws)}{code}", *[v or 0 for v in found])
        return data, b"", _bitmap(np.array([v is not None for v in found]))

    return pack


def _texts(tag: int, field: str) -> Packer:
    def text_of(raw: bytes) -> bytes | None:
        size = len(raw) - 2
        if 0 <= size < 0x80 and raw[0] == tag and raw[1] == size:
            return raw[2:]
        return _parsed(raw, field) if raw else None

    def pack(raws: Raws) -> Packed:
        found = [text_of(raw) for raw in raws]
        validity = b"" if None not in found else _bitmap(np.array([t is not None for t in found]))
        texts = [t or b"" for t in found]
        offsets = np.fromiter(accumulate(map(len, texts), initial=0), "<u4", len(texts) + 1)
        return b"".join(texts), offsets.tobytes(), validity

    return pack


def _refuse(_raws: Raws) -> Packed:
    raise TypeError("values without a column type can't be packed")


def _bitmap(valid: Any) -> bytes:
    """The validity bitmap; b"" if all are valid or `valid` is None."""
    if valid is None or valid.all():
        return b""
    return np.packbits(valid, bitorder="little").tobytes()


def _parsed(raw: bytes, field: str) -> Any:
    """The value as protobuf parses it; None for null, another type or invalid bytes. Text as UTF-8."""
    try:
        value = Value.FromString(raw)
    except DecodeError:
        return None
    if value.WhichOneof("val") != field:
        return None
    found = getattr(value, field)
    return found.encode() if isinstance(found, str) else found


# Tag: field number × 8 + wire type.
_PACKERS: dict[str, Packer] = {
    "bytes_val": _texts(1 << 3 | 2, "bytes_val"),
    "string_val": _texts(2 << 3 | 2, "string_val"),
    "int32_val": _integers(3 << 3, "i", "int32_val"),
    "int64_val": _integers(4 << 3, "q", "int64_val"),
    "double_val": FloatPacker(5 << 3 | 1, "d", "double_val"),
    "float_val": FloatPacker(6 << 3 | 5, "f", "float_val"),
    "bool_val": _integers(7 << 3, "?", "bool_val"),
    "unix_timestamp_val": _integers(8 << 3, "q", "unix_timestamp_val"),
}


@dataclass(slots=True)
class ColumnGroup:
    """Columns of one stored type, one after the other. `given`: per view of the plan, which features they hold, in order;
    `picks`: what takes these from a view's features.

    `whole`: whether these views have only features of this type, and the returned ones are the first of each view.
    """

    dtype: DType
    packer: Packer
    names: list[str]
    given: dict[int, list[int]]
    picks: list[tuple[int, Callable[[Any], Any]]] = field(default_factory=list)
    whole: bool = False


class ReplyBuilder:
    """Builds the columns of one plan's replies. The layout is computed once; a reply then needs only a few joins."""

    def __init__(self, plan: ServicePlan) -> None:
        self.views = [i for i, count in enumerate(plan.given_counts) if count >= 0]
        groups: dict[Packer, ColumnGroup] = {}
        given = list(zip(self.views, plan.given, strict=True))
        for i, (view, features) in given:
            for k, (feature, packer) in enumerate(zip(features, view.packers, strict=False)):
                assert feature.dtype is not None, (
                    "the servicer refuses plans with features that no column can hold"
                )
                group = groups.setdefault(packer, ColumnGroup(feature.dtype, packer, [], {}))
                group.names.append(feature.name)
                group.given.setdefault(i, []).append(k)
        self.groups = list(groups.values())
        for group in self.groups:
            group.picks = [(i, _picker(features)) for i, features in group.given.items()]
            group.whole = all(
                i < len(plan.views) and plan.views[i].floats is group.packer for i in group.given
            )
        self.age_names = [f"@age_us/{view.name}" for _, (view, _) in given]
        self.source_names = [f"@source/{view.name}" for _, (view, _) in given]

    def features(self, results: Sequence[ViewResult]) -> list[tuple[ColumnGroup, Packed]]:
        """Each group with its values: all values of the first column, then those of the second, and so on."""
        return [
            (group, self._matrices(group, results) or self._one_by_one(group, results))
            for group in self.groups
        ]

    def columns(self, results: Sequence[ViewResult], rows: int) -> dict[str, Column]:
        """The whole reply as columns of `rows` rows, for a caller in the same process."""
        found: dict[str, Column] = {}
        for group, packed in self.features(results):
            whole = joined_column(group.names[0], group.dtype, packed, rows * len(group.names))
            found |= split_columns(whole, group.names, rows)
        if self.age_names:
            ages, sources = self._ages(results), np.frombuffer(self.sources(results), np.uint8)
            found |= split_columns(Column(self.age_names[0], DType.INT64, ages), self.age_names, rows)
            found |= split_columns(
                Column(self.source_names[0], DType.UINT8, sources), self.source_names, rows
            )
        return found

    @staticmethod
    def _matrices(group: ColumnGroup, results: Sequence[ViewResult]) -> Packed | None:
        """Packs floats of many rows with a few NumPy calls for the whole group. None if this is not possible."""
        if not group.whole or len(results[0].sources) < MANY_ROWS:
            return None
        matrices = [matrix for i in group.given if (matrix := results[i].floats()) is not None]
        if len(matrices) < len(group.given):
            return None
        return FloatPacker.pack_matrices(matrices, list(map(len, group.given.values())))

    @staticmethod
    def _one_by_one(group: ColumnGroup, results: Sequence[ViewResult]) -> Packed:
        raws: list[bytes] = []
        for i, pick in group.picks:
            raws += chain.from_iterable(pick(results[i].by_feature()))
        return group.packer(raws)

    def ages(self, results: Sequence[ViewResult]) -> bytes:
        """INT64 microseconds of all views, one after the other."""
        return self._ages(results).tobytes()

    def _ages(self, results: Sequence[ViewResult]) -> NDArray[np.int64]:
        return np.concatenate([results[i].ages_us for i in self.views]).astype("<i8", copy=False)

    def sources(self, results: Sequence[ViewResult]) -> bytes:
        """UINT8 of all views, one after the other."""
        return b"".join([results[i].sources for i in self.views])


def _picker(positions: Sequence[int]) -> Callable[[Any], Any]:
    """Takes the elements at these ascending positions."""
    start, stop = positions[0], positions[-1] + 1
    return itemgetter(slice(start, stop)) if stop - start == len(positions) else itemgetter(*positions)
