"""Encodes batches to messages and decodes them. Decoding checks every length before NumPy reads it; columns share the
message's memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol

import numpy as np

from headrace.api.batch.v1 import batch_pb2 as pb
from headrace.columns.batch import Batch, RowError, Rows, Timing
from headrace.columns.column import BY_NUMBER, Column, DType, Mask, Ragged, join
from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason

MAX_ROWS = 65536
MAX_ROW_ELEMENTS = 1 << 28
MAX_DIMENSIONS = 16
_MICRO = 1_000_000
_HOUR_S = 3600
_NO_ATTRIBUTES: Mapping[str, str] = {}


class Carrier(Protocol):
    """A message that holds a batch in its field `batch`, as those of every data hop do."""

    @property
    def batch(self) -> pb.Batch: ...


def read_request(request: Carrier, call: Call, now: float) -> Batch:
    """The batch of a request that arrived at `now` (monotonic seconds): decoded from the message, or the very object that a
    caller in the same process handed over.

    The rows' time budgets count from when the request was sent, if that is known: it may have waited for a process that was
    stopped or busy. Raises Fault INVALID_ARGUMENT as `decode`.
    """
    payload = call.payload
    if payload is not None and isinstance(payload.brought, Batch):
        batch = payload.brought
    else:
        batch = decode(request.batch, now if call.sent is None else min(call.sent, now))
    call.request_ids = batch.rows.request_ids
    return batch


def write_reply(reply: Carrier, batch: Batch, call: Call, now: float) -> None:
    """Writes the batch into the empty reply, or hands the object itself to a caller that handed over its own."""
    payload = call.payload
    if payload is not None and isinstance(payload.brought, Batch):
        payload.returned = batch
    else:
        encode_into(reply.batch, batch, now)


def encode(batch: Batch, now: float | None = None) -> pb.Batch:
    """The message of a batch. Each row's deadline becomes its time budget left at `now` (monotonic seconds)."""
    message = pb.Batch()
    encode_into(message, batch, now)
    return message


def encode_into(message: pb.Batch, batch: Batch, now: float | None = None) -> None:
    """As `encode`, but into an existing empty message: assigning a message to a field of another one copies it, by serialising
    and parsing it."""
    now = time.monotonic() if now is None else now
    rows, context = batch.rows, message.rows
    context.request_ids.extend(rows.request_ids)
    context.tenants.extend(rows.tenants)
    context.priorities.extend(rows.priorities)
    # Microseconds left, 0 to one hour: an infinite deadline has no integer, and one hour is long enough. One expression: a
    # function call per row takes twice as long, and NumPy is slower up to 64 rows.
    hour = now + _HOUR_S
    context.budgets_us.extend(
        [
            int((d - now) * _MICRO) if now < d < hour else 0 if d <= now else _HOUR_S * _MICRO
            for d in rows.deadlines
        ]
    )
    context.traceparents.extend(rows.traceparents)
    _add_columns(message, batch.columns.values())
    for row, error in batch.errors.items():
        _add_error(message, row, error)
    for timing in batch.timings:
        # Field by field: keyword arguments, and `update` for the map, take 1.5 times as long.
        added = message.timings.add()
        added.stage = timing.stage
        added.service = timing.service
        added.start_us = max(timing.start_us, 0)
        added.duration_us = max(timing.duration_us, 0)
        added.row_count = timing.row_count
        attributes = added.attributes
        for name, value in timing.attributes.items():
            attributes[name] = value


def _add_error(message: pb.Batch, row: int, error: RowError) -> None:
    message.errors.add(
        row=row,
        code=int(error.code),
        reason=error.reason,
        message=error.message,
        stage=error.stage,
        metadata=dict(error.metadata),
    )


def encode_columns(columns: Iterable[Column]) -> list[pb.Column]:
    """One message for each column: the form of the public API."""
    return [
        _write_part(pb.Column(name=c.name, data_type=int(c.dtype), row_shape=c.row_shape), c)  # type: ignore[arg-type]  # same numbers
        for c in columns
    ]


def _add_columns(message: pb.Batch, columns: Iterable[Column]) -> None:
    """Adds columns to the message; those of one type and row shape share one entry, because a batch has many columns of few
    types."""
    groups: dict[tuple[DType, tuple[int, ...]], list[Column]] = {}
    for column in columns:
        kind = column.dtype, column.row_shape
        group = groups.get(kind)
        if group is None:
            groups[kind] = [column]
        else:
            group.append(column)
    added = message.columns
    for (dtype, row_shape), group in groups.items():
        entry = added.add()
        entry.data_type = int(dtype)  # type: ignore[assignment]  # same numbers
        if row_shape:
            entry.row_shape.extend(row_shape)
        if len(group) == 1:
            entry.name = group[0].name
            _write_part(entry, group[0])
        else:
            entry.names.extend([c.name for c in group])
            _write_group(entry, group)


def _write_group(message: pb.Column, columns: Sequence[Column]) -> None:
    first = columns[0]
    if first.dtype is DType.BYTES:
        _write_part(message, join(columns))
        return
    # The bytes that `_write_part` would write for the joined columns, without joining them: two thirds of the time.
    try:
        data = b"".join([c.values for c in columns])  # type: ignore[misc]  # arrays are buffers
    except TypeError:  # an array that is not contiguous
        data = np.concatenate([c.array for c in columns]).tobytes()
    message.data = data
    masks = [(i, c.valid) for i, c in enumerate(columns) if c.valid is not None]
    if masks:
        valid = np.ones((len(columns), len(first)), bool)
        for i, mask in masks:
            valid[i] = mask
        _write_validity(message, valid)


def _write_part(message: pb.Column, column: Column) -> pb.Column:
    values = column.values
    if isinstance(values, Ragged):
        ragged = values.compact()
        message.data, message.offsets = bytes(ragged.data), ragged.offsets.astype("<u4", copy=False).tobytes()
    else:
        message.data = values.tobytes()
    if column.valid is not None:
        _write_validity(message, column.valid)
    return message


def _write_validity(message: pb.Column, valid: Mask) -> None:
    """Writes one bit per value; nothing if all values are there."""
    if not valid.all():
        message.validity = np.packbits(valid, bitorder="little").tobytes()


def decode(message: pb.Batch, now: float | None = None) -> Batch:
    """The batch of a message. Each row's time budget becomes a deadline, counted from `now` (monotonic seconds).

    Raises Fault INVALID_ARGUMENT that names what is malformed; RESOURCE_EXHAUSTED for more than MAX_ROWS rows.
    """
    now = time.monotonic() if now is None else now
    rows = _decode_rows(message.rows, now)
    count = len(rows.request_ids)
    errors = {}
    for e in message.errors:
        if e.row >= count or not 0 < e.code <= 16:
            raise malformed(f"a row error names row {e.row} of {count} with code {e.code}")
        errors[e.row] = RowError(Code(e.code), e.reason, e.message, e.stage, dict(e.metadata))
    timings = []
    for t in message.timings:
        attributes = dict(t.attributes) if t.attributes else _NO_ATTRIBUTES
        timings.append(Timing(t.stage, t.service, t.start_us, t.duration_us, t.row_count, attributes))
    return Batch(rows, decode_columns(message.columns, count), errors, timings)


def _decode_rows(rows: pb.Rows, now: float) -> Rows:
    # Slices, because `list` uses Python's iterators, which would take a seventh of the time of a decode.
    ids = rows.request_ids[:]
    count = len(ids)
    if count > MAX_ROWS:
        raise Fault(
            Code.RESOURCE_EXHAUSTED,
            Reason.REASON_TOO_LARGE,
            f"{count} rows in one batch; at most {MAX_ROWS}",
            metadata={"limit": str(MAX_ROWS)},
        )
    deadlines = [now + b / _MICRO for b in rows.budgets_us[:]]
    tenants, priorities, traceparents = rows.tenants[:], rows.priorities[:], rows.traceparents[:]
    if not count == len(tenants) == len(priorities) == len(deadlines) == len(traceparents):
        raise malformed("the lists of row contexts differ in length")
    return Rows(ids, tenants, priorities, deadlines, traceparents)


def decode_columns(messages: Iterable[pb.Column], count: int) -> Mapping[str, Column]:
    """Columns of `count` rows, by name. Raises Fault INVALID_ARGUMENT that names the malformed column."""
    columns: dict[str, Column] = {}
    for message in messages:
        name, before = message.name, len(columns)
        if name and not message.names:
            columns[name] = _decode_part(message, name, count)
            added = 1
        else:
            names = _names(message)
            name, added = names[0], len(names)
            columns |= split_columns(_decode_part(message, name, count * added), names, count)
        if len(columns) != before + added:
            raise malformed(f"column name {name!r} or one beside it is used twice", column=name)
    return columns


def _names(message: pb.Column) -> Sequence[str]:
    names = list(message.names)
    if message.name:
        names.append(message.name)
    if not names or (len(names) > 1 and (message.name or "" in names)):
        raise malformed(
            "a column needs a name, or several `names` and none of them empty", column=message.name
        )
    return names


def split_columns(whole: Column, names: Sequence[str], count: int) -> dict[str, Column]:
    """The column of each name, of `count` rows: they stand one after the other in `whole`, and share its memory."""
    if len(names) == 1:
        return {names[0]: whole}
    dtype, shape, values, valid = whole.dtype, whole.row_shape, whole.values, whole.valid
    masks: Iterable[Mask | None] = repeat(None)
    if valid is not None:
        by_column = valid.reshape(len(names), count)
        complete = np.logical_and.reduce(by_column, axis=1).tolist()
        # A column without missing values has no mask.
        masks = [None if full else by_column[i] for i, full in enumerate(complete)]
    if isinstance(values, Ragged):
        size = count * whole.row_size
        starts = [i * size for i in range(len(names))]
        parts: Any = [Ragged(values.offsets[at : at + size + 1], values.data) for at in starts]
    else:
        parts = values.reshape(len(names), count, *shape)
    columns = map(Column, names, repeat(dtype), parts, repeat(shape), masks)
    return dict(zip(names, columns, strict=True))


def _decode_part(message: pb.Column, name: str, count: int) -> Column:
    """All columns of a message, of which the first has this name, as one column of `count` rows in all."""
    dtype = BY_NUMBER.get(message.data_type)
    if dtype is None:
        raise malformed(f"column {name} has no known data type", column=name)
    shape = tuple(message.row_shape)
    size = math.prod(shape) if shape else 1
    # A dimension must not be 0: a column of such rows would not tell the number of its rows.
    if shape and not (len(shape) <= MAX_DIMENSIONS and 1 <= size <= MAX_ROW_ELEMENTS):
        raise malformed(
            f"column {name} has rows of {len(shape)} dimensions with {size} elements; "
            f"1 to {MAX_DIMENSIONS} and 1 to {MAX_ROW_ELEMENTS} are possible",
            column=name,
        )
    # Each access to a bytes field copies it, so each is read once.
    return joined_column(name, dtype, (message.data, message.offsets, message.validity), count, shape)


def joined_column(
    name: str, dtype: DType, packed: tuple[bytes, bytes, bytes], count: int, shape: tuple[int, ...] = ()
) -> Column:
    """A column of `count` rows of its data, offsets and validity as a message holds them. Raises Fault INVALID_ARGUMENT."""
    data, offsets, validity = packed
    valid = _decode_validity(name, validity, count) if validity else None
    size = math.prod(shape) if shape else 1
    if dtype is DType.BYTES:
        return Column(name, dtype, _decode_ragged(name, data, offsets, count * size), shape, valid)
    expected = count * size * dtype.numpy.itemsize
    if len(data) != expected or offsets:
        raise malformed(
            f"column {name} has {len(data)} bytes and {len(offsets)} of offsets; "
            f"{count} rows of {list(shape)} {dtype.name} need {expected} and none",
            column=name,
        )
    values = np.frombuffer(data, dtype.numpy)
    return Column(name, dtype, values.reshape(count, *shape) if shape else values, shape, valid)


def _decode_validity(name: str, validity: bytes, count: int) -> Mask:
    if len(validity) != (count + 7) // 8:
        raise malformed(f"column {name} has a validity bitmap for another number of rows", column=name)
    return np.unpackbits(np.frombuffer(validity, np.uint8), count=count, bitorder="little").view(bool)


def _decode_ragged(name: str, data: bytes, offsets: bytes, elements: int) -> Ragged:
    if len(offsets) != 4 * (elements + 1):
        raise malformed(f"column {name} needs {elements + 1} offsets of 4 bytes", column=name)
    bounds = np.frombuffer(offsets, "<u4")
    fits = bounds.item(0) == 0 and bounds.item(-1) == len(data)
    # With one element, the first check implies that its two offsets are in order.
    if not fits or (elements > 1 and (bounds[1:] < bounds[:-1]).any()):
        raise malformed(f"column {name} has offsets that do not fit its data", column=name)
    return Ragged(bounds, data)


def malformed(message: str, **metadata: str) -> Fault:
    """The Fault for a message that violates the contract of batch.proto."""
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, metadata=metadata)
