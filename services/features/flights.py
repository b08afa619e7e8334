"""Reads on their way: a call that wants a row which is being read for another one waits for that read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from services.features.planning import ViewPlan
from services.features.ports import Ask, Rows


class Seat(NamedTuple):
    """Where a row will be in what a flight brings: the number of the ask, and the place in it."""

    flight: Flight
    ask: int
    place: int


class Flight:
    """One read of the store. `landed`: what it brings, None if the read failed."""

    __slots__ = ("_asks", "_seats", "landed")

    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = asks
        # Worked out when the first other call asks: most often there is none.
        self._seats: dict[tuple[str, bytes], Seat] | None = None
        self.landed: asyncio.Future[Sequence[Rows] | None] = asyncio.get_running_loop().create_future()

    def seat(self, view: ViewPlan, key: bytes) -> Seat | None:
        """Where the row of this key will be; None if it is not being read."""
        if self._seats is None:
            self._seats = {
                (ask.view.identity, key): Seat(self, i, j)
                for i, ask in enumerate(self._asks)
                for j, key in enumerate(ask.keys)
            }
        return self._seats.get((view.identity, key))

    def land(self, found: Sequence[Rows] | None) -> None:
        """Hands out the rows."""
        self.landed.set_result(found)
