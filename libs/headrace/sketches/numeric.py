"""Counts of all columns of numbers together: one NumPy call for all of them, so that a row costs a fraction of a microsecond."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.sketches import hyperloglog, values
from headrace.sketches.layout import Layout, Tables, cells_of
from headrace.sketches.values import Values

# Moments are sums of (x − centre) / scale in steps of 1/4096, cut at ±64: whole numbers, so that sums do not depend on the order
# of addition, and two replicas merged equal one to the last bit.
_STEPS = 4096.0
_CUT = 64.0
_ADDED = ("rows", "nulls", "non_finite", "zeros", "out_of_range", "sums", "squares", "bins")

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Index: TypeAlias = "Counts | slice"


class NumberCounts:
    """Arrays whose first axis is the column."""

    def __init__(self, layout: Layout) -> None:
        count = len(layout.numbers)
        self._layout = layout
        self._tables: Tables = layout.tables
        self.rows: Counts = np.zeros(count, np.int64)
        self.nulls, self.non_finite, self.zeros, self.out_of_range, self.sums, self.squares = (
            np.zeros(count, np.int64) for _ in range(6)
        )
        self.low: Floats = np.full(count, np.inf)
        self.high: Floats = np.full(count, -np.inf)
        self.bins: Counts = np.zeros((count, self._tables.width), np.int64)
        self.registers = np.zeros((count, hyperloglog.REGISTERS), np.uint8)

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
        """Where values are finite and not null; None: everywhere. Puts the column's centre where they are not."""
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
        np.copyto(x, self._tables.centre[index], where=~usable)
        return usable

    def _take(self, index: Index, x: Floats, usable: NDArray[np.bool_] | None) -> None:
        tables = self._tables
        zero, outside = x == 0, (x < tables.low[index]) | (x > tables.high[index])
        low, high = x, x
        if usable is not None:
            zero &= usable
            outside &= usable
            low, high = np.where(usable, x, np.inf), np.where(usable, x, -np.inf)
        self.zeros[index] += zero.sum(axis=1)
        self.out_of_range[index] += outside.sum(axis=1)
        self.low[index] = np.minimum(self.low[index], low.min(axis=1))
        self.high[index] = np.maximum(self.high[index], high.max(axis=1))
        self._add_moments(index, x)
        self._add_bins(index, x, usable)
        hashes = hyperloglog.hashes_of_numbers(x)
        offsets = self._tables.registers[index]
        if usable is not None:
            hashes, offsets = hashes[usable], np.broadcast_to(offsets, x.shape)[usable]
        hyperloglog.observe(self.registers.reshape(-1), offsets, hashes)

    def _add_moments(self, index: Index, x: Floats) -> None:
        # Where there is no value, x is the centre, which adds 0.
        with np.errstate(over="ignore"):
            z = (x - self._tables.centre[index]) / self._tables.scale[index]
        np.clip(z, -_CUT, _CUT, out=z)
        z *= _STEPS
        np.rint(z, out=z)
        # Whole numbers below 2^53, so these sums are exact.
        self.sums[index] += z.sum(axis=1).astype(np.int64)
        self.squares[index] += np.einsum("ij,ij->i", z, z).astype(np.int64)

    def _add_bins(self, index: Index, x: Floats, usable: NDArray[np.bool_] | None) -> None:
        tables = self._tables
        with np.errstate(over="ignore"):
            cells = cells_of(x, tables.start[index], tables.per_unit[index])
        cells += tables.cells[index]
        found = tables.first[cells]
        found += x >= tables.edge[cells]
        flat = found.ravel() if usable is None else found[usable]
        self.bins += np.bincount(flat, minlength=self.bins.size).reshape(self.bins.shape)

    def moments(self, place: int) -> tuple[float, float]:
        """Mean and standard deviation of a column; NaN without values."""
        count = int(self.rows[place] - self.nulls[place] - self.non_finite[place])
        if not count:
            return math.nan, math.nan
        mean = int(self.sums[place]) / count / _STEPS
        square = int(self.squares[place]) / count / _STEPS**2
        column = self._layout.numbers[place]
        return column.centre + mean * column.scale, math.sqrt(max(square - mean**2, 0.0)) * column.scale

    def merge(self, other: NumberCounts) -> None:
        for key in _ADDED:
            mine: Counts = getattr(self, key)
            mine += getattr(other, key)
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)
        np.maximum(self.registers, other.registers, out=self.registers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {key: getattr(self, key) for key in (*_ADDED, "low", "high", "registers")}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises KeyError, ValueError or TypeError if they are not those of this layout."""
        for key, mine in self.arrays().items():
            found = arrays[key]
            if found.shape != mine.shape or found.dtype != mine.dtype:
                raise ValueError(f"{key} has another form")
            mine[...] = found
