"""Rows that the store gave: current ones save asking again, others are for when the store can't be asked."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from services.features.planning import ViewPlan
from services.features.ports import Ask, Rows, StoredRow

# Python's objects for an entry, its key and its values, besides their bytes.
_ENTRY_BYTES = 400
_VALUE_BYTES = 33
_VIEWS = 1000


# Row, epoch, until when it is current (monotonic seconds), size in bytes. A plain tuple, the fastest thing to make.
_Entry: TypeAlias = tuple[StoredRow, int, float, int]


class Memory:
    """A map from entity and view to the last-known row, bounded by entries and bytes.

    What was not used for longest goes first. That the store does not have an entity is kept apart, in a tenth of the
    places: whoever asks for many that are not there pushes out none that are.
    """

    def __init__(self, entries: int, size_bytes: int) -> None:
        self._entries = entries
        self._size_bytes = size_bytes
        self._rows: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()
        self._absent: OrderedDict[tuple[str, bytes], tuple[int, float]] = OrderedDict()
        self._used = 0
        self._views: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        """An estimate of what it holds."""
        return self._used

    def current(
        self, view: ViewPlan, keys: Sequence[bytes], epoch: int, now: float
    ) -> tuple[list[StoredRow | None], list[int]]:
        """The rows that are as good as the store's: learnt in this epoch, and not too long ago; None for an entity
        that is known not to be there. And the places of those that are not known."""
        identity, rows = view.identity, self._rows
        get = rows.get
        entries = [get((identity, key)) for key in keys]
        if None not in entries and not [e for e in entries if e[1] != epoch or e[2] <= now]:  # type: ignore[index]  # none is None
            self._use(identity, keys)
            return [e[0] for e in entries], []  # type: ignore[index]  # as above
        found: list[StoredRow | None] = []
        holes: list[int] = []
        for key, entry in zip(keys, entries, strict=True):
            if entry is not None and entry[1] == epoch and now < entry[2]:
                found.append(entry[0])
                continue
            absent = self._absent.get((identity, key)) if entry is None else None
            if absent is None or absent[0] != epoch or now >= absent[1]:
                holes.append(len(found))
            found.append(None)
        self._use(identity, [key for key, row in zip(keys, found, strict=True) if row is not None])
        return found, holes

    def _use(self, identity: str, keys: Sequence[bytes]) -> None:
        """Moves rows to the end of the queue; while there is room for twice as many, their order does not matter."""
        if 2 * len(self._rows) > self._entries or 2 * self._used > self._size_bytes:
            for key in keys:
                self._rows.move_to_end((identity, key))

    def recall(self, view: ViewPlan, keys: Sequence[bytes]) -> list[StoredRow | None]:
        """The last-known rows, however old; None where nothing is remembered."""
        identity, rows = view.identity, self._rows
        entries = [rows.get((identity, key)) for key in keys]
        return [entry and entry[0] for entry in entries]

    def outdate(self, key: bytes) -> None:
        """The entity's rows are current no longer; they are still the last known."""
        for identity in self._views:
            self._absent.pop((identity, key), None)
            entry = self._rows.get((identity, key))
            if entry is not None:
                row, epoch, _, size = entry
                self._rows[identity, key] = (row, epoch, -math.inf, size)

    def learn(self, ask: Ask, found: Rows, epoch: int, until: float) -> None:
        """Keeps the rows that are there, as current until the epoch ends or `until` (monotonic seconds)."""
        identity, rows = ask.view.identity, self._rows
        self._views.add(identity)
        if len(self._views) > _VIEWS:
            # Lists of references that nobody asks for any more.
            self._views = {view for view, _ in rows} | {identity}
        overhead = _ENTRY_BYTES + _VALUE_BYTES * len(ask.view.features)
        for key, row in zip(ask.keys, found, strict=True):
            place = (identity, key)
            known = rows.pop(place, None)
            if known is not None:
                self._used -= known[3]
            if row is not None:
                size = overhead + len(key) + len(b"".join(row[1]))
                rows[place] = (row, epoch, until, size)
                self._used += size
                self._absent.pop(place, None)
            else:
                self._absent[place] = (epoch, until)
                self._absent.move_to_end(place)
        while len(self._absent) > self._entries // 10:
            self._absent.popitem(last=False)
        while len(rows) > self._entries or self._used > self._size_bytes:
            self._used -= rows.popitem(last=False)[1][3]
