"""Batch ⇄ message. Decoding checks every length before NumPy sees it, and shares the message's memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import numpy as np

from headrace.api.batch.v1 import batch_pb2 as pb
from headrace.columns.batch import Batch, RowError, Rows, Timing
from headrace.columns.column import Column, Mask, Ragged
from headrace.columns.dtypes import DType
from headrace.hop.errors import Code, Fault, Reason

MAX_ROWS = 65536
MAX_ROW_ELEMENTS = 1 << 28
_MICRO = 1_000_000


def encode(batch: Batch, now: float | None = None) -> pb.Batch:
    """The message of a batch; each row's deadline becomes the budget left at `now` (monotonic seconds)."""
    now = time.monotonic() if now is None else now
    rows = batch.rows
    return pb.Batch(
        rows=pb.Rows(
            request_ids=rows.request_ids,
            tenants=rows.tenants,
            priorities=rows.priorities,
            budgets_us=[_budget(d - now) for d in rows.deadlines],
            traceparents=rows.traceparents,
        ),
        columns=encode_columns(batch.columns.values()),
        errors=[
            pb.RowError(
                row=i, code=int(e.code), reason=e.reason, message=e.message, stage=e.stage, metadata=dict(e.metadata)
            )
            for i, e in batch.errors.items()
        ],
        timings=[
            pb.Timing(
                stage=t.stage,
                service=t.service,
                start_us=max(t.start_us, 0),
                duration_us=max(t.duration_us, 0),
                row_count=t.row_count,
                attributes=dict(t.attributes),
            )
            for t in batch.timings
        ],
    )


def _budget(left: float) -> int:
    # An hour is as good as forever, and keeps infinity out of an integer.
    return 0 if left <= 0 else int(min(left, 3600.0) * _MICRO)


def encode_columns(columns: Iterable[Column]) -> list[pb.Column]:
    """Messages of columns."""
    return [_encode_column(c) for c in columns]


def _encode_column(column: Column) -> pb.Column:
    message = pb.Column(name=column.name, data_type=int(column.dtype), row_shape=column.row_shape)  # type: ignore[arg-type]  # same numbers
    if isinstance(column.values, Ragged):
        ragged = column.values.compact()
        message.data, message.offsets = bytes(ragged.data), ragged.offsets.astype("<u4", copy=False).tobytes()
    else:
        message.data = column.values.tobytes()
    if column.valid is not None and not column.valid.all():
        message.validity = np.packbits(column.valid, bitorder="little").tobytes()
    return message


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
    timings = [
        Timing(t.stage, t.service, t.start_us, t.duration_us, t.row_count, dict(t.attributes)) for t in message.timings
    ]
    return Batch(rows, decode_columns(message.columns, count), errors, timings)


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
    decoded = Rows(
        ids,
        list(rows.tenants),
        list(rows.priorities),
        [now + b / _MICRO for b in rows.budgets_us],
        list(rows.traceparents),
    )
    if not (
        count == len(decoded.tenants) == len(decoded.priorities) == len(decoded.deadlines) == len(decoded.traceparents)
    ):
        raise malformed("the lists of row contexts differ in length")
    return decoded


def decode_columns(messages: Iterable[pb.Column], count: int) -> Mapping[str, Column]:
    """Columns of `count` rows. Raises Fault INVALID_ARGUMENT naming the column that does not fit."""
    columns: dict[str, Column] = {}
    for message in messages:
        column = _decode_column(message, count)
        if not column.name or column.name in columns:
            raise malformed(f"column name {column.name!r} is empty or used twice", column=column.name)
        columns[column.name] = column
    return columns


def _decode_column(message: pb.Column, count: int) -> Column:
    name = message.name
    try:
        dtype = DType(message.data_type)
    except ValueError:
        raise malformed(f"column {name} has no known data type", column=name) from None
    shape = tuple(message.row_shape)
    size = 1
    for n in shape:
        size *= n
    if size > MAX_ROW_ELEMENTS:
        raise malformed(f"column {name} has {size} elements per row; at most {MAX_ROW_ELEMENTS}", column=name)
    valid = _decode_validity(message, count)
    if dtype is DType.BYTES:
        return Column(name, dtype, _decode_ragged(message, count * size), shape, valid)
    expected = count * size * dtype.numpy.itemsize
    if len(message.data) != expected or message.offsets:
        raise malformed(
            f"column {name} has {len(message.data)} bytes; {count} rows of {list(shape)} {dtype.name} need {expected}",
            column=name,
        )
    return Column(name, dtype, np.frombuffer(message.data, dtype.numpy).reshape(count, *shape), shape, valid)


def _decode_validity(message: pb.Column, count: int) -> Mask | None:
    if not message.validity:
        return None
    if len(message.validity) != (count + 7) // 8:
        raise malformed(f"column {message.name} has a validity bitmap for another number of rows", column=message.name)
    return np.unpackbits(np.frombuffer(message.validity, np.uint8), count=count, bitorder="little").view(bool)


def _decode_ragged(message: pb.Column, elements: int) -> Ragged:
    if len(message.offsets) != 4 * (elements + 1):
        raise malformed(f"column {message.name} needs {elements + 1} offsets", column=message.name)
    offsets = np.frombuffer(message.offsets, "<u4")
    if offsets[0] != 0 or offsets[-1] != len(message.data) or (offsets[1:] < offsets[:-1]).any():
        raise malformed(f"column {message.name} has offsets that do not fit its data", column=message.name)
    return Ragged(offsets, message.data)


def malformed(message: str, **metadata: str) -> Fault:
    """A Fault for a message that breaks the contract of batch.proto."""
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, metadata=metadata)
