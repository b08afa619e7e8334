"""Rows as bytes: the key of each row, and its answer in a form that outlives the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.pipeline import ModelUse

# Longer rows (pictures) are known by their SHA-256, so that the keys do not take the memory of the answers. 256 bits: two
# different rows never have the same. Hashing takes 0.7 µs per KB, comparing short keys nothing.
LONGEST_KEY = 256


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a kept answer."""

    name: str
    dtype: DType
    row_shape: tuple[int, ...]

    @property
    def row_size(self) -> int:
        """Elements in one row."""
        size = 1
        for n in self.row_shape:
            size *= n
        return size


Value = bytes | tuple[bytes, ...] | None
"""One cell: little-endian numbers; a byte string; several of them; None: null."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of one row: a value for each field. `fields` and `models` are shared by all rows of a batch."""

    fields: tuple[Field, ...]
    values: tuple[Value, ...]
    models: tuple[ModelUse, ...]

    @property
    def size_bytes(self) -> int:
        return sum(
            [48 + (len(v) if isinstance(v, bytes) else sum(map(len, v)) if v else 0) for v in self.values]
        )


def row_keys(prefix: bytes, tenants: Sequence[str], columns: Sequence[Column]) -> list[bytes]:
    """The key of each row: what answers (`prefix`), whose row it is, and its values. Columns always come in the same order.

    Rows with the same key have the same tenant and the same values in every column: a byte for each column says whether the row
    has a value there; then come numbers in their fixed width, and byte strings with their lengths before them.
    """
    parts = [_cells(column) for column in columns]
    heads = {tenant: prefix + b"%d:" % len(tenant.encode()) + tenant.encode() for tenant in set(tenants)}
    keys = []
    for tenant, marks, *cells in zip(tenants, _marks(columns, len(tenants)), *parts, strict=True):
        row = marks + b"".join(cells)
        if len(row) > LONGEST_KEY:
            row = b"#" + hashlib.sha256(row).digest()
        keys.append(heads[tenant] + row)
    return keys


def _marks(columns: Sequence[Column], count: int) -> list[bytes]:
    """For each row a byte per column, 1 where it has no value. They come first, so that no row begins as a hashed one."""
    if all(column.valid is None for column in columns):
        return [bytes(len(columns))] * count
    table = np.zeros((count, len(columns)), np.uint8)
    for i, column in enumerate(columns):
        if column.valid is not None:
            table[:, i] = ~column.valid
    return [row.tobytes() for row in table]


def _cells(column: Column) -> list[bytes]:
    """Each row's values; a row without a value has none."""
    if isinstance(column.values, Ragged):
        items, size = column.values.to_list(), column.row_size
        cells = [b"%d:%b" % (len(item), item) for item in items]
        if size != 1:
            cells = [b"".join(cells[i * size : (i + 1) * size]) for i in range(len(column))]
    else:
        cells = _slices(column)
    if column.valid is None:
        return cells
    return [cell if ok else b"" for cell, ok in zip(cells, column.valid.tolist(), strict=True)]


def _slices(column: Column) -> list[bytes]:
    raw, count = column.array.tobytes(), len(column)
    step = len(raw) // count if count else 0
    return [raw[i : i + step] for i in range(0, len(raw), step)] if step else [b""] * count


def answers_of(
    columns: Sequence[Column], models: tuple[ModelUse, ...], fields: tuple[Field, ...]
) -> list[Answer]:
    """The answer of each row. `fields`: as `fields_of(columns)`."""
    return [Answer(fields, values, models) for values in zip(*map(_values, columns), strict=True)]


def fields_of(columns: Iterable[Column]) -> tuple[Field, ...]:
    """What is kept of these columns."""
    return tuple(Field(c.name, c.dtype, c.row_shape) for c in columns)


def _values(column: Column) -> Sequence[Value]:
    size = column.row_size
    values: Sequence[Value]
    if not isinstance(column.values, Ragged):
        values = _slices(column)
    elif size == 1:
        values = column.values.to_list()
    else:
        items = column.values.to_list()
        values = [tuple(items[i * size : (i + 1) * size]) for i in range(len(column))]
    if column.valid is None:
        return values
    return [value if ok else None for value, ok in zip(values, column.valid.tolist(), strict=True)]


def columns_of(answers: Sequence[Answer]) -> list[Column]:
    """The columns of answers that have the same fields."""
    return [
        _column(field, [answer.values[i] for answer in answers]) for i, field in enumerate(answers[0].fields)
    ]


def _column(field: Field, values: Sequence[Value]) -> Column:
    valid = None
    if None in values:
        valid = np.array([value is not None for value in values], bool)
    if field.dtype is DType.BYTES:
        items: list[bytes] = []
        for value in values:
            if value is None:
                items.extend([b""] * field.row_size)
            elif isinstance(value, tuple):
                items.extend(value)
            else:
                items.append(value)
        return Column(field.name, field.dtype, Ragged.of(items), field.row_shape, valid)
    empty = bytes(field.row_size * field.dtype.numpy.itemsize)
    raw = b"".join([value if isinstance(value, bytes) else empty for value in values])
    array = np.frombuffer(raw, field.dtype.numpy).reshape(len(values), *field.row_shape)
    return Column(field.name, field.dtype, array, field.row_shape, valid)
