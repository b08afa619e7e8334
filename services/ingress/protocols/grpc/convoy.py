"""Replies that become ready in the same turn of the event loop leave together, at its end.

The rows of a batch are answered in one turn. Sent one by one, between the making of one and the next, each reply finds Envoy's
thread done with the last. Sent in a row they cost it a quarter less, and the caller a fifth (load/RESULTS.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


class Convoy:
    """Of one event loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def join(self) -> Awaitable[None]:
        """Waits until all that are ready in this turn have joined."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._leave)
        place = loop.create_future()
        self._waiting.append(place)
        return place

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            # One whose caller went away is cancelled.
            if not place.done():
                place.set_result(None)
