"""Stream multiplexer, client side: many unary calls to one process of this machine share one connection."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from contextvars import Context
from typing import Any, NamedTuple

from headrace.api.hop.v1 import hop_pb2
from headrace.hop.client import faults
from headrace.hop.transport import wire_errors
from headrace.hop.transport.frames import (
    CALL_BYTES,
    FRAME_BYTES,
    LARGEST_REQUEST_BYTES,
    SUFFIX,
    FrameProtocol,
)

# A server of another version may be replaced by one of this version.
_RETRY_REFUSED_S = 60.0
# Pause between attempts to connect, doubled at each. Meanwhile calls are RPCs.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0


class NotSentError(Exception):
    """The call was not sent on the stream; send it as an RPC."""


class StreamMultiplexer:
    """The current connection to a server, and older ones that still have calls without an answer."""

    def __init__(self, callee: str, socket: str, max_message_bytes: int) -> None:
        """`socket`: path of the server's gRPC socket."""
        self.callee = callee
        self.path = socket + SUFFIX
        self.largest = max_message_bytes
        self._streams: dict[_ClientStream, None] = {}
        self._current: _ClientStream | None = None
        self._pause = _FIRST_PAUSE_S
        self._retry: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Connects now, and again whenever the connection ends, so that no call waits for it. No call fails because of it."""
        self._current = _ClientStream(self)
        self._streams[self._current] = None

    def call(
        self,
        path: str,
        data: bytes,
        deadline: float,
        metadata: Sequence[tuple[str, str]],
        prepared: float,
    ) -> Coroutine[Any, Any, bytes]:
        """The reply of the unary method at `path`; `deadline` in finite monotonic seconds, as `prepared`: when the budgets
        in `data` were written.

        Raises Fault as the callee sent it, DEADLINE_EXCEEDED at the deadline, UNAVAILABLE if the connection ends after
        the request was sent; NotSentError.
        """
        if self._current is None or len(data) > LARGEST_REQUEST_BYTES:
            raise NotSentError
        return self._current.call(_UnsentCall(path, data, deadline, metadata, prepared))

    async def close(self) -> None:
        """Ends the connections; calls in flight get UNAVAILABLE."""
        self._current = None  # so that none follows
        if self._retry is not None:
            self._retry.cancel()
        await asyncio.gather(*(stream.end() for stream in list(self._streams)))

    def left(self, stream: _ClientStream) -> None:
        """The connection takes no more calls: its server stops, and a successor may have its place."""
        if stream is self._current:
            self.open()

    def ended(self, stream: _ClientStream) -> None:
        """The connection has ended, or could not be made."""
        self._streams.pop(stream, None)
        if stream is self._current:
            self._current = None
            if stream.accepted:
                self._pause = _FIRST_PAUSE_S
            pause = _RETRY_REFUSED_S if stream.other_version else self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
            self._retry = asyncio.get_running_loop().call_later(pause, self.open)


class _UnsentCall(NamedTuple):
    """A call that was not written yet."""

    path: str
    data: bytes
    deadline: float
    metadata: Sequence[tuple[str, str]]
    prepared: float


class _ClientStream(FrameProtocol):
    """One connection and the calls on it."""

    def __init__(self, streams: StreamMultiplexer) -> None:
        super().__init__(streams.largest)
        self._streams = streams
        self._leaving = False  # takes no more calls
        self._ended = False
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._unsent: dict[int, _UnsentCall] = {}
        self._cancelled: list[int] = []
        # An empty context: the connection belongs to no call, so it must not be made in a call's span.
        self._connecting = self._loop.create_task(self._connect(streams.path), context=Context())

    async def call(self, unsent: _UnsentCall) -> bytes:
        number = next(self._ids)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = answer
        self._unsent[number] = unsent
        self.wake()
        timer = self._loop.call_later(unsent.deadline - time.monotonic(), self._late, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            if self._waiting.pop(number, None) is not None:
                self._forget(number)
            if self._leaving:
                self._close_if_done()

    async def end(self) -> None:
        """Ends it at once."""
        self._connecting.cancel()
        if self.transport is not None:
            self.transport.abort()
        self.connection_lost(None)
        await asyncio.gather(self._connecting, return_exceptions=True)

    def received(self, frame: bytes) -> None:
        message = hop_pb2.ExchangeResponse.FromString(frame)
        for response in message.responses:
            fault = None
            if response.status:
                fault = wire_errors.fault_of_status(response.status, response.trailing)
            answer = self._waiting.pop(response.id, None)
            if answer is None or answer.done():
                continue  # the answer crossed with our cancellation
            if fault is None:
                answer.set_result(response.message)
            else:
                answer.set_exception(fault)
        if message.draining and not self._leaving:
            self._leaving = True
            self._streams.left(self)
        if self._leaving:
            self._close_if_done()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Calls that were written may have been served, so they fail. Unsent calls can still be sent as RPCs."""
        super().connection_lost(_exc)
        if self._ended:
            return
        self._ended = True
        self._streams.ended(self)
        fault = faults.malformed if self.garbage else faults.unreachable
        for number, answer in self._waiting.items():
            if not answer.done():
                unsent = number in self._unsent
                answer.set_exception(NotSentError() if unsent else fault(self._streams.callee))
        self._waiting.clear()
        self._unsent.clear()

    async def _connect(self, path: str) -> None:
        try:
            await self._loop.create_unix_connection(lambda: self, path)
        except OSError:
            self.connection_lost(None)

    def _close_if_done(self) -> None:
        if not self._waiting:
            self.transport.close()

    def _late(self, answer: asyncio.Future[bytes]) -> None:
        if not answer.done():
            answer.set_exception(faults.deadline_passed(self._streams.callee))

    def _forget(self, number: int) -> None:
        if self._unsent.pop(number, None) is None:
            self._cancelled.append(number)
            self.wake()

    def ready(self) -> bytes:
        if not (self._unsent or self._cancelled):
            return b""
        frame = hop_pb2.ExchangeRequest(cancelled_ids=self._cancelled)
        self._cancelled.clear()
        now, room = time.monotonic(), FRAME_BYTES
        frame.sent_us = round(now * 1e6)
        for number, call in self._unsent.items():
            if frame.requests and len(call.data) > room:
                break
            room -= len(call.data) + CALL_BYTES
            frame.requests.add(
                id=number,
                method=call.path,
                message=call.data,
                timeout_us=max(1, round((call.deadline - now) * 1e6)),
                metadata=dict(call.metadata),
                waited_us=max(0, round((now - call.prepared) * 1e6)),
            )
        for carried in frame.requests:
            del self._unsent[carried.id]
        self.more = bool(self._unsent)
        return frame.SerializeToString()
