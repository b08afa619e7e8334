"""Replies that become ready in the same turn of the event loop leave together, at its end.

The rows of a batch are answered in one turn. Sent one by one, each reply would wake Envoy's thread, which sends it and sleeps
again until the next is made, some 50 µs later: waking a sleeping thread is what costs most in sending. Sent in a row, they
find it awake, it writes those of a connection at once, and the callers read them at once (load/RESULTS.md).
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
