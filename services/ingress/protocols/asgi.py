"""The parts of ASGI that the door uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Headers = list[tuple[bytes, bytes]]
# The same by name.
Fields = Mapping[bytes, bytes]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
# The status, the headers, the body and the trailers of a whole reply.
Response = tuple[int, Headers, bytes, Headers]
NONE: Headers = []
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):  # noqa: N818 - an outcome of reading, not an error
    """The caller disconnected before its body was complete."""


async def respond(send: Send, status: int, headers: Headers, body: bytes, trailers: Headers = NONE) -> None:
    """Sends a complete HTTP response."""
    start = {"type": "http.response.start", "status": status, "headers": headers, "trailers": bool(trailers)}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
    if trailers:
        await send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})
