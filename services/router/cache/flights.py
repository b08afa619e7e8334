"""Answers that are being computed now. A row with the same key waits for the first one instead of running, too."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from services.router.cache.rows import Answer

Flight: TypeAlias = "asyncio.Future[Answer | None]"
"""What a flight brings; None: nothing that may be kept, so who waits has to run itself."""


class Flights:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def of(self, key: bytes) -> Flight | None:
        """The flight of this key; None: there is none."""
        return self._flights.get(key)

    def begin(self, key: bytes) -> None:
        """A row with this key runs now. `end` must follow."""
        self._flights[key] = asyncio.get_running_loop().create_future()

    def end(self, key: bytes, answer: Answer | None) -> None:
        """The row has its answer, or none. A flight that has ended already is left alone."""
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(answer)
