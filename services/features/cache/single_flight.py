"""Reads in progress. A call that needs a row which is already being read for another call waits for that read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, repeat
from typing import TypeAlias

from services.features.stores.online_store import KeyQuery, Rows

PendingRead: TypeAlias = "asyncio.Future[Sequence[Rows] | None]"
"""What a read brings; None if it failed."""

PendingRow: TypeAlias = tuple[PendingRead, int, int]
"""Where a row will be: what brings it, the number of the ask, and the place in it."""

# Entries of finished reads stay until there are more than this many: searching for them one by one would cost more.
_SEATS = 20_000


class SingleFlight:
    """All reads in progress. Used on one event loop."""

    def __init__(self) -> None:
        self._seats: dict[str, dict[bytes, PendingRow]] = {}
        self._taken = 0
        # Reads whose rows are not yet in `_seats`: most reads end before another call looks for theirs.
        self._new: list[tuple[PendingRead, Sequence[KeyQuery]]] = []
        # Number of reads in progress. A plain attribute, because it is read for every view of a request.
        self.active = 0

    def seats(self, identity: str, keys: Sequence[bytes]) -> list[PendingRow | None]:
        """Where the rows of these keys of a view will be; None for a key that is not being read."""
        for landing, asks in self._new:
            self._enter(landing, asks)
        self._new.clear()
        known = self._seats.get(identity)
        if not known:
            return [None] * len(keys)
        found: list[PendingRow | None] = list(map(known.get, keys))
        if found.count(None) == len(found):
            return found
        return [seat if seat is not None and not seat[0].done() else None for seat in found]

    def start(self, asks: Sequence[KeyQuery]) -> PendingRead:
        """Registers a read of these rows, which begins now."""
        landing: PendingRead = asyncio.get_running_loop().create_future()
        self.active += 1
        self._new.append((landing, asks))
        return landing

    def _enter(self, landing: PendingRead, asks: Sequence[KeyQuery]) -> None:
        if self._taken > _SEATS:
            # This also removes entries of reads that are still in progress: later calls for those rows read them again.
            self._clear()
        for i, (view, keys) in enumerate(asks):
            seats = self._seats.setdefault(view.identity, {})
            seats.update(zip(keys, zip(repeat(landing), repeat(i), count()), strict=False))
            self._taken += len(keys)

    def end(self, landing: PendingRead, found: Sequence[Rows] | None) -> None:
        """The read has ended: gives its result to all calls that wait for it."""
        landing.set_result(found)
        self.active -= 1
        if not self.active:
            self._new.clear()
            self._clear()

    def _clear(self) -> None:
        self._seats.clear()
        self._taken = 0
