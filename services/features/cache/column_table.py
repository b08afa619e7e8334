"""Rows of one view as columns: what is in memory, current, and numbers alone is had by a few NumPy calls a batch.

The memory of rows (remembering.py) decides what is remembered and what is current; this only makes it quick to take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Array
from services.features.plan.plan import ViewPlan, nothing_of
from services.features.reply.values import Floats
from services.features.stores.online_store import StoredRow

# Fewer rows are sooner looked at one by one.
MANY = 8
_FIRST = 256

Places = NDArray[np.intp]
Times = NDArray[np.float64]


class Block(Sequence[StoredRow | None]):
    """Rows of a store, one per key, in a table whose rows do not change. As a sequence they are what the store gave,
    to the byte."""

    def __init__(self, columns: Array, times: Times, stored: Sequence[StoredRow | None], at: Places) -> None:
        """Of a table: `columns` (rows, features), NaN = null; `times`, NaN = the entity is not there; the same as
        `stored`; and which of them these are."""
        self._columns = columns
        self._times = times
        self._stored = stored
        self._at = at

    def spread(self, place: Places | None) -> tuple[Array, Times]:
        """Columns and times by row of a batch, if `place` is each row's key; a row without one (the number of keys)
        is of an entity that is not there."""
        at = self._at
        if place is None:
            return self._columns[at], self._times[at]
        if place.max() < len(at):
            at = at[place]
            return self._columns[at], self._times[at]
        columns, times = self._columns[at], self._times[at]
        columns = np.concatenate([columns, np.full((1, columns.shape[1]), np.nan, columns.dtype)])
        return columns[place], np.append(times, np.nan)[place]

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, index: int) -> StoredRow | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[StoredRow | None]: ...
    def __getitem__(self, index: int | slice) -> StoredRow | list[StoredRow | None] | None:
        return self.rows()[index]

    def __iter__(self) -> Iterator[StoredRow | None]:
        return iter(self.rows())

    def rows(self) -> list[StoredRow | None]:
        """As other rows are."""
        return list(map(self._stored.__getitem__, self._at.tolist()))


def block_of(view: ViewPlan, rows: Sequence[StoredRow | None]) -> Block | None:
    """Rows that were just read, as a block; None if not all are of floats in the usual form."""
    if view.floats is None or not rows:
        return None
    nothing = nothing_of(view)
    columns = view.floats.columns([nothing if row is None else row[1] for row in rows])
    if columns is None:
        return None
    times = np.array([np.nan if row is None else row[0] for row in rows])
    return Block(columns, times, rows, np.arange(len(rows)))


class Table:
    """Rows that are current until some time. A row is never changed where it is, only left behind."""

    def __init__(self, view: ViewPlan, pack: Floats) -> None:
        self._view = view
        self._places: dict[bytes, int] = {}
        self._stored: list[StoredRow | None] = []
        self._columns: Array = np.empty((_FIRST, len(view.features)), pack.dtype)
        self._times: Times = np.empty(_FIRST)
        self._until: Times = np.empty(_FIRST)

    def __len__(self) -> int:
        """Rows that it has, those left behind included."""
        return len(self._stored)

    def find(self, keys: Sequence[bytes], now: float) -> Block | None:
        """The rows of these keys; None if one of them is not here, or is no longer current."""
        places = list(map(self._places.get, keys))
        if not places or None in places:
            return None
        at = np.array(places, np.intp)
        if not self._until[at].min() > now:
            return None
        return Block(self._columns, self._times, self._stored, at)

    def put(self, keys: Sequence[bytes], rows: Sequence[StoredRow | None], until: Sequence[float]) -> None:
        """Takes rows in, if all of them are of numbers in the usual form; None: the entity is not there."""
        new = [i for i, key in enumerate(keys) if key not in self._places]
        if not new:
            return
        block = block_of(self._view, [rows[i] for i in new])
        if block is None:
            return
        columns, times = block.spread(None)
        if len(self._stored) > 2 * len(self._places) + _FIRST:
            self._close_ranks()
        begin, end = len(self._stored), len(self._stored) + len(new)
        while end > len(self._times):
            self._columns, self._times = _twice(self._columns), _twice(self._times)
            self._until = _twice(self._until)
        self._columns[begin:end] = columns
        self._times[begin:end] = times
        self._until[begin:end] = [until[i] for i in new]
        self._stored += [rows[i] for i in new]
        self._places.update(zip([keys[i] for i in new], range(begin, end), strict=True))

    def _close_ranks(self) -> None:
        """Drops the rows left behind, of which there are more than of the others: each expiry leaves all behind. Blocks that
        were given out keep what they are of."""
        at = np.fromiter(self._places.values(), np.intp, len(self._places))
        self._stored = list(map(self._stored.__getitem__, at.tolist()))
        self._places = dict(zip(self._places, range(len(at)), strict=True))
        room = max(len(at), _FIRST)
        self._columns, self._times, self._until = (
            _in_room(array[at], room) for array in (self._columns, self._times, self._until)
        )

    def forget(self, keys: Sequence[bytes]) -> None:
        """Leaves behind the rows of these keys that it has."""
        if self._places:
            deque(map(self._places.pop, keys, repeat(None)), 0)


class Tables:
    """Of all views, for one epoch of the store; begun anew when there would be more than so many rows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._epoch = 0
        self._tables: dict[str, Table] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def clear(self) -> None:
        """Forgets all."""
        self._tables = {}

    def find(self, view: ViewPlan, keys: Sequence[bytes], epoch: int, now: float) -> Block | None:
        """See Table.find."""
        if epoch != self._epoch:
            self._epoch = epoch
            self.clear()
        table = self._tables.get(view.identity)
        return None if table is None else table.find(keys, now)

    def put(
        self, view: ViewPlan, keys: Sequence[bytes], rows: Sequence[StoredRow | None], until: Sequence[float]
    ) -> None:
        """Takes in rows that are current in the epoch last asked for; nothing of a view that has others than floats."""
        if view.floats is None or not keys:
            return
        if len(self) + len(keys) > self._most:
            self.clear()
        table = self._tables.get(view.identity)
        if table is None:
            table = self._tables[view.identity] = Table(view, view.floats)
        table.put(keys, rows, until)

    def forget(self, identity: str, keys: Sequence[bytes]) -> None:
        """These entities' rows of a view were changed, or are no longer remembered."""
        if (table := self._tables.get(identity)) is not None:
            table.forget(keys)

    def outdate(self, key: bytes) -> None:
        """An entity's rows of all views were changed."""
        for table in self._tables.values():
            table.forget((key,))


def _in_room(array: Array, rows: int) -> Array:
    """The same in a table of so many rows, or more."""
    return np.concatenate([array, np.empty((rows - len(array), *array.shape[1:]), array.dtype)])


def _twice(array: Array) -> Array:
    return np.concatenate([array, np.empty_like(array)])
