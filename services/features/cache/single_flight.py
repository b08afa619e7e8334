"""Reads on their way: a call that wants a row which is being read for another one waits for that read."""

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

# Seats of reads that are over are left where they are until there are so many: to look for them costs more.
_SEATS = 20_000


class SingleFlight:
    """All reads on their way. Used on one event loop."""

    def __init__(self) -> None:
        self._seats: dict[str, dict[bytes, PendingRow]] = {}
        self._taken = 0
        # Reads on their way. An attribute: it is looked at for every view of a request.
        self.active = 0

    def seats(self, identity: str, keys: Sequence[bytes]) -> list[PendingRow | None]:
        """Where the rows of these keys of a view will be; None for those that are not being read."""
        known = self._seats.get(identity)
        if not known:
            return [None] * len(keys)
        found: list[PendingRow | None] = list(map(known.get, keys))
        if found.count(None) == len(found):
            return found
        return [seat if seat is not None and not seat[0].done() else None for seat in found]

    def start(self, asks: Sequence[KeyQuery]) -> PendingRead:
        """These rows are being read from now on."""
        landing: PendingRead = asyncio.get_running_loop().create_future()
        self.active += 1
        if self._taken > _SEATS:
            # Whoever would have found a seat of a read that is still on its way reads for itself.
            self._clear()
        for i, (view, keys) in enumerate(asks):
            seats = self._seats.setdefault(view.identity, {})
            seats.update(zip(keys, zip(repeat(landing), repeat(i), count()), strict=False))
            self._taken += len(keys)
        return landing

    def end(self, landing: PendingRead, found: Sequence[Rows] | None) -> None:
        """The read is over; hands out what it brings."""
        landing.set_result(found)
        self.active -= 1
        if not self.active:
            self._clear()

    def _clear(self) -> None:
        self._seats.clear()
        self._taken = 0
