"""Tables of cached rows whose features are all floats: a few NumPy calls return the rows of a whole batch.

The cache (cache.py) decides which rows are kept and which are current; a table only makes reading them faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Array
from services.features.plan.plan import ViewPlan
from services.features.reply import FloatPacker
from services.features.stores.online_store import StoredRow

_INITIAL_ROWS = 256

Positions = NDArray[np.intp]
Times = NDArray[np.float64]


class TableRows:
    """Rows of a table, one per key. Iterating returns them exactly as the store did; None: the entity is absent.

    `floats`: (table rows, features), NaN = null. `times`: per table row, NaN = absent. `stored`: the same as stored rows.
    `at`: the positions of these rows in the table. A table never changes a row in place, so no copy is needed.
    """

    def __init__(
        self, floats: Array, times: Times, stored: Sequence[StoredRow | None], at: Positions
    ) -> None:
        self._floats = floats
        self._times = times
        self._stored = stored
        self._at = at

    def times(self, index: Positions | None) -> Times:
        """The event time of each row of a batch. `index`: position of each row's key; the number of keys if it has no key."""
        return self._spread(self._times, index)

    def floats(self, index: Positions | None) -> Array:
        """The values of each row of a batch, as (rows, features); see `times`."""
        return self._spread(self._floats, index)

    def _spread(self, table: Array, index: Positions | None) -> Array:
        at = self._at
        if index is None:
            return table[at]
        with_key = index < len(at)
        if with_key.all():
            return table[at[index]]
        spread = np.full((len(index), *table.shape[1:]), np.nan, table.dtype)
        spread[with_key] = table[at[index[with_key]]]
        return spread

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[StoredRow | None]:
        return map(self._stored.__getitem__, self._at.tolist())


def table_rows_of(view: ViewPlan, rows: Sequence[StoredRow | None]) -> TableRows | None:
    """These rows as a table of their own; None if not all values are floats in the usual form."""
    if view.floats is None or not rows:
        return None
    floats = view.floats.matrix([view.nulls if row is None else row[1] for row in rows])
    if floats is None:
        return None
    times = np.array([np.nan if row is None else row[0] for row in rows])
    return TableRows(floats, times, rows, np.arange(len(rows)))


class ColumnTable:
    """Rows of one view; each is current until a given time. A row is never changed in place: a newer one is appended."""

    def __init__(self, view: ViewPlan, packer: FloatPacker) -> None:
        self._view = view
        self._positions: dict[bytes, int] = {}
        self._stored: list[StoredRow | None] = []
        self._floats: Array = np.empty((_INITIAL_ROWS, len(view.features)), packer.dtype)
        self._times: Times = np.empty(_INITIAL_ROWS)
        self._until: Times = np.empty(_INITIAL_ROWS)

    def __len__(self) -> int:
        """The number of its rows, including replaced ones."""
        return len(self._stored)

    def find(self, keys: Sequence[bytes], now: float) -> TableRows | None:
        """The rows of these keys; None if one of them is not here, or is no longer current."""
        positions = list(map(self._positions.get, keys))
        if not positions or None in positions:
            return None
        at = np.array(positions, np.intp)
        if not self._until[at].min() > now:
            return None
        return TableRows(self._floats, self._times, self._stored, at)

    def put(self, keys: Sequence[bytes], rows: Sequence[StoredRow | None], until: Sequence[float]) -> None:
        """Adds rows if all their values are floats in the usual form; None: the entity is absent."""
        new = [i for i, key in enumerate(keys) if key not in self._positions]
        if not new:
            return
        added = table_rows_of(self._view, [rows[i] for i in new])
        if added is None:
            return
        if len(self._stored) > 2 * len(self._positions) + _INITIAL_ROWS:
            self._compact()
        begin, end = len(self._stored), len(self._stored) + len(new)
        while end > len(self._times):
            self._floats, self._times, self._until = (
                _with_rows(array, 2 * len(array)) for array in (self._floats, self._times, self._until)
            )
        self._floats[begin:end] = added.floats(None)
        self._times[begin:end] = added.times(None)
        self._until[begin:end] = [until[i] for i in new]
        self._stored += [rows[i] for i in new]
        self._positions.update(zip([keys[i] for i in new], range(begin, end), strict=True))

    def _compact(self) -> None:
        """Drops replaced rows when most rows are replaced ones: each expiry replaces all rows. TableRows that were returned
        before keep the old arrays."""
        at = np.fromiter(self._positions.values(), np.intp, len(self._positions))
        self._stored = list(map(self._stored.__getitem__, at.tolist()))
        self._positions = dict(zip(self._positions, range(len(at)), strict=True))
        self._floats, self._times, self._until = (
            _with_rows(array[at], max(len(at), _INITIAL_ROWS))
            for array in (self._floats, self._times, self._until)
        )

    def forget(self, keys: Sequence[bytes]) -> None:
        """No longer returns the rows of these keys."""
        if self._positions:
            deque(map(self._positions.pop, keys, repeat(None)), 0)


class ColumnTables:
    """The tables of all views, for one epoch of the store. Cleared before they would exceed `max_rows`."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._epoch = 0
        self._tables: dict[str, ColumnTable] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def clear(self) -> None:
        self._tables = {}

    def find(self, view: ViewPlan, keys: Sequence[bytes], epoch: int, now: float) -> TableRows | None:
        if epoch != self._epoch:
            self._epoch = epoch
            self.clear()
        table = self._tables.get(view.identity)
        return None if table is None else table.find(keys, now)

    def put(
        self, view: ViewPlan, keys: Sequence[bytes], rows: Sequence[StoredRow | None], until: Sequence[float]
    ) -> None:
        """Adds rows that are current in the epoch of the last `find`; ignores views with other features than floats."""
        if view.floats is None or not keys:
            return
        if len(self) + len(keys) > self._max_rows:
            self.clear()
        table = self._tables.get(view.identity)
        if table is None:
            table = self._tables[view.identity] = ColumnTable(view, view.floats)
        table.put(keys, rows, until)

    def forget(self, identity: str, keys: Sequence[bytes]) -> None:
        """These entities' rows of a view were changed, or are no longer cached."""
        if (table := self._tables.get(identity)) is not None:
            table.forget(keys)

    def forget_entity(self, key: bytes) -> None:
        """An entity's rows of all views were changed."""
        for table in self._tables.values():
            table.forget((key,))


def _with_rows(array: Array, rows: int) -> Array:
    return np.concatenate([array, np.empty((rows - len(array), *array.shape[1:]), array.dtype)])
