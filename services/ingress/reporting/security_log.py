"""The security log: refused credentials and forbidden requests, in a separate file. Every event is written or counted there.

What a line says, and what shares a summary: libs/headrace/state/security.py. A batch of lines is made durable (fsync) before the
next batch. A crash of the machine loses the events after the last batch: half a second at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from headrace.state import json_lines, security
from services.ingress.request_context import RequestContext


class SecurityLog:
    """Takes events on the event loop and writes them in a thread. `wall`: seconds since the epoch.

    A file of `max_bytes` is renamed to FILE.1, and `kept` renamed files are kept. Control deletes them earlier, and records it; a
    file that goes without that is missing in the audit. `path` None: there is no file, and nothing is written. `complain` is
    called with the error when writing fails, and with None when writing works again.
    """

    def __init__(
        self,
        path: Path | None,
        wall: Callable[[], float],
        complain: Callable[[BaseException | None], None],
        max_bytes: int = 64 * 1024 * 1024,
        kept: int = 32,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._complain = complain
        self._failing = False
        self._events = security.SecurityEvents(wall)
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Number of events that are not in the file yet."""
        return self._events.waiting

    def add(self, kind: str, context: RequestContext, details: Mapping[str, str]) -> None:
        """Records one event."""
        if self._path is None:
            return
        credential = context.credential
        about = {
            "tenant": context.tenant,
            "key": "" if credential is None else credential.key_id,
            "request_id": context.request_id,
            "method": context.method,
        }
        about |= {name: value for name, value in details.items() if not about.get(name)}
        self._events.add(kind, client_address(context), about)

    async def flush(self) -> None:
        """Writes the events so far. Events that can't be written are kept."""
        async with self._writing:
            await self._write()

    async def close(self) -> None:
        """Writes all events so far, also those of the second that is not over."""
        async with self._writing:
            await self._write()
            await self._write(closing=True)
            if self.waiting:
                self._complain(OSError(f"{self.waiting} events end with this process"))

    async def _write(self, *, closing: bool = False) -> None:
        if self._path is None or not (lines := self._events.take(closing=closing)):
            return
        writing = asyncio.ensure_future(
            asyncio.to_thread(
                json_lines.append_rotated, self._path, b"".join(lines), self._max_bytes, self._kept
            )
        )
        cancelled = False
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                cancelled = True  # first find out whether the batch was written
        if (error := writing.exception()) is not None:
            self._events.put_back(lines)
        if (error is not None) != self._failing:
            self._failing = error is not None
            self._complain(error)
        if cancelled:
            raise asyncio.CancelledError


def client_address(context: RequestContext) -> str:
    """The client address of a request as Envoy saw it; "" if the request did not come through Envoy.

    Envoy appends the address of its peer to `x-forwarded-for` (`use_remote_address`). The text before it was sent by the
    caller, who can write anything there.
    """
    sent = context.headers.get(b"x-forwarded-for", b"")
    return sent.rpartition(b",")[2].strip().decode("latin-1")[:64]
