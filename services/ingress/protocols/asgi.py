"""The little of ASGI that the door uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class TooLarge(Exception):  # noqa: N818 - an outcome of reading, caught by the next line
    """The body is larger than the limit; `size` bytes had come."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Disconnected(Exception):  # noqa: N818 - as above
    """The caller went away before its body was whole."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is larger than `limit`, Disconnected."""
    event = await receive()
    if event["type"] != "http.request":
        raise Disconnected
    body: bytes = event.get("body", b"")
    if not event.get("more_body", False):
        if len(body) > limit:
            raise TooLarge(len(body))
        return body
    pieces, size = [body], len(body)
    while event.get("more_body", False):
        event = await receive()
        if event["type"] != "http.request":
            raise Disconnected
        piece: bytes = event.get("body", b"")
        size += len(piece)
        if size > limit:
            raise TooLarge(size)
        pieces.append(piece)
    return b"".join(pieces)


async def respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """A whole HTTP response."""
    await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})
