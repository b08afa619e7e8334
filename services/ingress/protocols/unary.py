"""What all protocols of unary calls share: authenticate, read, parse, serve, answer."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from itertools import chain
from typing import Any, ClassVar

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.config import Limits
from services.ingress.door import Door, Operation
from services.ingress.faults import headers_too_large
from services.ingress.protocols.asgi import Disconnected, Fields, Receive, Response, Scope, Send, respond
from services.ingress.protocols.body.bodies import SMALL_BYTES, Bodies, check_size
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.grpc import frames
from services.ingress.request_context import RequestContext

# Envoy takes three times as much (envoy/templates/door.yaml).
_MAX_HEADERS, _MAX_HEADER_BYTES = 64, 32 * 1024


class Intake:
    """Receives requests. No part of a body is read before its caller is authenticated and the call is allowed."""

    def __init__(self, door: Door, departures: Departures, limits: Limits) -> None:
        self.door = door
        self.departures = departures
        self.bodies = Bodies(limits, door.clock)
        self.limits = limits

    def check_headers(self, scope: Scope) -> None:
        """Raises Fault RESOURCE_EXHAUSTED if the headers are too many or too large."""
        headers = scope["headers"]
        if len(headers) > _MAX_HEADERS:
            raise headers_too_large(len(headers), _MAX_HEADERS)
        size = sum(map(len, chain.from_iterable(headers)))
        if size > _MAX_HEADER_BYTES:
            raise headers_too_large(size, _MAX_HEADER_BYTES)

    def limit(self, operation: Operation) -> int:
        """Maximum size in bytes of a message of that operation."""
        return self.limits.max_request_bytes if operation.large else SMALL_BYTES

    def gone(self, context: RequestContext, why: BaseException | None = None) -> None:
        """Reports a request whose caller disconnected before it became a call. Raises `why` if that is a CancelledError."""
        fault = Fault(Code.CANCELLED, Reason.REASON_CANCELLED, "the caller went away")
        self.door.refuse(context, fault)
        if isinstance(why, asyncio.CancelledError):
            raise why


class UnaryProtocol(ABC):
    """Serves a Door's operations, one request and one reply each."""

    # Content type → name of the codec, `proto` or `json`.
    content_types: ClassVar[Mapping[bytes, str]]
    # Bytes that the protocol puts in front of a message.
    framing_bytes = 0

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._door = intake.door

    async def serve(
        self, operation: Operation, codec: Codec, headers: Fields, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serves one call. Errors of the caller never raise an exception here. `headers`: those of the scope."""
        context = self._door.begin(operation.method.name, headers, scope.get("received"), scope["path"])
        try:
            request = await self._request(operation, codec, context, scope, receive)
        except Fault as fault:
            self._door.refuse(context, fault)
            await respond(send, *self.fail(fault, context))
            return
        except (Disconnected, asyncio.CancelledError) as gone:
            self._intake.gone(context, gone)
            return
        except Exception as error:  # noqa: BLE001 - the caller always gets an answer, and its slots are released
            await respond(send, *self.fail(self._door.broken(context, error), context))
            return
        try:
            with self._intake.departures.watch(receive):
                reply = await self._door.call(operation, request, context)
                data = reply if type(reply) is bytes else await codec.write(reply, steady=context.keyed)
                response = self.reply(data, codec, context)
                if "respond" in scope:
                    scope["respond"](*response)
                else:
                    await respond(send, *response)
        except Fault as fault:
            await respond(send, *self.fail(fault, context))

    async def _request(
        self, operation: Operation, codec: Codec, context: RequestContext, scope: Scope, receive: Receive
    ) -> Any:
        self._intake.check_headers(scope)
        timeout = self.timeout(context.headers)
        if timeout is not None:
            context.deadline = context.received + timeout
        refused = scope.get("refused")
        if refused:
            self._door.prove(operation, context)
            self._door.shedder.refused_before(context, refused)
        self._door.admit(operation, context)
        limit = self._intake.limit(operation)
        grouped = operation.grouped if codec.name == "proto" and context.idempotency_key is None else None
        body = scope.get("body")
        if body is not None:
            if grouped is not None:
                grouped.arrivals.came()
            check_size(body, limit, self.framing_bytes)
        elif grouped is None:
            body = await self._intake.bodies.read(receive, context, limit, self.framing_bytes)
        else:
            arrivals, clock = grouped.arrivals, self._door.clock
            arrival = arrivals.begin(context.tenant, clock())
            try:
                body = await self._intake.bodies.read(receive, context, limit, self.framing_bytes)
            finally:
                arrivals.end(arrival, clock())
        message = await self.unpack(body, limit, context.headers)
        context.size_bytes = len(message)
        if grouped is not None:
            return await grouped.read(message, codec, context)
        return await codec.read(message, operation.method.request)

    @abstractmethod
    def timeout(self, headers: Fields) -> float | None:
        """Seconds that the caller allows; None: no limit. Raises Fault INVALID_ARGUMENT."""

    @abstractmethod
    def unpack(self, body: bytes, limit: int, headers: Fields) -> Awaitable[bytes]:
        """The message in a body, decompressed, of at most `limit` bytes. Raises Fault."""

    @abstractmethod
    def reply(self, data: bytes, codec: Codec, context: RequestContext) -> Response:
        """The answer: `data` is a message in the format of `codec`."""

    @abstractmethod
    def fail(self, fault: Fault, context: RequestContext) -> Response:
        """A refusal or a failure."""


class FramedProtocol(UnaryProtocol):
    """What gRPC and gRPC-Web share: a frame around the message, and the deadline's header."""

    framing_bytes = frames.PREFIX.size

    def timeout(self, headers: Fields) -> float | None:
        timeout = headers.get(b"grpc-timeout")
        return None if timeout is None else frames.read_timeout(timeout)

    def unpack(self, body: bytes, limit: int, headers: Fields) -> Awaitable[bytes]:
        return frames.read_message(body, limit, headers.get(b"grpc-encoding", b""))
