"""A cache of rows read from the store. A current row saves a read; an older row is served when the store fails.

Rows are stored and looked up by hundreds, so the work per row is done by dict and zip, not by Python loops.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice, repeat
from operator import itemgetter
from typing import TypeAlias

from services.features.cache.column_table import ColumnTables, TableRows
from services.features.plan.plan import ViewPlan
from services.features.stores.online_store import KeyQuery, Rows, StoredRow

# Memory per entry and per value besides their bytes: Python objects, and the entry's part of the tables.
_ENTRY_BYTES = 400
_VALUE_BYTES = 33
# The same for an entity that the store does not have.
_ABSENT_BYTES = 250
# The largest size of a stored number.
_NUMBER_BYTES = 11


class _Validity:
    """How long rows are current: in this epoch, and before `until` (monotonic seconds). Rows stored together share one."""

    __slots__ = ("epoch", "until")

    def __init__(self, epoch: int, until: float) -> None:
        self.epoch = epoch
        self.until = until


# Row, mark, size in bytes. A plain tuple, because it is the fastest object to create.
_CachedRow: TypeAlias = tuple[StoredRow, _Validity, int]
_OUTDATED = _Validity(-2, -math.inf)
_SIZE = itemgetter(2)


class _Generation:
    """Entries by view and key, in the order in which they were added."""

    def __init__(self) -> None:
        self.views: dict[str, dict[bytes, _CachedRow]] = {}
        self.count = 0
        self.size_bytes = 0

    def put(self, identity: str, keys: Sequence[bytes], entries: Sequence[_CachedRow]) -> None:
        """Adds entries of different keys; replaces entries with the same key."""
        view = self.views.setdefault(identity, {})
        earlier = list(filter(None, map(view.get, keys)))
        view.update(zip(keys, entries, strict=True))
        self.count += len(entries) - len(earlier)
        self.size_bytes += sum(map(_SIZE, entries))
        if earlier:
            self.size_bytes -= sum(map(_SIZE, earlier))

    def take(self, identity: str, keys: Iterable[bytes]) -> list[_CachedRow]:
        """Removes the entries of these keys and returns them; ignores keys that it does not have."""
        view = self.views.get(identity)
        if not view:
            return []
        found: list[_CachedRow] = list(filter(None, map(view.pop, keys, repeat(None))))
        self.count -= len(found)
        self.size_bytes -= sum(map(_SIZE, found))
        return found

    def trim(self, size_bytes: int) -> None:
        """Removes the oldest entries, of the largest view first, until they are not larger."""
        while self.size_bytes > size_bytes:
            identity, view = max(self.views.items(), key=lambda item: len(item[1]))
            self.take(identity, list(islice(view, max(len(view) // 8, 1))))


class RowCache:
    """A map from entity and view to the last-known row, bounded by bytes.

    It has two generations. An entry that is added or used moves to the young generation. When the young generation reaches half
    of the limit, the old one is dropped and the young one becomes the old one. So about half of the cache always holds the
    entries that were added or used last.

    Absent entities (the store does not have them) are kept separately, limited to a tenth of the bytes: requests for
    many absent entities do not evict rows.

    Tables hold copies of rows that were found current and are young or absent; reading from a table is faster. A row that
    is changed, dropped or becomes old here is removed from the tables, so a row from a table needs no further check.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._young, self._old = _Generation(), _Generation()
        self._absent: OrderedDict[tuple[str, bytes], _Validity] = OrderedDict()
        self._absent_views: set[str] = set()
        self._absent_bytes = 0
        self._tables = ColumnTables(2 * size_bytes // _ENTRY_BYTES)
        self._ages = 0

    def __len__(self) -> int:
        return self._young.count + self._old.count

    @property
    def size_bytes(self) -> int:
        return self._young.size_bytes + self._old.size_bytes

    @property
    def absent_bytes(self) -> int:
        return self._absent_bytes

    @property
    def table_rows(self) -> int:
        """Rows in the tables, including replaced rows that are not yet removed."""
        return len(self._tables)

    def current(
        self, view: ViewPlan, keys: Sequence[bytes], epoch: int, now: float, many: bool = False
    ) -> tuple[list[StoredRow | None] | TableRows, list[int]]:
        """The current rows (stored in this epoch, and not too long ago), and the positions of keys without a current row.

        A row is None if the entity is known to be absent. `many`: returns a TableRows where possible.
        """
        if many and (block := self._tables.find(view, keys, epoch, now)) is not None:
            return block, []
        identity, age = view.identity, self._ages
        row: StoredRow | None
        rows: list[StoredRow | None] = []
        holes: list[int] = []
        until: list[float] = []
        for key, entry in zip(keys, self._entries_of(identity, keys), strict=True):
            if entry is None:
                row, mark = None, self._absent.get((identity, key), _OUTDATED)
            else:
                row, mark, _ = entry
            if mark.epoch == epoch and now < mark.until:
                rows.append(row)
                if many:
                    until.append(mark.until)
            else:
                holes.append(len(rows))
                rows.append(None)
        if until and age == self._ages:
            at = set(holes)
            known = [i for i in range(len(rows)) if i not in at] if at else range(len(rows))
            self._tables.put(view, [keys[i] for i in known], [rows[i] for i in known], until)
        return rows, holes

    def recall(self, view: ViewPlan, keys: Sequence[bytes]) -> list[StoredRow | None]:
        """The last-known rows of any age; None where no row is cached."""
        return [entry and entry[0] for entry in self._entries_of(view.identity, keys)]

    def _entries_of(self, identity: str, keys: Sequence[bytes]) -> list[_CachedRow | None]:
        """The entry of each key, or None. Moves the entries to the young generation."""
        young = self._young.views.get(identity)
        entries: list[_CachedRow | None] = list(map(young.get, keys)) if young else [None] * len(keys)
        if self._old.count and None in entries:
            old = self._old.views.get(identity, {})
            again = [key for key, entry in zip(keys, entries, strict=True) if entry is None and key in old]
            if again:
                again = list(dict.fromkeys(again))
                self._young.put(identity, again, self._old.take(identity, again))
                self._grow_old()
                return self._both(identity, keys)
        return entries

    def _both(self, identity: str, keys: Sequence[bytes]) -> list[_CachedRow | None]:
        young, old = self._young.views.get(identity, {}), self._old.views.get(identity, {})
        return [young.get(key) or old.get(key) for key in keys]

    def mark_outdated(self, key: bytes) -> None:
        """The entity's rows are no longer current; they stay available as last-known rows."""
        for identity in self._absent_views:
            if self._absent.pop((identity, key), None) is not None:
                self._absent_bytes -= len(key) + _ABSENT_BYTES
        for generation in (self._young, self._old):
            for view in generation.views.values():
                entry = view.get(key)
                if entry is not None:
                    view[key] = (entry[0], _OUTDATED, entry[2])
        self._tables.forget_entity(key)

    def learn(self, ask: KeyQuery, found: Rows, epoch: int, until: float) -> None:
        """Stores rows that were read, current until the epoch ends or `until` (monotonic seconds). None: the entity is absent."""
        identity, mark = ask.view.identity, _Validity(epoch, until)
        keys: Sequence[bytes] = ask.keys
        self._tables.forget(identity, keys)
        rows: Sequence[StoredRow] = found  # type: ignore[assignment]  # None rows are removed below
        if None in found:
            self._learn_absent(identity, [k for k, row in zip(keys, found, strict=True) if row is None], mark)
            keys = [k for k, row in zip(keys, found, strict=True) if row is not None]
            rows = [row for row in found if row is not None]
        if not keys:
            return
        if self._old.count:
            self._old.take(identity, keys)
        sizes = _sizes(ask.view, keys, rows)
        self._young.put(identity, keys, list(zip(rows, repeat(mark), sizes)))
        self._grow_old()

    def _learn_absent(self, identity: str, keys: Sequence[bytes], mark: _Validity) -> None:
        self._young.take(identity, keys)
        self._old.take(identity, keys)
        absent = self._absent
        self._absent_views.add(identity)
        for key in keys:
            if (identity, key) not in absent:
                self._absent_bytes += len(key) + _ABSENT_BYTES
            absent[identity, key] = mark
            absent.move_to_end((identity, key))
        while self._absent_bytes > self._size_bytes // 10:
            (dropped, key), _ = absent.popitem(last=False)
            self._tables.forget(dropped, (key,))
            self._absent_bytes -= len(key) + _ABSENT_BYTES

    def _grow_old(self) -> None:
        young, old = self._young, self._old
        limit = self._size_bytes
        if 2 * young.size_bytes < limit and young.size_bytes + old.size_bytes <= limit:
            return
        self._old, self._young = young, _Generation()
        self._ages += 1
        self._tables.clear()
        young.trim(limit)


def _sizes(view: ViewPlan, keys: Sequence[bytes], rows: Sequence[StoredRow]) -> Iterable[int]:
    """The estimated size of each entry; for views of numbers only, one mean size for all."""
    overhead = _ENTRY_BYTES + _VALUE_BYTES * len(view.features)
    if view.numbers:
        return repeat(overhead + _NUMBER_BYTES * len(view.features) + sum(map(len, keys)) // len(keys))
    return [overhead + len(key) + sum(map(len, values)) for key, (_, values) in zip(keys, rows, strict=True)]
