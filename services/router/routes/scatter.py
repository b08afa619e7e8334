"""Spreads a column of some rows over all rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, Ragged


def scatter(column: Column, rows: NDArray[np.intp], count: int, fill: int = 0) -> Column:
    """A column of `count` rows whose row `rows[i]` is row i of `column`; `rows` ascends.

    The other rows hold `fill`, or empty bytes.
    """
    valid = None
    if column.valid is not None:
        valid = np.ones(count, bool)
        valid[rows] = column.valid
    if isinstance(column.values, Ragged):
        values = _scatter_ragged(column.values, rows, count, column.row_size)
        return Column(column.name, column.dtype, values, column.row_shape, valid)
    array = np.full((count, *column.row_shape), fill, column.dtype.numpy)
    array[rows] = column.values
    return Column(column.name, column.dtype, array, column.row_shape, valid)


def _scatter_ragged(ragged: Ragged, rows: NDArray[np.intp], count: int, size: int) -> Ragged:
    ragged = ragged.compact()
    lengths = np.zeros((count, size), np.uint32)
    lengths[rows] = np.diff(ragged.offsets).reshape(len(rows), size)
    offsets = np.zeros(count * size + 1, np.uint32)
    np.cumsum(lengths.reshape(-1), out=offsets[1:])
    # The rows in between are empty, so the bytes stay where they are.
    return Ragged(offsets, ragged.data)
