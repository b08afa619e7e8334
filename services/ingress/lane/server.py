"""The lane's ASGI server: takes requests from `lane.c` in batches, runs the application for each, gives replies back in batches.

The application sees what pyvoy would show it, and may give a whole reply to `respond`, which is in the scope. A `receive` after
the body says at once whether the caller is still connected.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
from collections.abc import Callable, Iterable, MutableMapping
from itertools import chain
from pathlib import Path
from typing import Any

from services.ingress.protocols.asgi import Application, Headers

Pairs = Iterable[tuple[bytes, bytes]]
# `Request_Record` and `Reply_Record` of lane.c.
_REQUEST = struct.Struct("=IIQdII")
_REPLY = struct.Struct("=IIIIQ")
# Bytes of requests that are taken at once; at least one of the largest fits.
_ROOM = 128 * 1024
# Requests that are begun in one turn of the event loop.
_AT_ONCE = 64
# If so many wait, the application is behind by some turns: more would only wait longer.
_MOST_WAITING = 256
# A flag of a reply: it was not computed, so its access log line is one of many alike.
_SHED = 1


class Lane:
    """Serves `application` on the running event loop. `library`: the compiled lane.c, the file that Envoy has loaded too.
    `refusal`: the headers that answer a request with these headers at once; None: the application answers it. It is told how
    many calls of the same credential were answered with `full` since, as too many wait."""

    def __init__(
        self,
        library: Path,
        application: Application,
        refusal: Callable[[Headers, int], Headers | None],
        full: Headers,
    ) -> None:
        # PyDLL: a call takes microseconds, less than giving the interpreter's lock away and getting it again.
        self._c = ctypes.PyDLL(str(library))
        self._c.lane_take.restype = self._c.lane_send.restype = ctypes.c_size_t
        self._c.lane_take.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        self._c.lane_open.argtypes = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t]
        self._c.lane_send.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._c.lane_gone.restype = ctypes.c_bool
        self._c.lane_gone.argtypes = [ctypes.c_uint64]
        self._application = application
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._buffer = ctypes.create_string_buffer(_ROOM)
        self._address = ctypes.addressof(self._buffer)
        self._full = full
        self._replies: list[bytes] = []
        # The loop itself keeps no task alive.
        self._exchanges: set[_Exchange] = set()

    def open(self) -> None:
        """From now on requests take the lane. Raises OSError if the system has no file descriptor left."""
        headers = _joined(200, self._full)
        event: int = self._c.lane_open(_MOST_WAITING, headers, len(headers))
        if event < 0:
            raise OSError("no file descriptor for the lane")
        self._loop.add_reader(event, self._begin_waiting)

    def close(self) -> None:
        """From now on requests go the usual way. Those that were taken are answered."""
        self._c.lane_close()

    def gone(self, request: int) -> bool:
        """Whether the caller of a request that is not answered yet has disconnected."""
        found: bool = self._c.lane_gone(request)
        return found

    def reply(
        self, request: int, status: int, headers: Pairs, body: bytes, trailers: Pairs, flags: int = 0
    ) -> None:
        """Sends a reply, together with all others of this turn of the event loop."""
        if not self._replies:
            self._loop.call_soon(self._flush)
        head = _joined(status, headers)
        tail = b"\0".join((*chain.from_iterable(trailers), b""))
        size = _REPLY.size + len(head) + len(body) + len(tail)
        self._replies += _REPLY.pack(size, len(head), len(body), flags, request), head, body, tail

    def _flush(self) -> None:
        records = b"".join(self._replies)
        self._replies.clear()
        if self._c.lane_send(records, len(records)) < len(records):
            raise MemoryError("some replies were not sent")

    def _begin_waiting(self) -> None:
        """Begins requests that wait, as many as one turn of the loop may, or refuses them at once. Before the next turn they have
        been refused if there is no room, so that the others are refused at once."""
        size = self._c.lane_take(self._address, _ROOM, _AT_ONCE)
        records, at = ctypes.string_at(self._address, size), 0
        while at < size:
            whole, head, request, received, refused, _ = _REQUEST.unpack_from(records, at)
            start = at + _REQUEST.size
            end = start + head
            at += whole
            pieces = iter(records[start : end - 1].split(b"\0"))
            path = next(pieces)
            headers = list(zip(pieces, pieces, strict=True))
            refusal = self._refusal(headers, refused)
            if refusal is not None:
                self.reply(request, 200, refusal, b"", (), _SHED)
                continue
            exchange = _Exchange(self, request, records[end:at])
            scope = {
                "type": "http",
                "method": "POST",
                "path": path.decode(),
                "headers": headers,
                "body": exchange.body,
                # When the headers came to Envoy (monotonic seconds); how many calls of its credential were refused before it.
                "received": received,
                "refused": refused,
                "respond": exchange.respond,
            }
            exchange.task = self._loop.create_task(self._serve(exchange, scope))
            self._exchanges.add(exchange)

    async def _serve(self, exchange: _Exchange, scope: MutableMapping[str, Any]) -> None:
        try:
            await self._application(scope, exchange.receive, exchange.send)
        finally:
            # Whatever the application has not sent will not come.
            exchange.respond(500, (), b"", ())
            self._exchanges.discard(exchange)


_CONNECTED = {"type": "http.request", "body": b"", "more_body": False}
_GONE = {"type": "http.disconnect"}
_BROKEN: MutableMapping[str, Any] = {"status": 500, "headers": ()}


class _Exchange:
    """A request and its reply."""

    task: asyncio.Task[None] | None = None
    # What was sent of the reply so far.
    _start = _BROKEN
    _parts = b""
    _sent = False

    def __init__(self, lane: Lane, request: int, body: bytes) -> None:
        self._lane = lane
        self._request = request
        self.body: bytes | None = body

    async def receive(self) -> MutableMapping[str, Any]:
        body, self.body = self.body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        gone = self._sent or self._lane.gone(self._request)
        return _GONE if gone else _CONNECTED

    async def send(self, event: MutableMapping[str, Any]) -> None:
        kind = event["type"]
        trailers: Headers = []
        if kind == "http.response.start":
            self._start = event
            return
        if kind == "http.response.body":
            self._parts += event.get("body", b"")
            if self._start.get("trailers", False) or event.get("more_body", False):
                return
        elif kind == "http.response.trailers":
            trailers = event["headers"]
        else:
            return
        self.respond(self._start["status"], self._start.get("headers", ()), self._parts, trailers)

    def respond(self, status: int, headers: Pairs, body: bytes, trailers: Pairs) -> None:
        """Sends the whole reply, unless one is sent."""
        if not self._sent:
            self._lane.reply(self._request, status, headers, body, trailers)
            self._sent = True


def _joined(status: int, headers: Pairs) -> bytes:
    return b":status\0%d\0%b" % (status, b"\0".join((*chain.from_iterable(headers), b"")))
