"""Unary gRPC calls as HTTP/2 frames: the client half of one connection as a state machine, bytes in and bytes out.

A load generator must cost little beside what it measures: on two cores each microsecond of the client is one that
the server lacks. grpcio costs about 100 µs a call; this, whose headers are encoded once per tenant, about a tenth.
It does what unary calls need, and raises ProtocolError where a server does something else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from load.generator.hpack import UNKNOWN, grpc_status

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW = 1, 2, 3, 4
_CANCEL = 8
_WINDOW_BYTES = 1 << 30  # our receive window: so large that it never delays an answer
_REPLENISH = 1 << 28
_FRAME_BYTES = 16384  # every server takes frames of this size
DEADLINE_EXCEEDED, UNAVAILABLE = 4, 14


class ProtocolError(Exception):
    """The server uses a part of the protocol that this client does not know."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


@dataclass(slots=True)
class CallResult:
    """Result of a call. `message`: the reply's bytes, empty if it failed."""

    call: int
    status: int
    message: bytes


@dataclass(slots=True)
class _Open:
    call: int
    body: list[bytes] = field(default_factory=list)


class Connection:
    """One connection. `outgoing`: bytes to be sent; take them, and empty it."""

    def __init__(self) -> None:
        ours = struct.pack(">HIHIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0, _INITIAL_WINDOW, _WINDOW_BYTES)
        self.outgoing = bytearray(PREFACE + frame(_SETTINGS, 0, 0, ours))
        self.outgoing += frame(_WINDOW, 0, 0, struct.pack(">I", _WINDOW_BYTES))
        self.closing = False  # takes no new calls
        self.gone = False
        self.settled = False  # the server has said what it takes
        self._streams: dict[int, _Open] = {}
        self._next = 1
        self._most = 100  # until the server says
        self._window = 65535
        self._stream_window = 65535
        self._incoming = b""
        self._taken = 0

    @property
    def in_flight(self) -> int:
        return len(self._streams)

    def call(self, call: int, headers: bytes, message: bytes) -> int:
        """Begins a call, which its caller knows as `call`. Returns the stream's number; 0 if no stream is free, or the server
        takes no message of this size now. Raises ProtocolError: no server takes it in one frame."""
        size = len(message) + 5
        if size > _FRAME_BYTES:
            raise ProtocolError(f"a message of {size} bytes needs more than one frame")
        if self.closing or len(self._streams) >= self._most or size > min(self._window, self._stream_window):
            return 0
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = _Open(call)
        out, block = self.outgoing, len(headers)
        out += struct.pack(">HBBBI", block >> 8, block & 255, _HEADERS, _END_HEADERS, stream)
        out += headers
        self._window -= size
        out += struct.pack(">HBBBIBI", size >> 8, size & 255, _DATA, _END_STREAM, stream, 0, len(message))
        out += message
        return stream

    def cancel(self, stream: int) -> bool:
        """Cancels a call. Returns False if it has ended already."""
        if self._streams.pop(stream, None) is None:
            return False
        self.outgoing += frame(_RST, 0, stream, struct.pack(">I", _CANCEL))
        return True

    def receive(self, data: bytes) -> list[CallResult]:
        """Reads frames. Returns the calls that have ended. Raises ProtocolError."""
        data = self._incoming + data if self._incoming else data
        answers: list[CallResult] = []
        at, end = 0, len(data)
        while end - at >= 9:
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            after = at + 9 + size
            if after > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._frame(kind, flags, stream, data[at + 9 : after], answers)
            at = after
        self._incoming = data[at:]
        return answers

    def lost(self) -> list[CallResult]:
        """The connection is closed. Returns the calls that were in flight, as UNAVAILABLE."""
        self.closing = self.gone = True
        gone = [CallResult(o.call, UNAVAILABLE, b"") for o in self._streams.values()]
        self._streams.clear()
        return gone

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, answers: list[CallResult]) -> None:
        if kind == _DATA:
            self._data(flags, stream, payload, answers)
        elif kind == _HEADERS:
            self._headers(flags, stream, payload, answers)
        elif kind == _RST:
            self._end(stream, UNAVAILABLE, answers)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _PING and not flags & _ACK:
            self.outgoing += frame(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            self.closing = True
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _CONTINUATION:
            raise ProtocolError("headers that need more than one frame")

    def _data(self, flags: int, stream: int, payload: bytes, answers: list[CallResult]) -> None:
        self._taken += len(payload)
        if self._taken > _REPLENISH:
            self.outgoing += frame(_WINDOW, 0, 0, struct.pack(">I", self._taken))
            self._taken = 0
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        opened = self._streams.get(stream)
        if opened is not None:
            opened.body.append(payload)
        if flags & _END_STREAM:
            self._end(stream, UNKNOWN, answers)

    def _headers(self, flags: int, stream: int, payload: bytes, answers: list[CallResult]) -> None:
        if not flags & _END_HEADERS:
            raise ProtocolError("headers that need more than one frame")
        if not flags & _END_STREAM:
            return
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if flags & _PRIORITY:
            payload = payload[5:]
        status = grpc_status(payload)
        self._end(stream, UNKNOWN if status is None else status, answers)

    def _end(self, stream: int, status: int, answers: list[CallResult]) -> None:
        opened = self._streams.pop(stream, None)
        if opened is not None:
            body = b"".join(opened.body) if status == 0 else b""
            answers.append(CallResult(opened.call, status, body[5:]))

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            key, value = struct.unpack_from(">HI", payload, at)
            if key == _MAX_STREAMS:
                self._most = value
            elif key == _INITIAL_WINDOW:
                self._stream_window = value
        self.outgoing += frame(_SETTINGS, _ACK, 0)
        self.settled = True
