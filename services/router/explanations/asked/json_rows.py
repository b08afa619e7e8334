"""Rows as objects of JSON → a batch, by the types that the pipeline declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.columns import Batch, Column, DType, Rows
from headrace.pipeline import ColumnType
from headrace.pipeline.types import scalar
from services.router import errors


def batch_of_json(
    rows: Sequence[str], types: Mapping[str, ColumnType], tenant: str, request_id: str, deadline: float
) -> Batch:
    """The rows with the columns that they name; where a row lacks one, or has null, there is a null. Raises Fault
    INVALID_ARGUMENT naming row and column."""
    objects = [_object(i, text) for i, text in enumerate(rows)]
    names = [name for name in types if any(name in found for found in objects)]
    columns = [_column(name, types[name], [found.get(name) for found in objects]) for name in names]
    for i, found in enumerate(objects):
        for name in found:
            if name not in types:
                known = ", ".join(types)
                raise errors.unreadable_row(
                    i, name, f"there is no such input or feature column; known: {known}"
                )
    return Batch.of(Rows.one_request(len(rows), request_id, tenant, deadline), columns)


def _object(row: int, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise errors.unreadable_row(row, "", "is no object of JSON")
    return found


def _column(name: str, kind: ColumnType, values: Sequence[Any]) -> Column:
    size = int(np.prod(kind.row_shape, dtype=np.int64))
    elements: list[Any] = []
    for row, value in enumerate(values):
        given = [None] * size if value is None else _flat(value) if kind.row_shape else [value]
        if len(given) != size:
            raise errors.unreadable_row(row, name, f"should have {size} elements, has {len(given)}")
        try:
            elements += [None if v is None else scalar(kind.dtype, kind.text, v) for v in given]
        except ValueError as error:
            raise errors.unreadable_row(row, name, str(error)) from None
    valid = np.array([v is not None for v in values])
    if kind.dtype is DType.BYTES:
        made = Column.of_bytes(name, [e or b"" for e in elements], kind.row_shape)
        return Column(name, DType.BYTES, made.values, kind.row_shape, None if valid.all() else valid)
    filled = np.array([e or 0 for e in elements], kind.dtype.numpy).reshape(len(values), *kind.row_shape)
    return Column(name, kind.dtype, filled, kind.row_shape, None if valid.all() else valid)


def _flat(value: Any) -> list[Any]:
    return [e for each in value for e in _flat(each)] if isinstance(value, list) else [value]
