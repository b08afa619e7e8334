"""The lane's ASGI server: takes requests from `lane.c` in batches, runs the application for each, gives replies back in batches.

The application sees what pyvoy would show it. A `receive` after the body says at once whether the caller is still connected.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from services.ingress.protocols.asgi import Application, Headers

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
_STATUS, _BROKEN = b":status\x00200\x00", b":status\x00500\x00"


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
        headers = _STATUS + _joined(self._full)
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

    def reply(self, record: bytes) -> None:
        """Sends a reply, together with all others of this turn of the event loop."""
        if not self._replies:
            self._loop.call_soon(self._flush)
        self._replies.append(record)

    def _flush(self) -> None:
        records = b"".join(self._replies)
        self._replies.clear()
        if self._c.lane_send(records, len(records)) < len(records):
            raise MemoryError("some replies were not sent")

    def _begin_waiting(self) -> None:
        """Begins requests that wait, as many as one turn of the loop may. Before the next turn they have been refused if there is
        no room, so that the others are refused at once."""
        size = self._c.lane_take(self._address, _ROOM, _AT_ONCE)
        records, at = ctypes.string_at(self._address, size), 0
        while at < size:
            at = self._begin(records, at)

    def _begin(self, records: bytes, at: int) -> int:
        """Begins the request whose record is there, or refuses it at once. Returns where the next one is."""
        start = at + _REQUEST.size
        whole, head, request, received, refused, _ = _REQUEST.unpack_from(records, at)
        end: int = at + whole
        scope = _scope(records[start : start + head - 1], records[start + head : end], received, refused)
        refusal = self._refusal(scope["headers"], refused)
        if refusal is not None:
            self.reply(_record(request, _STATUS + _joined(refusal), b"", b"", _SHED))
            return end
        exchange = _Exchange(self, request, scope["body"])
        exchange.task = self._loop.create_task(self._serve(exchange, scope))
        self._exchanges.add(exchange)
        return end

    async def _serve(self, exchange: _Exchange, scope: MutableMapping[str, Any]) -> None:
        try:
            await self._application(scope, exchange.receive, exchange.send)
        finally:
            exchange.end()
            self._exchanges.discard(exchange)


def _scope(head: bytes, body: bytes, received: float, refused: int) -> MutableMapping[str, Any]:
    """ASGI's, with the whole body, when the headers came to Envoy (monotonic seconds), and how many calls of its credential
    were refused before it."""
    path, *rest = head.split(b"\0")
    return {
        "type": "http",
        "method": "POST",
        "path": path.decode(),
        "headers": list(zip(rest[::2], rest[1::2], strict=True)),
        "body": body,
        "received": received,
        "refused": refused,
    }


_CONNECTED = {"type": "http.request", "body": b"", "more_body": False}
_GONE = {"type": "http.disconnect"}


class _Exchange:
    """A request and its reply."""

    __slots__ = ("_body", "_head", "_lane", "_parts", "_request", "_trailers", "task")

    def __init__(self, lane: Lane, request: int, body: bytes) -> None:
        self.task: asyncio.Task[None] | None = None
        self._lane = lane
        self._request = request
        self._body: bytes | None = body
        self._head = _BROKEN
        self._trailers = False
        # Of the reply's body; None once the reply is sent.
        self._parts: list[bytes] | None = []

    async def receive(self) -> MutableMapping[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        gone = self._parts is None or self._lane.gone(self._request)
        return _GONE if gone else _CONNECTED

    async def send(self, event: MutableMapping[str, Any]) -> None:
        kind = event["type"]
        if self._parts is None:
            return
        if kind == "http.response.body":
            self._parts.append(event.get("body", b""))
            if not self._trailers and not event.get("more_body", False):
                self._reply(b"")
        elif kind == "http.response.start":
            self._head = b":status\0%d\0%b" % (event["status"], _joined(event.get("headers", ())))
            self._trailers = event.get("trailers", False)
        elif kind == "http.response.trailers":
            self._reply(_joined(event["headers"]))

    def end(self) -> None:
        """The application has returned: whatever it has not sent will not come."""
        if self._parts is not None:
            self._head, self._parts = _BROKEN, []
            self._reply(b"")

    def _reply(self, trailers: bytes) -> None:
        assert self._parts is not None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = None
        self._lane.reply(_record(self._request, self._head, body, trailers))


def _record(request: int, head: bytes, body: bytes, trailers: bytes, flags: int = 0) -> bytes:
    size = _REPLY.size + len(head) + len(body) + len(trailers)
    return b"".join((_REPLY.pack(size, len(head), len(body), flags, request), head, body, trailers))


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    pieces = [piece for header in headers for piece in header]
    pieces.append(b"")
    return b"\0".join(pieces)
