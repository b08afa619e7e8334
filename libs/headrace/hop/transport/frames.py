"""Frames on a unix socket between two processes of one installation. (Why they exist: headrace/api/hop/v1/hop.proto.)

A frame is its length (4 bytes, little-endian) and as many bytes. The first frame of each side is its hello: the version that it
speaks, the largest frame that it takes and the name of its clock. The others are ExchangeRequests to the server and
ExchangeResponses to the client.
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from typing import Any

from google.protobuf.message import DecodeError

from headrace.hop.transport.clocks import clock, is_ours

VERSION = 1
# A server's frames have a socket of their own: the path of its gRPC socket and this.
SUFFIX = ".frames"
# A call of this method is answered by the server itself.
HEALTH = "/grpc.health.v1.Health/Check"
# A frame is written when it holds this much, even if more waits, so that no answer waits behind megabytes.
FRAME_BYTES = 512 * 1024
# A larger request is sent as an RPC, so that other calls do not wait while it is transferred.
LARGEST_REQUEST_BYTES = 256 * 1024
# Bytes reserved in a frame beside its first reply, and how many a call is taken to need beside its message.
ENVELOPE_BYTES = 16 * 1024
CALL_BYTES = 512
# A peer may take this long for its hello, for the rest of a frame, and to read what was written for it.
STALLED_S = 30.0

_LENGTH = struct.Struct("<I")
_HELLO = struct.Struct("<8sIQ16s")
_NAME = b"headrace"
# That of another version may be longer.
_LARGEST_HELLO = 256


class FrameProtocol(asyncio.Protocol, ABC):
    """One end of a connection. What is ready is written once per iteration of the event loop, while the peer reads."""

    def __init__(self, largest: int) -> None:
        """`largest`: bytes of a frame that this end takes."""
        self.transport: Any = None  # asyncio.Transport, from `connection_made` on
        self.accepted = False  # the peer said hello, in this version
        self.other_version = self.garbage = False  # what it sent instead
        self.same_clock = False  # as this process
        self.more = False  # than the frame that was ready last holds: another one is
        self._largest = self.peer_largest = largest
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scheduled = self._paused = False
        self._incomplete: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @abstractmethod
    def received(self, frame: bytes) -> None:
        """A frame came. Raises DecodeError if it cannot be read: the peer is cut off."""

    @abstractmethod
    def ready(self) -> bytes:
        """The next frame to write; empty: there is none. Sets `more`."""

    def wake(self) -> None:
        """Writes what is ready, together with what becomes ready in this iteration of the event loop."""
        if self.accepted and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._write)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._incomplete = self._loop.call_later(STALLED_S, self.transport.abort)
        hello = _HELLO.pack(_NAME, VERSION, self._largest, clock().encode())
        self.transport.write(_LENGTH.pack(len(hello)) + hello)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            whole = self._split()
        except DecodeError:
            self.garbage = True
            self.transport.abort()
            return
        if self._incomplete is not None and whole:
            self._incomplete.cancel()
            self._incomplete = None
        if self._buffer and self._incomplete is None:
            self._incomplete = self._loop.call_later(STALLED_S, self.transport.abort)

    def pause_writing(self) -> None:
        self._paused = True
        self._unread = self._loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._paused = False
        if self._unread is not None:
            self._unread.cancel()
        self.wake()

    def connection_lost(self, _exc: Exception | None) -> None:
        for timer in (self._incomplete, self._unread):
            if timer is not None:
                timer.cancel()

    def _split(self) -> int:
        """Hands over the whole frames in the buffer, and returns how many bytes they took."""
        buffer, begin = self._buffer, 0
        while not self.other_version and len(buffer) - begin >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, begin)
            if size > (self._largest if self.accepted else _LARGEST_HELLO):
                raise DecodeError
            end = begin + _LENGTH.size + size
            if end > len(buffer):
                break
            frame = bytes(memoryview(buffer)[begin + _LENGTH.size : end])
            begin = end
            if self.accepted:
                self.received(frame)
            else:
                self._greet(frame)
        del buffer[:begin]
        return begin

    def _greet(self, frame: bytes) -> None:
        version = int.from_bytes(frame[len(_NAME) :][:4], "little")
        if not frame.startswith(_NAME) or (version == VERSION and len(frame) != _HELLO.size):
            raise DecodeError
        if version != VERSION:
            self.other_version = True
            self.transport.close()
            return
        *_, self.peer_largest, name = _HELLO.unpack(frame)
        self.same_clock = is_ours(name.rstrip(b"\0").decode("ascii", "replace"))
        self.accepted = True
        self.wake()

    def _write(self) -> None:
        self._scheduled = False
        self.more = True
        while self.more and not self._paused and not self.transport.is_closing():
            self.more = False
            if frame := self.ready():
                self.transport.write(_LENGTH.pack(len(frame)) + frame)
