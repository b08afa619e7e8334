"""Reads on their way: a call that wants a row which is being read for another one waits for that read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from services.features.planning import ViewPlan
from services.features.ports import Ask, Rows

Landing: TypeAlias = "asyncio.Future[Sequence[Rows] | None]"
"""What a read brings; None if it failed."""

Seat: TypeAlias = tuple[Landing, int, int]
"""Where a row will be: what brings it, the number of the ask, and the place in it."""


class Flights:
    """All reads on their way. Used on one event loop."""

    def __init__(self) -> None:
        self._seats: dict[tuple[str, bytes], Seat] = {}
        self._aloft = 0

    def __len__(self) -> int:
        return self._aloft

    def seat(self, view: ViewPlan, key: bytes) -> Seat | None:
        """Where the row of this key will be; None if it is not being read."""
        return self._seats.get((view.identity, key))

    def start(self, asks: Sequence[Ask]) -> Landing:
        """These rows are being read from now on."""
        landing: Landing = asyncio.get_running_loop().create_future()
        self._aloft += 1
        for i, (view, keys) in enumerate(asks):
            identity = view.identity
            self._seats.update({(identity, key): (landing, i, j) for j, key in enumerate(keys)})
        return landing

    def end(self, landing: Landing, asks: Sequence[Ask], found: Sequence[Rows] | None) -> None:
        """The read is over; hands out what it brings."""
        landing.set_result(found)
        self._aloft -= 1
        if not self._aloft:
            self._seats.clear()
            return
        seats = self._seats
        for view, keys in asks:
            identity = view.identity
            for key in keys:
                # A later read of the same row, begun after a change, has taken its place.
                seat = seats.get((identity, key))
                if seat is not None and seat[0] is landing:
                    del seats[identity, key]
