"""Groups of events ⇄ Arrow.

What all events of a batch have in common is in the metadata of its schema; in Parquet it is also columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, Ragged, Rows
from headrace.events import EVENT_ID, EventGroup, GroupHeader
from headrace.events.group import ID_BYTES
from headrace.pipeline import ModelUse

_HEADER = b"headrace.events.header"
# Neither the columns of a pipeline nor annotations begin so.
REPLICA, EPOCH = "$replica", "$epoch"
REQUEST_ID, TENANT, TRACEPARENT = "$request_id", "$tenant", "$traceparent"
MODELS = "$models"
_MODEL_FIELDS = ("stage", "model", "version", "sha256")
_HEADER_COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("pipeline", "revision", "arm", "experiment", "shadow_of"), pa.string()),
    "version": pa.uint64(),
    "release": pa.uint64(),
    "replayed": pa.bool_(),
}
_TYPES: dict[DType, pa.DataType] = {
    d: pa.binary() if d is DType.BYTES else pa.from_numpy_dtype(d.numpy) for d in DType
}
_DTYPES = {kind: dtype for dtype, kind in _TYPES.items()}


def record_batch(replica: str, epoch: int, group: EventGroup) -> pa.RecordBatch:
    """The events as Arrow. Columns begin with ids; the others keep their names."""
    rows, count = group.batch.rows, len(group)
    arrays: dict[str, pa.Array] = {
        REPLICA: _text([replica] * count),
        EPOCH: _numbers(np.full(count, epoch, np.uint64), pa.uint64()),
        REQUEST_ID: _text(rows.request_ids),
        TENANT: _text(rows.tenants),
        TRACEPARENT: _text(rows.traceparents),
    }
    columns = group.batch.columns
    arrays |= {name: _array(column) for name, column in columns.items()}
    kinds = tuple([(name, array.type) for name, array in arrays.items()])
    shapes = tuple([(name, column.row_shape) for name, column in columns.items() if column.row_shape])
    return pa.RecordBatch.from_arrays(list(arrays.values()), schema=_schema(group.header, kinds, shapes))


def packed(batch: pa.RecordBatch) -> bytes:
    """A batch and its schema."""
    buffer = pa.BufferOutputStream()
    with (
        pa.CompressedOutputStream(buffer, "zstd") as stream,
        pa.ipc.new_stream(stream, batch.schema) as writer,
    ):
        writer.write_batch(batch)
    return bytes(buffer.getvalue())


def unpacked(content: bytes) -> pa.Table:
    """What `packed` gave."""
    with pa.ipc.open_stream(pa.CompressedInputStream(pa.BufferReader(content), "zstd")) as stream:
        return stream.read_all()


# Making it takes longer than all else that a message costs here, and few messages differ in it.
@lru_cache(maxsize=64)
def _schema(
    header: GroupHeader,
    kinds: tuple[tuple[str, pa.DataType], ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
) -> pa.Schema:
    shape_of = dict(shapes)
    fields = [
        pa.field(name, kind, metadata=_about(header, name, shape_of.get(name, ()))) for name, kind in kinds
    ]
    return pa.schema(fields, metadata={_HEADER: packed_header(header)})


def header_of(schema: pa.Schema) -> GroupHeader:
    """What all events of a segment have in common. Raises ValueError if the schema is not of one."""
    packed = (schema.metadata or {}).get(_HEADER)
    if packed is None:
        raise ValueError("it holds no events")
    return unpacked_header(packed)


def unpacked_header(packed: bytes | str) -> GroupHeader:
    """What `packed_header` gave."""
    fields: dict[str, Any] = json.loads(packed)
    models = tuple(ModelUse(**m) for m in fields.pop("models"))
    lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
    return GroupHeader(**{**fields, **lists, "models": models})


def group_of(table: pa.Table) -> EventGroup:
    """The events of a table of `record_batch`es. Raises ValueError if it is none."""
    header, count = header_of(table.schema), table.num_rows
    ids, tenants, traces = (table[name].to_pylist() for name in (REQUEST_ID, TENANT, TRACEPARENT))
    rows = Rows(ids, tenants, [0] * count, [0.0] * count, traces)
    columns = [column_of(f, table[f.name].combine_chunks()) for f in table.schema if f.name[0] != "$"]
    return EventGroup(header, Batch.of(rows, columns))


def with_header_columns(table: pa.Table) -> pa.Table:
    """The table with the header as columns, as other programs want it: in Parquet they take next to nothing."""
    header, count = header_of(table.schema), table.num_rows
    for name, kind in _HEADER_COLUMNS.items():
        table = table.append_column(f"${name}", _constant(getattr(header, name), kind, count))
    models = [{n: getattr(m, n) for n in _MODEL_FIELDS} for m in header.models]
    kind = pa.list_(pa.struct([(n, pa.string()) for n in _MODEL_FIELDS]))
    one = _constant(models, kind, 1)
    return table.append_column(MODELS, one.take(_numbers(np.zeros(count, np.int64), pa.int64())))


def without_header_columns(table: pa.Table) -> pa.Table:
    """The table as it was before `with_header_columns`."""
    return table.drop_columns([*(f"${name}" for name in _HEADER_COLUMNS), MODELS])


def repeated_columns(table: pa.Table) -> list[str]:
    """Columns of few different values, as Parquet names them."""
    found = [f"${name}" for name in _HEADER_COLUMNS] + [REPLICA, EPOCH, TENANT]
    return found + [f"{MODELS}.list.element.{name}" for name in _MODEL_FIELDS if MODELS in table.column_names]


def _about(header: GroupHeader, name: str, shape: tuple[int, ...]) -> dict[str, str]:
    roles = [
        role
        for role, names in (
            ("input", header.inputs),
            ("feature", header.features),
            ("output", header.outputs),
        )
        if name in names
    ]
    return {
        "role": " ".join(roles),
        "masked": str(name in header.masked).lower(),
        "shape": ",".join(map(str, shape)),
    }


def column_of(field: pa.Field, array: pa.Array) -> Column:
    shape = (field.metadata or {}).get(b"shape", b"")
    row_shape = tuple(map(int, shape.split(b","))) if shape else ()
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    if pa.types.is_fixed_size_list(array.type):
        row_shape = row_shape or (array.type.list_size,)
        array = array.values.slice(array.offset * array.type.list_size, len(array) * array.type.list_size)
    dtype = _DTYPES[pa.binary() if pa.types.is_fixed_size_binary(array.type) else array.type]
    if dtype is DType.BYTES:
        return Column(field.name, dtype, Ragged.of([v or b"" for v in array.to_pylist()]), row_shape, valid)
    # What stands in the place of a null means nothing.
    known = array.fill_null(pa.scalar(0).cast(array.type)) if array.null_count else array
    values = known.to_numpy(zero_copy_only=False)
    return Column(field.name, dtype, values.reshape(-1, *row_shape), row_shape, valid)


def packed_header(header: GroupHeader) -> bytes:
    return json.dumps(asdict(header), sort_keys=True, separators=(",", ":")).encode()


def _constant(value: object, kind: pa.DataType, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), count)


def _array(column: Column) -> pa.Array:
    kind = _TYPES[column.dtype]
    if isinstance(column.values, Ragged):
        fixed = column.name == EVENT_ID
        flat = _fixed(column.values) if fixed else _binary(column.values, kind)
    else:
        flat = _numbers(column.values, kind)
    if column.row_shape:
        flat = pa.FixedSizeListArray.from_arrays(flat, column.row_size)
    if column.valid is None:
        return flat
    valid = pa.py_buffer(np.packbits(column.valid, bitorder="little"))
    if column.row_shape:
        return pa.Array.from_buffers(flat.type, len(flat), [valid], children=[flat.values])
    return pa.Array.from_buffers(flat.type, len(flat), [valid, *flat.buffers()[1:]])


# Arrays are made of buffers: `pa.array` and `pa.scalar` would import pandas, which takes seconds and 40 MB.
def _numbers(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    flat = np.ascontiguousarray(values).reshape(-1)
    bits = np.packbits(flat, bitorder="little") if flat.dtype == np.bool_ else flat
    return pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(bits)])


def _text(values: Sequence[str]) -> pa.Array:
    return _binary(Ragged.of([value.encode() for value in values]), pa.string())


def _fixed(values: Ragged) -> pa.Array:
    data = pa.py_buffer(bytes(values.compact().data))
    return pa.Array.from_buffers(pa.binary(ID_BYTES), len(values), [None, data])


def _binary(values: Ragged, kind: pa.DataType) -> pa.Array:
    compact = values.compact()
    offsets = pa.py_buffer(compact.offsets.astype(np.int32))
    return pa.Array.from_buffers(kind, len(values), [None, offsets, pa.py_buffer(bytes(compact.data))])
