"""Columns as NumPy arrays. The only module of the SDK that needs numpy; imported at the first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client.messages import decisions, model_uses, row_failure
from headrace.client.results import ColumnsResult, Field
from headrace.columns import Column, DType, decode_columns, encode_columns


def fill(request: pb.PredictRequest, columns: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    """Adds columns to a request. Lists get the data type of the pipeline's field of that name; arrays keep their dtype.

    Raises ValueError if there are no columns or their lengths differ; TypeError for values that cannot be a column.
    """
    made = [_column(name, values, fields.get(name)) for name, values in columns.items()]
    lengths = {column.name: len(column) for column in made}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must have the same number of rows, got {lengths or 'none'}")
    request.columns.extend(encode_columns(made))
    request.row_count = len(made[0])


def _column(name: str, values: Any, field: Field | None) -> Column:
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "SUO":
            return Column.of(name, values)
        values = values.tolist()
    items = list(values)
    present = [item for item in items if item is not None]
    if present and isinstance(present[0], str | bytes):
        return Column.of_bytes(name, [i.encode() if isinstance(i, str) else i for i in items])
    if field is not None and field.data_type == DType.BYTES.name:
        return Column.of_bytes(name, items)
    dtype = None if field is None else DType[field.data_type].numpy
    if len(present) == len(items):
        return Column.of(name, np.array(items, dtype))
    valid = np.array([item is not None for item in items])
    blank = np.zeros_like(np.array(present[0])).tolist() if present else 0
    return Column.of(name, np.array([blank if i is None else i for i in items], dtype), valid)


def columns_result(reply: pb.PredictResponse, count: int) -> ColumnsResult:
    """The answer to `count` rows as columns. Raises hop's Fault if the reply breaks its contract."""
    return ColumnsResult(
        request_id=reply.request_id,
        pipeline=reply.pipeline,
        version=reply.version,
        revision=reply.revision,
        models=model_uses(reply.models),
        columns={name: _array(column) for name, column in decode_columns(reply.columns, count).items()},
        errors={error.row: row_failure(error) for error in reply.errors},
        trace_id=reply.trace_id,
        decisions=decisions(reply),
    )


def _array(column: Column) -> NDArray[Any]:
    values: NDArray[Any]
    if column.dtype is DType.BYTES:
        items: Sequence[Any] = column.ragged.to_list()
        values = np.empty(len(items), object)
        values[:] = _texts(items)
        values = values.reshape(len(column), *column.row_shape)
    else:
        values = column.array
    if column.valid is None:
        return values
    mask = np.broadcast_to(~column.valid.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    masked: NDArray[Any] = np.ma.MaskedArray(values, mask=mask)
    return masked


def _texts(items: Sequence[bytes]) -> Sequence[Any]:
    try:
        return [item.decode() for item in items]
    except UnicodeDecodeError:
        return items  # not UTF-8 text
