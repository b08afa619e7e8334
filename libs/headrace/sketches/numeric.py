"""Counts of all columns of numbers together: one NumPy call for all of them, so that a row costs a fraction of a microsecond."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.sketches import values
from headrace.sketches.layout import Layout, Tables, cells_of
from headrace.sketches.values import Values

_COUNTS = ("rows", "nulls", "non_finite", "out_of_range", "bins")

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Index: TypeAlias = "Counts | slice"


class NumberCounts:
    """Arrays whose first axis is the column."""

    def __init__(self, layout: Layout) -> None:
        count = len(layout.numbers)
        self._layout = layout
        self._tables: Tables = layout.tables
        self.rows, self.nulls, self.non_finite, self.out_of_range = (
            np.zeros(count, np.int64) for _ in range(4)
        )
        self.bins: Counts = np.zeros((count, self._tables.width), np.int64)

    def update(self, columns: Mapping[str, Values | None], rows: int) -> None:
        """Takes a batch; None: all nulls."""
        if not columns:
            return
        index = self._index(columns)
        x = np.empty((len(columns), rows))
        nulls: list[NDArray[np.bool_] | None] = []
        for row, found in zip(x, columns.values(), strict=True):
            if found is None:
                row[:] = 0
                nulls.append(np.ones(rows, bool))
            else:
                nulls.append(values.numbers(found, row))
        self.rows[index] += rows
        self._take(index, x, self._usable(index, x, nulls))

    def _index(self, columns: Collection[str]) -> Index:
        """Places of the columns. All columns in their order are a slice: NumPy then copies nothing."""
        if len(columns) == len(self.rows) and all(map(str.__eq__, columns, self._layout.positions)):
            return slice(None)
        places = self._layout.positions
        return np.fromiter((places[name] for name in columns), np.int64, len(columns))

    def _usable(
        self, index: Index, x: Floats, nulls: list[NDArray[np.bool_] | None]
    ) -> NDArray[np.bool_] | None:
        """Where values are finite and not null; None: everywhere. Puts 0 where they are not."""
        finite = np.isfinite(x)
        missing = [mask for mask in nulls if mask is not None]
        if not missing and finite.all():
            return None
        absent = np.zeros(x.shape, bool)
        for row, mask in zip(absent, nulls, strict=True):
            if mask is not None:
                row[:] = mask
        self.nulls[index] += absent.sum(axis=1)
        self.non_finite[index] += (~finite & ~absent).sum(axis=1)
        usable = finite & ~absent
        x[~usable] = 0
        return usable

    def _take(self, index: Index, x: Floats, usable: NDArray[np.bool_] | None) -> None:
        tables = self._tables
        outside = (x < tables.low[index]) | (x > tables.high[index])
        if usable is not None:
            outside &= usable
        self.out_of_range[index] += outside.sum(axis=1)
        with np.errstate(over="ignore"):
            cells = cells_of(x, tables.start[index], tables.per_unit[index])
        cells += tables.cells[index]
        found = tables.first[cells]
        found += x >= tables.edge[cells]
        flat = found.ravel() if usable is None else found[usable]
        self.bins += np.bincount(flat, minlength=self.bins.size).reshape(self.bins.shape)

    def merge(self, other: NumberCounts) -> None:
        for key in _COUNTS:
            mine: Counts = getattr(self, key)
            mine += getattr(other, key)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {key: getattr(self, key) for key in _COUNTS}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises KeyError, ValueError or TypeError if they are not those of this layout."""
        for key, mine in self.arrays().items():
            found = arrays[key]
            if found.shape != mine.shape or found.dtype != mine.dtype:
                raise ValueError(f"{key} has another form")
            mine[...] = found
