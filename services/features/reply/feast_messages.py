"""Feast's own messages: reads entities from requests, and builds replies from values in their stored form.

Replies are built as bytes: a protobuf object per value would take ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.columns import Column, DType, Ragged
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


def columns_of(given: Mapping[str, RepeatedValue], plan: ServicePlan) -> tuple[dict[str, Column], int]:
    """Columns of the entities and of the request data that the plan takes, and the number of rows.

    Raises Fault INVALID_ARGUMENT.
    """
    kinds = {key.name: _KEY_FIELDS[key.dtype] for key in plan.keys} | {f.name: f.field for f in plan.request}
    lengths = {len(values.val) for name, values in given.items() if name in kinds}
    if len(lengths) > 1:
        raise uneven_entities()
    columns = {n: _column(n, values.val, kinds[n]) for n, values in given.items() if n in kinds}
    return columns, lengths.pop() if lengths else 0


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


def vectors(result: ViewResult, count: int) -> list[bytes]:
    """One serialised FeatureVector for each of the first `count` features."""
    times = b"".join(map(_stamped, result.event_times()))
    statuses = result.sources.translate(_STATUS_OF)
    return [_vector(raws, statuses, times) for raws in result.by_feature()[:count]]


def response(names: Sequence[str], results: Sequence[bytes]) -> bytes:
    """The serialised reply with these serialised vectors, one per name."""
    rest = pb.GetOnlineFeaturesResponse(status=True)
    rest.metadata.feature_names.val.extend(names)
    return rest.SerializeToString() + _framed(_RESULTS, results)


def _vector(raws: Sequence[bytes], statuses: bytes, times: bytes) -> bytes:
    if b"" in raws or _NULL in raws:
        present = pb.PRESENT
        if present in statuses:
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


@lru_cache(4096)
def _stamped(time: float | None) -> bytes:
    """The field of an event time in microseconds, as Feast returns it; 1970 if the time is not known."""
    if time is None:
        return _TIME + b"\0"
    seconds, micros = divmod(round(time * _MICRO), _MICRO)
    stamp: bytes = Timestamp(seconds=seconds, nanos=micros * 1000).SerializeToString()
    return _TIME + _varint(len(stamp)) + stamp
