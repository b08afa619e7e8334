"""One connection to a Redis server on the event loop: sends commands, and returns replies in order.

Invalidation messages are handled separately from replies. redis-py's asyncio client takes 30 µs of CPU per command of a
pipeline, most of it in layers of coroutines; this module takes 5 µs. For clusters and Sentinel, redis_client.py uses
redis-py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

Changed = Callable[[list[bytes] | None], None]
"""Told which keys were changed by anybody since this connection read them; None: any of them."""

_NOTHING = object()


class _PendingReplies:
    __slots__ = ("future", "missing", "replies")

    def __init__(self, future: asyncio.Future[list[Any]], count: int) -> None:
        self.future = future
        self.missing = count
        self.replies: list[Any] = []


class RedisConnection(asyncio.Protocol):
    """An asyncio protocol. `closed` once the connection is lost; it does not come back."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiters: deque[_PendingReplies] = deque()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self.closed = False

    def ask(self, commands: bytes, count: int) -> asyncio.Future[list[Any]]:
        """Sends `count` packed commands. The result is the list of replies; an error reply is an exception in the list.

        All commands of one event-loop iteration are sent together. Fails with ConnectionError.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.closed:
            future.set_exception(ConnectionError("the connection to Redis is lost"))
            return future
        self._waiters.append(_PendingReplies(future, count))
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(commands)
        return future

    def close(self) -> None:
        """Closes the connection; all pending reads fail."""
        if self._transport is not None:
            self._transport.abort()
        self._lost()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not have this type, so an isinstance check would fail.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._lost()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOTHING:
                # The fast path: nearly all replies are arrays of values for a waiting read.
                if type(reply) is list and (waiter := self._waiters[0]).missing > 1:
                    waiter.missing -= 1
                    waiter.replies.append(reply)
                else:
                    self._take(reply)
        except (hiredis.ProtocolError, IndexError):
            # Not Redis, or more replies than commands: all later replies would be unreliable.
            self.close()

    def _send(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if len(reply) == 2 and reply[0] == b"invalidate":
                self._changed(reply[1])
            return
        waiter = self._waiters[0]
        waiter.replies.append(reply)
        waiter.missing -= 1
        if not waiter.missing:
            self._waiters.popleft()
            if not waiter.future.done():
                waiter.future.set_result(waiter.replies)

    def _lost(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._changed(None)
        while self._waiters:
            future = self._waiters.popleft().future
            if not future.done():
                future.set_exception(ConnectionError("the connection to Redis is lost"))


def pack(*words: str | bytes | int) -> bytes:
    """A command in the format of the Redis protocol."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub takes one word only
    return packed


def bulk(words: Sequence[bytes]) -> bytes:
    """Arguments in the format of the Redis protocol, as a part of a command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
