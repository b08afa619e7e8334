"""Stream multiplexer, server side: each call on a stream is served like an RPC, by the same layers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.api.hop.v1 import hop_pb2
from headrace.hop.call import Call, Peer, enter
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import STREAM_CALLS
from headrace.hop.server.binding import Answer, PeerOf
from headrace.hop.transport import wire_errors
from headrace.hop.transport.clocks import CLOCK_KEY, is_ours
from headrace.hop.transport.stream import ACCEPTED_KEY, ENVELOPE_BYTES, FRAME_BYTES, LIMIT_KEY

if TYPE_CHECKING:
    from headrace.hop.server.routes import Handler

# Calls that one stream may have open. hop's clients limit themselves to far fewer.
_MAX_OPEN = 16_384


class StreamDemultiplexer:
    """The streams of one server. `answers`: its unary methods by path. Clients leave a stream that is `age_s` old (0: no age)."""

    def __init__(
        self, answers: Mapping[str, Answer], peer_of: PeerOf, max_message_bytes: int, age_s: float = 0
    ) -> None:
        self._answers = answers
        self._peer_of = peer_of
        self._max_message_bytes = max_message_bytes
        self._age_s = age_s
        self._streams: set[_ServedStream] = set()

    def handler(self) -> Handler:
        """The gRPC handler that serves a stream."""
        return grpc.stream_stream_rpc_method_handler(self._serve)

    def drain(self) -> None:
        """Tells the clients to open new streams elsewhere. The current ones end when all their calls are answered."""
        for stream in self._streams:
            stream.drain()

    async def _serve(self, frames: AsyncIterator[bytes], context: Any) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        largest = min(self._max_message_bytes, _limit(metadata.get(LIMIT_KEY), self._max_message_bytes))
        await context.send_initial_metadata(((ACCEPTED_KEY, "1"),))
        stream = _ServedStream(
            self._answers,
            self._peer_of(context),
            context,
            largest - ENVELOPE_BYTES,
            same_clock=is_ours(metadata.get(CLOCK_KEY)),
        )
        self._streams.add(stream)
        leaving = asyncio.get_running_loop().call_later(self._age_s, stream.drain) if self._age_s else None
        try:
            async for frame in frames:
                stream.take(frame)
            await stream.finish()
        except Fault as fault:
            await context.abort(
                wire_errors.status_code(fault.code), fault.message, wire_errors.trailers(fault)
            )
        finally:
            if leaving is not None:
                leaving.cancel()
            self._streams.discard(stream)
            await stream.end()


class _ServedStream:
    """The calls of one stream. Replies that are ready at the same time are written in one message or a few."""

    def __init__(
        self,
        answers: Mapping[str, Answer],
        peer: Peer,
        context: Any,
        largest_reply: int,
        *,
        same_clock: bool,
    ) -> None:
        self._answers = answers
        self._peer = peer
        self._context = context
        self._largest_reply = largest_reply
        self._same_clock = same_clock
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._ready: list[hop_pb2.CarriedResponse] = []
        self._draining = False
        self._writing: asyncio.Task[None] | None = None

    def take(self, frame: bytes) -> None:
        """Starts and cancels the calls in a client's message. Raises Fault if it cannot be parsed."""
        try:
            message = hop_pb2.ExchangeRequest.FromString(frame)
        except DecodeError as error:
            raise _malformed("it is no ExchangeRequest") from error
        # Time counts from when the message was sent: this process may have been stopped while it was in the socket.
        began = time.monotonic()
        if self._same_clock and message.sent_us:
            began = min(began, message.sent_us / 1e6)
        for carried in message.requests:
            if carried.id in self._calls:
                raise _malformed("two calls have the same id")
            if len(self._calls) >= _MAX_OPEN:
                raise _too_many()
            task = asyncio.create_task(self._answer(carried, began))
            self._calls[carried.id] = task
        for gone in message.cancelled_ids:
            if (found := self._calls.pop(gone, None)) is not None:
                found.cancel()

    def drain(self) -> None:
        self._draining = True
        self._wake()

    async def finish(self) -> None:
        """Waits until the calls have ended and their replies are written. The client sends no more."""
        while self._calls:
            await asyncio.wait(self._calls.values())
        if self._writing is not None:
            await self._writing

    async def end(self) -> None:
        """Cancels the remaining calls without a reply."""
        tasks = [*self._calls.values(), *([self._writing] if self._writing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, carried: hop_pb2.CarriedRequest, began: float) -> None:
        left = carried.timeout_us
        call = Call(
            carried.method,
            self._peer,
            began + left / 1e6 if left else math.inf,
            dict(carried.metadata),
            sent=began - carried.waited_us / 1e6,
        )
        enter(call)
        response = hop_pb2.CarriedResponse(id=carried.id)
        trailing: Iterable[tuple[str, str]] = call.trailing
        try:
            response.message = await self._reply(carried, call)
        except Fault as fault:
            response.status = wire_errors.status_of(fault).SerializeToString()
            trailing = (*wire_errors.pushback(fault), *call.trailing)
        for key, value in trailing:
            response.trailing[key] = value
        if self._calls.pop(carried.id, None) is None:
            return  # cancelled just before it was done
        self._ready.append(response)
        self._wake()

    async def _reply(self, carried: hop_pb2.CarriedRequest, call: Call) -> bytes:
        answer = self._answers.get(carried.method)
        if answer is None:
            raise _unknown(carried.method)
        reply = await answer(carried.message, call)
        if len(reply) > self._largest_reply:
            raise _too_large(len(reply), self._largest_reply)
        return reply

    def _wake(self) -> None:
        # The task runs after this iteration of the event loop, so all replies of the iteration share a message.
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            told = False
            while self._ready or (self._draining and not told):
                frame = hop_pb2.ExchangeResponse(draining=self._draining)
                told = self._draining
                _fill(frame, self._ready)
                await self._context.write(frame.SerializeToString())
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            self._ready.clear()  # the stream has ended; gRPC cancels the reading handler
        finally:
            self._writing = None


def _fill(frame: hop_pb2.ExchangeResponse, ready: list[hop_pb2.CarriedResponse]) -> None:
    room, count = FRAME_BYTES, 0
    for response in ready:
        size = len(response.message)
        if count and size > room:
            break
        room -= size
        count += 1
    frame.responses.extend(ready[:count])
    del ready[:count]


def _limit(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else default


def _malformed(why: str) -> Fault:
    return Fault(
        Code.INVALID_ARGUMENT,
        Reason.REASON_MALFORMED_REQUEST,
        f"The stream received a message that cannot be read: {why}; do both sides use one contract?",
    )


def _too_many() -> Fault:
    return STREAM_CALLS.refusal(
        f"One stream takes at most {_MAX_OPEN} calls at once; wait for answers before sending more.",
        limit=str(_MAX_OPEN),
    )


def _unknown(path: str) -> Fault:
    return Fault(
        Code.UNIMPLEMENTED,
        Reason.REASON_METHOD_UNKNOWN,
        "The server has no unary method of this name; do both sides use one contract?",
        metadata={"method": path[:200]},
    )


def _too_large(size: int, limit: int) -> Fault:
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_TOO_LARGE,
        f"The reply of {size} bytes is larger than the {limit} that may be sent; ask for fewer rows.",
        metadata={"bytes": str(size), "limit": str(limit)},
    )
