"""Stream multiplexer, server side: each call on a connection is served like an RPC, by the same layers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from headrace.api.hop.v1 import hop_pb2
from headrace.hop.call import Call, Peer
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.server.binding import Answer
from headrace.hop.transport import wire_errors
from headrace.hop.transport.frames import CALL_BYTES, ENVELOPE_BYTES, FRAME_BYTES, FrameProtocol

# For how long a server that ends waits for calls that it has cancelled.
_CANCEL_S = 1.0


class StreamDemultiplexer:
    """The connections of one server. `answers`: its unary methods by path; `peer`: who calls on them."""

    def __init__(self, answers: Mapping[str, Answer], peer: Peer, max_message_bytes: int) -> None:
        self.answers = answers
        self.peer = peer
        self.largest = max_message_bytes
        self.streams: dict[_ServedStream, None] = {}

    def accept(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _ServedStream(self)

    async def drain(self, within_s: float) -> None:
        """Tells the clients to connect to another server, and waits until they have all answers. Then calls are cancelled."""
        for stream in list(self.streams):
            stream.drain()
        await self._ended(within_s)
        for stream in list(self.streams):
            stream.transport.abort()
        await self._ended(_CANCEL_S)

    async def _ended(self, within_s: float) -> None:
        if self.streams:
            await asyncio.wait([stream.ended for stream in self.streams], timeout=within_s)


class _ServedStream(FrameProtocol):
    """The calls of one connection. While its client reads no replies, no more of its calls are read."""

    def __init__(self, streams: StreamDemultiplexer) -> None:
        super().__init__(streams.largest)
        self._streams = streams
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._ready: list[hop_pb2.CarriedResponse] = []
        self._draining = False  # the client is to be told
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def drain(self) -> None:
        """The client is to leave. One that has said nothing yet has no calls here."""
        self._draining = True
        if not self.accepted:
            self.transport.abort()
        self.wake()

    def received(self, frame: bytes) -> None:
        """Starts and cancels calls."""
        message = hop_pb2.ExchangeRequest.FromString(frame)
        # Time counts from when the message was sent: this process may have been stopped while it was in the socket.
        began = time.monotonic()
        if self.same_clock and message.sent_us:
            began = min(began, message.sent_us / 1e6)
        for carried in message.requests:
            if carried.id in self._calls:
                raise DecodeError
            self._calls[carried.id] = self._loop.create_task(self._answer(carried, began))
        for gone in message.cancelled_ids:
            if (found := self._calls.pop(gone, None)) is not None:
                found.cancel()

    def ready(self) -> bytes:
        if not self._ready and not self._draining:
            return b""
        frame = hop_pb2.ExchangeResponse(draining=self._draining)
        self._draining = False
        _fill(frame, self._ready)
        self.more = bool(self._ready)
        return frame.SerializeToString()

    def connection_made(self, transport: Any) -> None:
        self._streams.streams[self] = None
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        super().connection_lost(_exc)
        self._ready.clear()
        for task in self._calls.values():
            task.cancel()
        asyncio.gather(*self._calls.values(), return_exceptions=True).add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._streams.streams.pop(self, None)
        if not self.ended.done():
            self.ended.set_result(None)

    async def _answer(self, carried: hop_pb2.CarriedRequest, began: float) -> None:
        left = carried.timeout_us
        call = Call(
            carried.method,
            self._streams.peer,
            began + left / 1e6 if left else math.inf,
            dict(carried.metadata),
        )
        call.sent = began - carried.waited_us / 1e6
        response = hop_pb2.CarriedResponse(id=carried.id)
        trailing: Iterable[tuple[str, str]] = call.trailing
        try:
            answer = self._streams.answers.get(carried.method)
            if answer is None:
                raise wire_errors.unknown_method(carried.method)
            reply = await answer(carried.message, call)
            largest = min(self._largest, self.peer_largest) - ENVELOPE_BYTES
            if len(reply) > largest:
                raise _too_large(len(reply), largest)
            response.message = reply
        except Fault as fault:
            response.status = wire_errors.status_of(fault).SerializeToString()
            trailing = (*wire_errors.pushback(fault), *call.trailing)
        for key, value in trailing:
            response.trailing[key] = value
        if self._calls.pop(carried.id, None) is None:
            return  # cancelled just before it was done
        self._ready.append(response)
        self.wake()


def _fill(frame: hop_pb2.ExchangeResponse, ready: list[hop_pb2.CarriedResponse]) -> None:
    room, count = FRAME_BYTES, 0
    for response in ready:
        size = len(response.message) + len(response.status)
        if count and size > room:
            break
        room -= size + CALL_BYTES
        count += 1
    frame.responses.extend(ready[:count])
    del ready[:count]


def _too_large(size: int, limit: int) -> Fault:
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_TOO_LARGE,
        f"The reply of {size} bytes is larger than the {limit} that may be sent; ask for fewer rows.",
        metadata={"bytes": str(size), "limit": str(limit)},
    )
