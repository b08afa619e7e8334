"""Feast's own messages: reads entities from requests, and builds replies from values in their stored form.

Replies are built as bytes: a protobuf object per value would take ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.columns import Column, DType, Ragged
from headrace.columns.column import Mask
from services.features.errors import mixed_entity, uneven_entities
from services.features.feast.messages import Null, RepeatedValue, Value
from services.features.feast.messages import serving as pb
from services.features.freshness.freshness import Source, ViewResult
from services.features.plan.plan import ServicePlan
from services.features.reply.values import DTYPES

# By Source. It is unknown whether a last-known value is recent enough; for a default, nothing is known about the entity.
_STATUSES = {
    Source.PRESENT: pb.PRESENT,
    Source.NOT_FOUND: pb.NOT_FOUND,
    Source.OUTSIDE_MAX_AGE: pb.OUTSIDE_MAX_AGE,
    Source.STALE: pb.OUTSIDE_MAX_AGE,
    Source.DEFAULT: pb.INVALID,
}
_STATUS_OF = bytes(_STATUSES[Source(s)] if s in list(Source) else 0 for s in range(256))
# A Value that is explicitly null.
_NULL = Value(null_val=Null.NULL).SerializeToString()
_NULLS = (b"", _NULL)
# Tags of FeatureVector (values, statuses, event times) and of GetOnlineFeaturesResponse (results).
_VALUE, _STATUS, _TIME = b"\x0a", b"\x12", b"\x1a"
_RESULTS = b"\x12"
_MICRO = 1_000_000


def columns_of(
    given: Sequence[Mapping[str, RepeatedValue]], plan: ServicePlan
) -> tuple[dict[str, Column], list[int]]:
    """Columns of the entities and of the request data that the plan takes, of several calls that give the same ones; and the
    number of rows of each call.

    Raises Fault INVALID_ARGUMENT.
    """
    kinds = {key.name: _KEY_FIELDS[key.dtype] for key in plan.keys} | {f.name: f.field for f in plan.request}
    names = [name for name in given[0] if name in kinds]
    counts = []
    for one in given:
        lengths = {len(one[name].val) for name in names}
        if len(lengths) > 1:
            raise uneven_entities()
        counts.append(lengths.pop() if lengths else 0)
    values = [list(chain.from_iterable([one[name].val for one in given])) for name in names]
    return {n: _column(n, v, kinds[n]) for n, v in zip(names, values, strict=True)}, counts


_KEY_FIELDS = {DType.BYTES: "string_val", DType.INT64: "int64_val", DType.INT32: "int32_val"}


def _column(name: str, values: Sequence[Value], field: str) -> Column:
    found: list[Any] = list(map(attrgetter(field), values))
    valid = None
    # A field that is not set reads as empty or zero: only such values are checked again.
    if not all(found):
        empty = [i for i, v in enumerate(found) if not v and not values[i].HasField(field)]  # type: ignore[arg-type]  # one of DTYPES
        for i in empty:
            if values[i].WhichOneof("val") not in (None, "null_val"):
                found[i] = _whole(name, values[i], field)
        nulls = [i for i in empty if values[i].WhichOneof("val") in (None, "null_val")]
        if nulls:
            valid = np.ones(len(found), bool)
            valid[nulls] = False
    dtype = DTYPES[field]
    if dtype is DType.BYTES:
        texts = list(map(str.encode, found)) if field == "string_val" else found
        return Column(name, dtype, Ragged.of(texts), (), valid)
    return Column.of(name, np.array(found, dtype.numpy), valid)


def _whole(name: str, value: Value, field: str) -> int:
    """An integer that was sent with the other integer size. Raises Fault for any other value."""
    other = value.WhichOneof("val")
    number: int = getattr(value, other) if other in ("int32_val", "int64_val") else 0
    low, high = DTYPES[field].bounds if field in ("int32_val", "int64_val") else (1, 0)
    if other not in ("int32_val", "int64_val") or not low <= number <= high:
        raise mixed_entity(name)
    return number


def echo(values: RepeatedValue) -> bytes:
    """A join key or request data in the reply, as Feast returns it: a serialised FeatureVector."""
    count = len(values.val)
    # RepeatedValue and FeatureVector hold their values in the same field with the same type.
    return values.SerializeToString() + _statuses(bytes([pb.PRESENT]) * count) + (_TIME + b"\0") * count


def vectors(results: Sequence[ViewResult], plan: ServicePlan, counts: Sequence[int]) -> list[list[bytes]]:
    """Per call, a serialised FeatureVector for each returned feature. `counts`: the number of rows of each call."""
    found: list[list[bytes]] = [[] for _ in counts]
    for result, returned in zip(results, plan.given_counts, strict=True):
        if returned <= 0:
            continue
        statuses = result.sources.translate(_STATUS_OF)
        stamps = list(map(_stamped, result.event_times()))
        packer, floats = result.view.floats, result.floats() if result.in_table else None
        values, stop = result.values() if floats is None else [], 0
        for its, count in zip(found, counts, strict=True):
            start, stop = stop, stop + count
            rows = slice(start, stop)
            if packer is not None and floats is not None:
                cells = packer.fields(_VALUE[0], floats[rows].T[:returned])
                its += _of_cells(*cells, statuses[rows], b"".join(stamps[rows]))
            elif count == 1:
                its += _of_row(values[start][:returned], statuses[start], stamps[start])
            else:
                its += _of_rows(values[rows], returned, statuses[rows], b"".join(stamps[rows]))
    return found


def _of_row(raws: Sequence[bytes], status: int, stamp: bytes) -> list[bytes]:
    tail = b"%b\1%c%b" % (_STATUS, status, stamp)
    null = b"%b\1%c%b" % (_STATUS, pb.NULL_VALUE, stamp) if status == pb.PRESENT else tail
    return [_VALUE + _varint(len(raw)) + raw + (null if raw in _NULLS else tail) for raw in raws]


def _of_rows(values: Sequence[Sequence[bytes]], returned: int, statuses: bytes, times: bytes) -> list[bytes]:
    # Where these are the only rows without values, no status changes.
    empty = len(statuses) - statuses.count(pb.PRESENT) if pb.OUTSIDE_MAX_AGE not in statuses else -1
    by_feature = list(zip(*values, strict=True)) or [()] * returned
    return [_vector(raws, statuses, times, empty) for raws in by_feature[:returned]]


def _of_cells(values: Sequence[bytes], nulls: Mask, statuses: bytes, times: bytes) -> list[bytes]:
    known = np.frombuffer(statuses, np.uint8)
    marked = np.where(nulls & (known == pb.PRESENT), np.uint8(pb.NULL_VALUE), known)
    return [its + _statuses(one.tobytes()) + times for its, one in zip(values, marked, strict=True)]


def response(names: tuple[str, ...], results: Sequence[bytes]) -> bytes:
    """The serialised reply with these serialised vectors, one per name."""
    return _head(names) + _framed(_RESULTS, results)


@lru_cache(256)
def _head(names: tuple[str, ...]) -> bytes:
    head = pb.GetOnlineFeaturesResponse(status=True)
    head.metadata.feature_names.val.extend(names)
    data: bytes = head.SerializeToString()
    return data


def _vector(raws: Sequence[bytes], statuses: bytes, times: bytes, empty: int) -> bytes:
    """`empty`: the number of rows that have no value and whose status says so; −1: not known."""
    if (b"" in raws or _NULL in raws) and raws.count(b"") + raws.count(_NULL) != empty:
        present = pb.PRESENT
        statuses = bytes([
            pb.NULL_VALUE if status == present and raw in _NULLS else status
            for status, raw in zip(statuses, raws, strict=True)
        ])  # fmt: skip
    return _framed(_VALUE, raws) + _statuses(statuses) + times


def _statuses(statuses: bytes) -> bytes:
    return _STATUS + _varint(len(statuses)) + statuses


def _framed(tag: bytes, parts: Sequence[bytes]) -> bytes:
    """Each part as a separate field."""
    sizes = set(map(len, parts))
    if len(sizes) == 1:
        head = tag + _varint(sizes.pop())
        return head + head.join(parts)
    if len(sizes) == 2 and 0 in sizes:
        # The fast path: all values have one size or are null.
        head, nothing = tag + _varint(max(sizes)), tag + b"\0"
        return b"".join([head + part if part else nothing for part in parts])
    heads = {size: tag + _varint(size) for size in sizes}
    return b"".join([heads[len(part)] + part for part in parts])


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)


@lru_cache(16_384)
def _stamped(time: float | None) -> bytes:
    """The field of an event time in microseconds, as Feast returns it; 1970 if the time is not known."""
    if time is None:
        return _TIME + b"\0"
    seconds, micros = divmod(round(time * _MICRO), _MICRO)
    stamp: bytes = Timestamp(seconds=seconds, nanos=micros * 1000).SerializeToString()
    return _TIME + _varint(len(stamp)) + stamp
