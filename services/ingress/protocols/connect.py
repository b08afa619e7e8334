"""Everything but unary gRPC and REST, through connectrpc: Connect JSON, gRPC-Web, streams, reflection, health.

Its unary path costs four times ours, which is why the hot calls do not come here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

from connectrpc.code import Code as ConnectCode
from connectrpc.compat import google_protobuf_codecs
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # has no stubs
from protobuf.wkt import Any as WireAny

from headrace.hop.errors import Code, Fault
from headrace.hop.method import Method, methods_of
from headrace.hop.wire_errors import PUSHBACK, status_of
from services.ingress.door import Door, Operation
from services.ingress.exchange import Exchange
from services.ingress.protocols import reflecting
from services.ingress.protocols.asgi import Receive, Scope, Send
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.health import Health
from services.ingress.wiring import INFERENCE_SERVICE, OIP_SERVICE, Ingress

Context: TypeAlias = "RequestContext[Any, Any]"
_TYPES = {
    (False, False): StreamType.UNARY,
    (False, True): StreamType.SERVER_STREAM,
    (True, False): StreamType.CLIENT_STREAM,
    (True, True): StreamType.BIDI_STREAM,
}
_CODES: Mapping[Code, ConnectCode] = {
    code: ConnectCode[code.name.replace("CANCELLED", "CANCELED")] for code in Code if code is not Code.OK
}
_STREAM_INFER = f"/{OIP_SERVICE.full_name}/ModelStreamInfer"
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVICES = (OIP_SERVICE, INFERENCE_SERVICE, _HEALTH)


class _Application(ConnectASGIApplication[None]):
    """Endpoints of several services in one application."""

    @property
    def path(self) -> str:
        return ""


class Connect:
    """Serves what connectrpc understands; answers 404 to all else."""

    def __init__(self, ingress: Ingress, departures: Departures, max_request_bytes: int) -> None:
        self._door = ingress.door
        self._departures = departures
        self._ingress = ingress
        endpoints = self._endpoints()
        self._application = _Application(
            service=None,
            endpoints=lambda _: endpoints,
            read_max_bytes=max_request_bytes,
            codecs=google_protobuf_codecs(),
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. What goes wrong inside connectrpc has been answered by it; it is told of, not raised."""
        try:
            # connectrpc asks until the caller is gone, each time at once: the server's own answer would keep it busy.
            await self._application(scope, self._departures.patient(receive), send)
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may reach the server above
            self._door.unexpected(scope["path"], error)

    def _endpoints(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for path, operation in self._door.operations.items():
            found[path] = Endpoint.unary(_info(operation.method), _unary(self._door, operation))
        stream = next(m for m in methods_of(OIP_SERVICE) if m.path == _STREAM_INFER)
        found[_STREAM_INFER] = Endpoint.bidi_stream(_info(stream), self._stream_infer)
        health = Health([s.full_name for s in SERVICES], self._ingress.readiness.ready)
        for method in methods_of(_HEALTH):
            make = Endpoint.server_stream if method.server_streaming else Endpoint.unary
            found[method.path] = make(_info(method), _quiet(getattr(health, method.name), method))
        servicer = reflecting.Reflection([s.full_name for s in SERVICES])
        for method in reflecting.methods():
            found[method.path] = Endpoint.bidi_stream(_info(method), servicer.serve)
        return found

    async def _stream_infer(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Message]:
        exchange = _begin(self._door, "ModelStreamInfer", context)
        context.response_headers["x-request-id"] = exchange.request_id
        operation = self._door.operations[f"/{OIP_SERVICE.full_name}/ModelInfer"]
        try:
            serve = self._ingress.open_inference.ModelStreamInfer
            async for reply in self._door.stream(operation, serve, requests, exchange):
                yield reply
        except Fault as fault:
            raise to_connect(fault, context) from None


def _begin(door: Door, name: str, context: Context) -> Exchange:
    headers = {
        k.encode("latin-1", "replace"): v.encode("latin-1", "replace")
        for k, v in context.request_headers.items()
    }
    exchange = door.begin(name, headers)
    left_ms = context.timeout_ms
    if left_ms is not None:
        exchange.deadline = exchange.received + left_ms / 1000
    return exchange


def _unary(door: Door, operation: Operation) -> Any:
    async def call(request: Any, context: Context) -> Message:
        exchange = _begin(door, operation.method.name, context)
        context.response_headers["x-request-id"] = exchange.request_id
        try:
            return await door.call(operation, request, exchange)
        except Fault as fault:
            raise to_connect(fault, context) from None
        finally:
            context.response_headers["x-request-id"] = exchange.request_id

    return call


def _quiet(handler: Any, method: Method[Any, Any]) -> Any:
    """A handler that is neither authenticated nor reported: health probes come every second."""
    if method.server_streaming:

        async def stream(request: Any, _: Context) -> AsyncIterator[Message]:
            async for reply in handler(request):
                yield reply

        return stream

    async def call(request: Any, context: Context) -> Message:
        try:
            reply: Message = await handler(request)
        except Fault as fault:
            raise to_connect(fault, context) from None
        return reply

    return call


def _info(method: Method[Any, Any]) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=method.name,
        service_name=method.service,
        input=method.request,
        output=method.response,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=_TYPES[method.client_streaming, method.server_streaming],
    )


def to_connect(fault: Fault, context: Context) -> ConnectError:
    """The fault as connectrpc sends it, with its details; the retry hint goes into the context's metadata."""
    if fault.retry_after_s is not None:
        milliseconds = max(0, round(fault.retry_after_s * 1000))
        context.response_trailers[PUSHBACK] = str(milliseconds)
        context.response_headers["retry-after"] = str(-(-milliseconds // 1000))
    details = [ErrorDetail(WireAny(type_url=d.type_url, value=d.value)) for d in status_of(fault).details]
    return ConnectError(_CODES[fault.code], fault.message, details)
