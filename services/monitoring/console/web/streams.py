"""Parts of pages as server-sent events: each is sent again and again until the session ends. Bounded, so that pages left open
everywhere take no room from those who act; whoever gets no stream polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from starlette.responses import Response, StreamingResponse

from headrace.hop.errors import Fault

EVERY_S = 3.0
_MOST = 24
# Then the browser comes again by itself, with the cookie that it has by then.
_LONGEST_S = 900.0
# The session is over.
ENDED = "event: ended\ndata:\n\n"


class Streams:
    """`monotonic`: seconds."""

    def __init__(self, monotonic: Callable[[], float], every_s: float = EVERY_S, most: int = _MOST) -> None:
        self._monotonic = monotonic
        self._every_s = every_s
        self._most = most
        self._open = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Ends all streams: a process that stops must not wait for them."""
        self._closing.set()

    def response(self, still: Callable[[], bool], part: Callable[[], Awaitable[str]]) -> Response:
        """`still`: whether the session is still there; `part`: the HTML; raises Fault: it can't be shown now."""
        if self._open >= self._most or self._closing.is_set():
            # Tells an EventSource not to try again.
            return Response(status_code=204)
        return StreamingResponse(self._events(still, part), media_type="text/event-stream")

    async def _events(
        self, still: Callable[[], bool], part: Callable[[], Awaitable[str]]
    ) -> AsyncIterator[str]:
        self._open += 1
        try:
            ends = self._monotonic() + _LONGEST_S
            while self._monotonic() < ends and not await self._closes():
                if not still():
                    yield ENDED
                    return
                try:
                    yield _event("part", await part())
                except Fault as fault:
                    yield _event("problem", fault.message)
        finally:
            self._open -= 1

    async def _closes(self) -> bool:
        """Waits for the next time; whether the console closes meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), self._every_s)
        return self._closing.is_set()


def _event(name: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{lines}\n"
