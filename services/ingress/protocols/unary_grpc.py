"""Unary gRPC calls over ASGI: the hot path, as thin as the protocol allows."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError, Message

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.door import Door, Operation
from services.ingress.exchange import Exchange
from services.ingress.protocols import frames
from services.ingress.protocols.asgi import Disconnected, Receive, Scope, Send, TooLarge, read_body
from services.ingress.protocols.convoy import Convoy
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.gates import Gates

_TYPE = (b"content-type", b"application/grpc")
_OK = [(b"grpc-status", b"0")]
_ENCODINGS = (b"grpc-accept-encoding", b"identity,gzip")


class UnaryGrpc:
    """Serves a Door's operations to `content-type: application/grpc` (or +proto)."""

    def __init__(self, door: Door, departures: Departures, max_request_bytes: int) -> None:
        self._door = door
        self._gates = Gates(door.admission, door.clock)
        self._departures = departures
        self._convoy = Convoy()
        self._limit = max_request_bytes

    async def serve(self, operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
        """One call: never raises for what the caller did wrong."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        exchange = self._door.begin(operation.method.name, headers)
        try:
            timeout = headers.get(b"grpc-timeout")
            if timeout is not None:
                exchange.deadline = exchange.received + frames.read_timeout(timeout)
            shed = self._gates.come(exchange)
            self._door.admit(operation, exchange, shed)
            try:
                body = await read_body(receive, self._limit + frames.PREFIX.size)
            except TooLarge as error:
                raise frames.too_large(error.size, self._limit) from None
            message = frames.read_message(body, self._limit, headers.get(b"grpc-encoding", b""))
            exchange.size_bytes = len(message)
            request = _parse(operation, message)
        except Fault as fault:
            self._door.refuse(exchange, fault)
            await self._fail(send, fault, exchange)
            return
        except (Disconnected, asyncio.CancelledError) as gone:
            self._door.refuse(
                exchange, Fault(Code.CANCELLED, Reason.REASON_CANCELLED, "the caller went away")
            )
            if isinstance(gone, asyncio.CancelledError):
                raise
            return
        try:
            with self._departures.watch(receive):
                reply = await self._door.call(operation, request, exchange, self._convoy.join)
                await self._reply(send, reply, exchange)
        except Fault as fault:
            await self._fail(send, fault, exchange)

    async def _reply(self, send: Send, reply: Message, exchange: Exchange) -> None:
        data = reply.SerializeToString()
        headers = [
            _TYPE,
            (b"x-request-id", exchange.request_id.encode()),
            *self._gates.told(exchange),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        body = frames.PREFIX.pack(0, len(data)) + data
        await send({"type": "http.response.body", "body": body, "more_body": False})
        await send({"type": "http.response.trailers", "headers": _OK, "more_trailers": False})

    async def _fail(self, send: Send, fault: Fault, exchange: Exchange) -> None:
        """A response of headers alone (gRPC's "trailers-only")."""
        headers = [
            _TYPE,
            _ENCODINGS,
            (b"x-request-id", exchange.request_id.encode()),
            *frames.status_headers(fault),
            *self._gates.told(exchange, fault),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _parse(operation: Operation, message: bytes) -> Message:
    try:
        request: Message = operation.method.request.FromString(message)
    except DecodeError:
        raise Fault(
            Code.INVALID_ARGUMENT,
            Reason.REASON_MALFORMED_REQUEST,
            f"the message is not a {operation.method.request.DESCRIPTOR.full_name}",
        ) from None
    return request
