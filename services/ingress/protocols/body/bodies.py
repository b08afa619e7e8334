"""Request bodies: read within the caller's time and within limits of size."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import ARRIVING_BYTES
from headrace.hop.server.stack import Timeouts
from services.ingress.config import Limits
from services.ingress.faults import malformed, too_large
from services.ingress.protocols.asgi import Disconnected, Receive
from services.ingress.request_context import RequestContext

# Message limit of operations that run no model: their messages contain only a few names.
SMALL_BYTES = 64 * 1024
# One tenant may use this fraction of the bytes that may be arriving at the same time.
_TENANT_PART = 0.5
_RETRY_AFTER_S = 0.5
# If the announced size is at most this many times the limit, the body is read to its end, so that its sender gets the reason.
_DRAINED = 2


class Bodies:
    """Reads the bodies of calls whose callers are authenticated. `clock`: monotonic seconds."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._max_seconds = limits.max_body_s
        self._max_arriving = limits.max_arriving_bytes
        self._clock = clock
        self._timeouts = Timeouts(clock)
        # Bytes of bodies that are not complete yet, in total and by tenant.
        self._arriving = 0
        self._of: Counter[str] = Counter()

    async def read(self, receive: Receive, context: RequestContext, limit: int, framing: int = 0) -> bytes:
        """Reads the whole body: a message of at most `limit` bytes, and `framing` bytes around it.

        Raises Fault RESOURCE_EXHAUSTED (too large; too many bytes arriving at once), DEADLINE_EXCEEDED (the caller's deadline
        or `max_body_s` passed before the body was complete), INVALID_ARGUMENT (invalid content-length); Disconnected.
        """
        declared = context.headers.get(b"content-length")
        most = limit + framing
        announced = 0 if declared is None else _size(declared)
        if announced > most * _DRAINED:
            raise too_large(announced, limit)
        now = self._clock()
        left = context.deadline - now
        wait = self._timeouts.begin(min(context.deadline, now + self._max_seconds))
        try:
            if announced > most:
                await _drain(receive)
                raise too_large(announced, limit)
            event = await receive()
            body: bytes = _piece(event)
            if event.get("more_body", False):
                body = await self._rest(receive, context.tenant, body, most)
        except asyncio.CancelledError:
            if not wait.caused_it():
                raise
            raise _not_whole(left, self._max_seconds) from None
        finally:
            self._timeouts.end(wait)
        check_size(body, limit, framing)
        return body

    async def _rest(self, receive: Receive, tenant: str, first: bytes, most: int) -> bytes:
        """Reads the rest of the body. Stops as soon as it is larger than allowed."""
        pieces, size, more = [first], len(first), True
        self._count(tenant, size)
        try:
            while more and size <= most:
                self._check_arriving(tenant)
                event = await receive()
                piece = _piece(event)
                pieces.append(piece)
                size += len(piece)
                self._count(tenant, len(piece))
                more = event.get("more_body", False)
            return b"".join(pieces)
        finally:
            self._count(tenant, -size)

    def _count(self, tenant: str, added: int) -> None:
        self._arriving += added
        self._of[tenant] += added
        if not self._of[tenant]:
            del self._of[tenant]

    def _check_arriving(self, tenant: str) -> None:
        if self._arriving > self._max_arriving or self._of[tenant] > self._max_arriving * _TENANT_PART:
            raise ARRIVING_BYTES.refusal(
                "too many bytes of requests are on their way at once; try again later",
                retry_after_s=_RETRY_AFTER_S,
            )


def check_size(body: bytes, limit: int, framing: int) -> None:
    """Raises Fault RESOURCE_EXHAUSTED for a message of more than `limit` bytes."""
    if len(body) > limit + framing:
        raise too_large(len(body), limit)


async def _drain(receive: Receive) -> None:
    """Reads the body to its end and discards it: many clients do not read an answer before they have sent everything."""
    while (await receive()).get("more_body", False):
        pass


def _piece(event: MutableMapping[str, Any]) -> bytes:
    if event["type"] != "http.request":
        raise Disconnected
    piece: bytes = event.get("body", b"")
    return piece


def _size(declared: bytes) -> int:
    if not declared.isdigit() or len(declared) > 18:
        raise malformed("content-length is not a number of bytes")
    return int(declared)


def _not_whole(left: float, limit: float) -> Fault:
    allowed = "its deadline" if left <= limit else f"{limit:g} s"
    return Fault(
        Code.DEADLINE_EXCEEDED,
        Reason.REASON_DEADLINE_PASSED,
        f"the message was not whole within {allowed}",
        metadata={"remaining_ms": "0.0"},
    )
