"""Who gets which arm by weights: a key's hash is a point of [0, 1), and each arm holds a part of it.

The same key has the same point for as long as the salt stays, so no table of who is where is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import mmh3
import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, Ragged
from headrace.releases import Assignment
from headrace.releases.inputs import PRIORITY, TENANT
from headrace.releases.spans import LIVE

# A float holds 53 bits of the hash exactly.
_DROPPED_BITS = 11
_UNIT = 2.0**-53


class Split:
    """The assignment of a release, compiled. `arms`: names; rows get positions in it."""

    def __init__(self, assignment: Assignment, arms: Sequence[str]) -> None:
        self._by = assignment.by
        self._seed = mmh3.hash(assignment.salt, signed=False)
        # A request without a key is drawn independently of the keys.
        self._request_seed = mmh3.hash(f"request {assignment.salt}", signed=False)
        starts, holders, end = [0.0], [LIVE], 0.0
        for span in assignment.spans():
            if span.start == end:
                starts.pop()
                holders.pop()
            starts += [span.start, span.stop]
            holders += [span.arm, LIVE]
            end = span.stop
        if end >= 1.0:
            starts.pop()
            holders.pop()
        self._starts = starts
        self._start_array = np.array(starts)
        self._arms = [arms.index(holder) for holder in holders]
        self._arm_array = np.array(self._arms, np.intp)
        # The arm that everybody gets; None: there are several.
        self.only = self._arms[0] if len(set(self._arms)) == 1 else None

    def of_few(self, batch: Batch) -> tuple[list[int], list[bool]]:
        """The arm of each row, and whether its key decided so (not its request). Quick for a few rows."""
        hashes, sticky = self._hashes(batch)
        starts, arms = self._starts, self._arms
        return [arms[bisect_right(starts, (h >> _DROPPED_BITS) * _UNIT) - 1] for h in hashes], sticky

    def of_many(self, batch: Batch) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The same, by a few NumPy calls for all rows."""
        hashes, sticky = self._hashes(batch)
        points = (np.array(hashes, np.uint64) >> np.uint64(_DROPPED_BITS)) * _UNIT
        spans = self._start_array.searchsorted(points, "right") - 1
        return self._arm_array[spans], np.array(sticky, bool)

    def _hashes(self, batch: Batch) -> tuple[list[int], list[bool]]:
        keys = None if self._by is None else keys_of(batch, self._by)
        hash64, seed, requests = mmh3.hash64, self._seed, self._request_seed
        ids = batch.rows.request_ids
        if keys is None:
            return [hash64(i, requests, signed=False)[0] for i in ids], [False] * len(ids)
        if None not in keys:
            return [hash64(k, seed, signed=False)[0] for k in keys], [True] * len(keys)
        return (
            [
                hash64(i, requests, signed=False)[0] if k is None else hash64(k, seed, signed=False)[0]
                for k, i in zip(keys, ids, strict=True)
            ],
            [k is not None for k in keys],
        )


def values_of(batch: Batch, signal: str) -> list[Any] | None:
    """One Python value per row: bytes, int, float, bool or (tenants) str; None for a null. None: the batch has no such
    column with a single value per row."""
    if signal == TENANT:
        return batch.rows.tenants
    if signal == PRIORITY:
        return batch.rows.priorities
    column = batch.columns.get(signal)
    if column is None or column.row_shape:
        return None
    return _values(column)


def _values(column: Column) -> list[Any]:
    values = column.values
    found: list[Any] = values.to_list() if isinstance(values, Ragged) else values.tolist()
    if column.valid is None:
        return found
    return [v if there else None for v, there in zip(found, column.valid.tolist(), strict=True)]


def keys_of(batch: Batch, signal: str) -> list[Any] | None:
    """The values of a signal as bytes or text that can be hashed, None for a null or NaN; None: there is no such column.

    A whole number has the same key as its decimal text, whatever its type.
    """
    values = values_of(batch, signal)
    if not values or isinstance(values[0], bytes | str):
        return values
    return [_text(v) for v in values]


def _text(value: Any) -> Any:
    if isinstance(value, float):
        # −0.0 is 0.0, and NaN is not even itself.
        return str(value + 0.0) if value == value else None
    return value if value is None or isinstance(value, bytes) else str(value)
