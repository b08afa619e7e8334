"""Batch ⇄ message. Decoding checks every length before NumPy sees it, and shares the message's memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from headrace.api.batch.v1 import batch_pb2 as pb
from headrace.columns.batch import Batch, RowError, Rows, Timing
from headrace.columns.column import Column, Mask, Ragged, join
from headrace.columns.dtypes import DType, of_number
from headrace.hop.errors import Code, Fault, Reason

MAX_ROWS = 65536
MAX_ROW_ELEMENTS = 1 << 28
MAX_DIMENSIONS = 16
_MICRO = 1_000_000
_HOUR_S = 3600


def encode(batch: Batch, now: float | None = None) -> pb.Batch:
    """The message of a batch; each row's deadline becomes the budget left at `now` (monotonic seconds)."""
    now = time.monotonic() if now is None else now
    rows = batch.rows
    return pb.Batch(
        rows=pb.Rows(
            request_ids=rows.request_ids,
            tenants=rows.tenants,
            priorities=rows.priorities,
            budgets_us=_budgets(rows.deadlines, now),
            traceparents=rows.traceparents,
        ),
        columns=_encode_packed(batch.columns.values()),
        errors=[_encode_error(i, e) for i, e in batch.errors.items()],
        timings=[_encode_timing(t) for t in batch.timings],
    )


def _encode_error(row: int, error: RowError) -> pb.RowError:
    return pb.RowError(
        row=row,
        code=int(error.code),
        reason=error.reason,
        message=error.message,
        stage=error.stage,
        metadata=dict(error.metadata),
    )


def _encode_timing(timing: Timing) -> pb.Timing:
    return pb.Timing(
        stage=timing.stage,
        service=timing.service,
        start_us=max(timing.start_us, 0),
        duration_us=max(timing.duration_us, 0),
        row_count=timing.row_count,
        attributes=dict(timing.attributes),
    )


def _budgets(deadlines: Sequence[float], now: float) -> list[int]:
    """Microseconds left at `now`, 0 to an hour: that is as good as forever, and keeps infinity out of an integer."""
    # In line for the usual row: a call per row costs twice as much, and NumPy more up to 64 rows.
    hour = now + _HOUR_S
    return [
        int((d - now) * _MICRO) if now < d < hour else 0 if d <= now else _HOUR_S * _MICRO for d in deadlines
    ]


def encode_columns(columns: Iterable[Column]) -> list[pb.Column]:
    """Messages of columns, each its own: the form of the public API."""
    return [_encode_part(c.name, (), c) for c in columns]


def _encode_packed(columns: Iterable[Column]) -> list[pb.Column]:
    """Messages of columns, those of one type and row shape together: a batch has many columns of few types."""
    groups: dict[tuple[DType, tuple[int, ...]], list[Column]] = {}
    for column in columns:
        kind = column.dtype, column.row_shape
        group = groups.get(kind)
        if group is None:
            groups[kind] = [column]
        else:
            group.append(column)
    return [_encode_group(g) if len(g) > 1 else _encode_part(g[0].name, (), g[0]) for g in groups.values()]


def _encode_group(columns: Sequence[Column]) -> pb.Column:
    names = [c.name for c in columns]
    first = columns[0]
    if first.dtype is DType.BYTES:
        return _encode_part("", names, join(columns))
    # What `_encode_part` does of the joined columns, without joining them: two thirds of the time.
    try:
        data = b"".join([c.values for c in columns])  # type: ignore[misc]  # arrays are buffers
    except TypeError:  # one is not contiguous
        data = np.concatenate([c.array for c in columns]).tobytes()
    validity = b""
    masks = [(i, c.valid) for i, c in enumerate(columns) if c.valid is not None]
    if masks:
        valid = np.ones((len(columns), len(first)), bool)
        for i, mask in masks:
            valid[i] = mask
        validity = _packed(valid)
    return pb.Column(
        data_type=int(first.dtype),  # type: ignore[arg-type]  # same numbers
        row_shape=first.row_shape,
        data=data,
        validity=validity,
        names=names,
    )


def _packed(valid: Mask) -> bytes:
    """One bit per value; nothing if all are there."""
    return b"" if valid.all() else np.packbits(valid, bitorder="little").tobytes()


def _encode_part(name: str, names: Sequence[str], column: Column) -> pb.Column:
    values = column.values
    if isinstance(values, Ragged):
        ragged = values.compact()
        data, offsets = bytes(ragged.data), ragged.offsets.astype("<u4", copy=False).tobytes()
    else:
        data, offsets = values.tobytes(), b""
    return pb.Column(
        name=name,
        data_type=int(column.dtype),  # type: ignore[arg-type]  # same numbers
        row_shape=column.row_shape,
        data=data,
        offsets=offsets,
        validity=b"" if column.valid is None else _packed(column.valid),
        names=names,
    )


def decode(message: pb.Batch, now: float | None = None) -> Batch:
    """The batch of a message; each row's budget becomes a deadline from `now` (monotonic seconds).

    Raises Fault INVALID_ARGUMENT naming what does not fit.
    """
    now = time.monotonic() if now is None else now
    rows = _decode_rows(message.rows, now)
    count = len(rows)
    errors = {}
    for e in message.errors:
        if e.row >= count or not 0 < e.code <= 16:
            raise malformed(f"a row error names row {e.row} of {count} with code {e.code}")
        errors[e.row] = RowError(Code(e.code), e.reason, e.message, e.stage, dict(e.metadata))
    timings = [_decode_timing(t) for t in message.timings]
    return Batch(rows, decode_columns(message.columns, count), errors, timings)


def _decode_timing(timing: pb.Timing) -> Timing:
    attributes = dict(timing.attributes)
    return Timing(
        timing.stage, timing.service, timing.start_us, timing.duration_us, timing.row_count, attributes
    )


def _decode_rows(rows: pb.Rows, now: float) -> Rows:
    ids = list(rows.request_ids)
    count = len(ids)
    if count > MAX_ROWS:
        raise Fault(
            Code.RESOURCE_EXHAUSTED,
            Reason.REASON_TOO_LARGE,
            f"{count} rows in one batch; at most {MAX_ROWS}",
            metadata={"limit": str(MAX_ROWS)},
        )
    deadlines = [now + b / _MICRO for b in rows.budgets_us]
    decoded = Rows(ids, list(rows.tenants), list(rows.priorities), deadlines, list(rows.traceparents))
    others = (decoded.tenants, decoded.priorities, deadlines, decoded.traceparents)
    if any(len(other) != count for other in others):
        raise malformed("the lists of row contexts differ in length")
    return decoded


def decode_columns(messages: Iterable[pb.Column], count: int) -> Mapping[str, Column]:
    """Columns of `count` rows. Raises Fault INVALID_ARGUMENT naming the column that does not fit."""
    columns: dict[str, Column] = {}
    for message in messages:
        names, before = _names(message), len(columns)
        whole = _decode_part(message, names, count * len(names))
        if len(names) == 1:
            columns[names[0]] = whole
        else:
            columns.update(zip(names, _parts(whole, names, count), strict=True))
        if len(columns) != before + len(names):
            raise malformed(f"column name {names[0]!r} or one beside it is used twice", column=names[0])
    return columns


def _names(message: pb.Column) -> Sequence[str]:
    names = list(message.names)
    if message.name:
        names.append(message.name)
    if not names or (len(names) > 1 and (message.name or "" in names)):
        raise malformed("a column needs a name, or several `names` and none of them empty", column=message.name)
    return names


def _parts(whole: Column, names: Sequence[str], count: int) -> Iterable[Column]:
    """The columns that lie end to end in one, sharing its memory."""
    dtype, shape, values, valid = whole.dtype, whole.row_shape, whole.values, whole.valid
    if valid is not None:
        masks: Sequence[Mask | None]
        masks = [None if ok else mask for mask, ok in _by_column(valid, len(names), count)]
    else:
        masks = [None] * len(names)
    if isinstance(values, Ragged):
        size = count * whole.row_size
        for i, (name, mask) in enumerate(zip(names, masks, strict=True)):
            part = Ragged(values.offsets[i * size : (i + 1) * size + 1], values.data)
            yield Column(name, dtype, part, shape, mask)
        return
    for name, array, mask in zip(names, values.reshape(len(names), count, *shape), masks, strict=True):
        yield Column(name, dtype, array, shape, mask)


def _by_column(valid: Mask, columns: int, count: int) -> Iterable[tuple[Mask, bool]]:
    """Each column's mask, and whether all its values are there."""
    masks = valid.reshape(columns, count)
    return zip(masks, masks.all(axis=1).tolist(), strict=True)


def _decode_part(message: pb.Column, names: Sequence[str], count: int) -> Column:
    """The `count` rows of all the columns of a message, as one."""
    # Each read of a bytes field copies it: read once.
    name, data, offsets = names[0], message.data, message.offsets
    dtype = of_number(message.data_type)
    if dtype is None:
        raise malformed(f"column {name} has no known data type", column=name)
    shape = tuple(message.row_shape)
    size = math.prod(shape) if shape else 1
    # No dimension of 0: strings of such rows would not tell how many rows there are.
    if shape and not (len(shape) <= MAX_DIMENSIONS and 1 <= size <= MAX_ROW_ELEMENTS):
        raise malformed(
            f"column {name} has rows of {len(shape)} dimensions with {size} elements; "
            f"1 to {MAX_DIMENSIONS} and 1 to {MAX_ROW_ELEMENTS} are possible",
            column=name,
        )
    valid = _decode_validity(name, message.validity, count)
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


def _decode_validity(name: str, validity: bytes, count: int) -> Mask | None:
    if not validity:
        return None
    if len(validity) != (count + 7) // 8:
        raise malformed(f"column {name} has a validity bitmap for another number of rows", column=name)
    return np.unpackbits(np.frombuffer(validity, np.uint8), count=count, bitorder="little").view(bool)


def _decode_ragged(name: str, data: bytes, offsets: bytes, elements: int) -> Ragged:
    if len(offsets) != 4 * (elements + 1):
        raise malformed(f"column {name} needs {elements + 1} offsets of 4 bytes", column=name)
    bounds = np.frombuffer(offsets, "<u4")
    fits = bounds.item(0) == 0 and bounds.item(-1) == len(data)
    # One element's two bounds are in order when they fit.
    if not fits or (elements > 1 and (bounds[1:] < bounds[:-1]).any()):
        raise malformed(f"column {name} has offsets that do not fit its data", column=name)
    return Ragged(bounds, data)


def malformed(message: str, **metadata: str) -> Fault:
    """A Fault for a message that breaks the contract of batch.proto."""
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, metadata=metadata)
