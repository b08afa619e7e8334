"""Stream multiplexer, client side: many unary calls to one address share one bidirectional stream."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.api.hop.v1 import hop_pb2
from headrace.hop.client import faults
from headrace.hop.errors import Fault
from headrace.hop.transport import wire_errors
from headrace.hop.transport.channels import Channels
from headrace.hop.transport.clocks import CLOCK_KEY, clock
from headrace.hop.transport.stream import ACCEPTED_KEY, FRAME_BYTES, LARGEST_REQUEST_BYTES, LIMIT_KEY, PATH

# A server without stream support may be replaced by one that has it.
_RETRY_REFUSED_S = 60.0
# Pause between attempts to open a stream before a call needs it, doubled at each. If the server does not answer within a
# minute, the next call opens the stream.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_TRIES = 60


class NotSentError(Exception):
    """The call was not sent on the stream; send it as an RPC."""


class StreamMultiplexer:
    """The current stream to an address, and older ones that still have calls without an answer."""

    def __init__(self, callee: str, channels: Channels, max_message_bytes: int) -> None:
        self._callee = callee
        self._channels = channels
        self._metadata = ((LIMIT_KEY, str(max_message_bytes)), (CLOCK_KEY, clock()))
        self._streams: set[_ClientStream] = set()
        self._current: _ClientStream | None = None
        self._not_before = 0.0
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    def open(self, pause: float = 0.0) -> None:
        """Opens a stream after `pause` seconds, so that no call waits for a connection, and a new one when it ends.

        Retries for a while if the server is not reachable. No call fails or waits because of it.
        """
        if self._opening is None or self._opening.done():
            # An empty context: the task belongs to no call, so it must not run in a call's span.
            opening = self._open(pause)
            self._opening = asyncio.get_running_loop().create_task(opening, context=Context())

    async def call(
        self,
        path: str,
        data: bytes,
        deadline: float,
        metadata: Sequence[tuple[str, str]],
        prepared: float,
    ) -> bytes:
        """The reply of the unary method at `path`; `deadline` in finite monotonic seconds, as `prepared`: when the budgets
        in `data` were written.

        Raises Fault as the callee sent it, DEADLINE_EXCEEDED at the deadline, UNAVAILABLE if the stream breaks after
        the request was sent; NotSentError; grpc.aio.UsageError if the channel is closed.
        """
        now = time.monotonic()
        if len(data) > LARGEST_REQUEST_BYTES or now < self._not_before:
            raise NotSentError
        return await self._stream_at(now).call(_UnsentCall(path, data, deadline, metadata, prepared))

    async def close(self) -> None:
        """Ends the streams; calls in flight get UNAVAILABLE."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await asyncio.gather(*(stream.end() for stream in self._streams))

    async def _open(self, pause: float) -> None:
        for _ in range(_TRIES):
            await asyncio.sleep(pause)
            now = time.monotonic()
            if now < self._not_before or await self._stream_at(now).accepted():
                return
            # This failed attempt was not a call's: a call made now must find the callee as soon as it is reachable.
            self._channels.forget_failure()
            pause = min(max(2 * pause, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)

    def _stream_at(self, now: float) -> _ClientStream:
        stub = self._channels.stream(PATH, now)
        stream = self._current
        if stream is not None and (stream.stub is not stub or stream.leaving):
            stream.leave()
            stream = None
        if stream is None:
            stream = self._current = _ClientStream(self._callee, stub, self._metadata, self._ended)
            self._streams.add(stream)
        return stream

    def _ended(self, stream: _ClientStream, *, offered: bool) -> None:
        self._streams.discard(stream)
        if stream is self._current:
            self._current = None
        if not offered:
            self._not_before = time.monotonic() + _RETRY_REFUSED_S
        elif self._current is None and not self._closed:
            self.open(_FIRST_PAUSE_S)


@dataclass(frozen=True, slots=True)
class _UnsentCall:
    """A call that was not written to the stream yet."""

    path: str
    data: bytes
    deadline: float
    metadata: Sequence[tuple[str, str]]
    prepared: float


class _ClientStream:
    """One stream and the calls on it."""

    def __init__(
        self,
        callee: str,
        stub: Callable[..., Any],
        metadata: Sequence[tuple[str, str]],
        ended: Callable[..., None],
    ) -> None:
        self.stub = stub
        self.leaving = False  # takes no more calls
        self._callee = callee
        self._ended = ended
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._unsent: dict[int, _UnsentCall] = {}
        self._cancelled: list[int] = []
        # Whether the server accepted the stream; set at the latest when the stream has ended.
        self._accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._stream = stub(metadata=metadata)
        self._reading = asyncio.create_task(self._read())
        self._writing: asyncio.Task[None] | None = None

    async def call(self, unsent: _UnsentCall) -> bytes:
        loop = asyncio.get_running_loop()
        number = next(self._ids)
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[number] = answer
        self._unsent[number] = unsent
        self._wake()
        timer = loop.call_later(unsent.deadline - time.monotonic(), self._late, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            if self._waiting.pop(number, None) is not None:
                self._forget(number)
            if self.leaving and not self._waiting:
                self._wake()

    async def accepted(self) -> bool:
        """Waits until the server has accepted or refused the stream, and returns whether it accepted."""
        self._wake()
        return await asyncio.shield(self._accepted)

    def leave(self) -> None:
        """Accepts no more calls; the stream ends when its calls are answered."""
        self.leaving = True
        if not self._waiting:
            self._wake()

    async def end(self) -> None:
        """Cancels the stream."""
        self._stream.cancel()
        await asyncio.gather(
            self._reading, *([self._writing] if self._writing else []), return_exceptions=True
        )

    def _late(self, answer: asyncio.Future[bytes]) -> None:
        if not answer.done():
            answer.set_exception(faults.deadline_passed(self._callee))

    def _forget(self, number: int) -> None:
        if self._unsent.pop(number, None) is None:
            self._cancelled.append(number)
            self._wake()

    async def _read(self) -> None:
        fault, offered = faults.unreachable(self._callee), True
        try:
            while (frame := await self._stream.read()) is not grpc.aio.EOF:
                self._receive(frame)
        except grpc.aio.AioRpcError as error:
            offered = error.code() is not grpc.StatusCode.UNIMPLEMENTED
            found = wire_errors.fault_of_rpc(error)
            # Without metadata it is gRPC's own message, which contains paths and addresses.
            fault = found if found.metadata else fault
        except DecodeError:
            fault = faults.malformed(self._callee)
            self._stream.cancel()
        except asyncio.CancelledError:
            # Either the stream was cancelled (channel closed, or `end`) or this task; both mean that reading is over.
            pass
        finally:
            self.leaving = True
            self._settle(accepted=False)
            self._ended(self, offered=offered)
            self._fail(fault)

    def _receive(self, frame: bytes) -> None:
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
        if message.draining:
            self.leave()

    def _fail(self, fault: Fault) -> None:
        """Calls that were written may have been served, so they fail. Unsent calls can still be sent as RPCs."""
        for number, answer in self._waiting.items():
            if not answer.done():
                answer.set_exception(NotSentError() if number in self._unsent else fault.copy())
        self._waiting.clear()
        self._unsent.clear()
        self._cancelled.clear()

    def _settle(self, *, accepted: bool) -> None:
        if not self._accepted.done():
            self._accepted.set_result(accepted)

    def _wake(self) -> None:
        # The task runs after this iteration of the event loop, so all calls of the iteration share a message.
        if self._writing is None and not self._reading.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            if not self._accepted.done():
                if ACCEPTED_KEY not in dict(await self._stream.initial_metadata()):
                    return  # refused; `_read` gets the reason
                self._settle(accepted=True)
            while self._unsent or self._cancelled:
                await self._stream.write(self._frame())
            if self.leaving and not self._waiting:
                await self._stream.done_writing()
        except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError, asyncio.CancelledError):
            pass  # the stream has ended; `_read` gets the reason
        finally:
            self._writing = None

    def _frame(self) -> bytes:
        frame = hop_pb2.ExchangeRequest(cancelled_ids=self._cancelled)
        self._cancelled.clear()
        now, room = time.monotonic(), FRAME_BYTES
        frame.sent_us = round(now * 1e6)
        for number, call in self._unsent.items():
            if frame.requests and len(call.data) > room:
                break
            room -= len(call.data)
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
        return frame.SerializeToString()
