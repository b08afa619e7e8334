"""Streams, reflection and health in every protocol that connectrpc speaks: gRPC, gRPC-Web, Connect.

The door's unary calls do not come here: connectrpc reads and parses a body before it authenticates the sender, and costs four
times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

from connectrpc.code import Code as ConnectCode
from connectrpc.codec import Codec as ConnectCodec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext as ConnectContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # has no stubs
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]  # has no stubs
from protobuf.wkt import Any as WireAny

from headrace.hop.call import Method, methods_of
from headrace.hop.errors import Code, Fault
from headrace.hop.limiters import OPEN_CALLS
from headrace.hop.transport.wire_errors import PUSHBACK, status_of
from services.ingress.door import Door
from services.ingress.faults import too_large
from services.ingress.protocols.asgi import Application, Receive, Scope, Send, respond
from services.ingress.protocols.body.bodies import SMALL_BYTES
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.body.inflate import ANY_RATIO_BYTES, MAX_RATIO
from services.ingress.protocols.connect.health import Health
from services.ingress.protocols.connect.unary import error_body
from services.ingress.protocols.unary import Intake
from services.ingress.request_context import RequestContext
from services.ingress.wiring import (
    INFERENCE_SERVICE,
    OIP_SERVICE,
    OPERATIONS_SERVICE,
    RELEASE_SERVICE,
    Ingress,
)

RpcContext: TypeAlias = "ConnectContext[Any, Any]"
_TYPES = {
    (False, False): StreamType.UNARY,
    (False, True): StreamType.SERVER_STREAM,
    (True, False): StreamType.CLIENT_STREAM,
    (True, True): StreamType.BIDI_STREAM,
}
_CODES: Mapping[Code, ConnectCode] = {
    code: ConnectCode[code.name.replace("CANCELLED", "CANCELED")] for code in Code if code is not Code.OK
}
_TOO_MANY_OPEN_CALLS = error_body(
    OPEN_CALLS.refusal("too many calls without a credential are being served; try again in a second")
)
_STREAM_INFER = f"/{OIP_SERVICE.full_name}/ModelStreamInfer"
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_WATCH = f"/{_HEALTH.full_name}/Watch"
# Server reflection, so that `buf curl` and grpcurl need no proto files. Both versions have the same wire format.
_REFLECTION = [
    Method(
        name,
        "ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest,
        reflection_pb2.ServerReflectionResponse,
        True,
        True,
    )
    for name in ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
]
# Limit for calls without a credential: otherwise any client could begin any number of them and leave them open.
_MAX_OPEN_CALLS = 256
# Time limit of these calls. It does not apply to a watch, which may stay open.
_OPEN_CALL_S = 60.0
# Size limit of one JSON message in a stream, because parsing it blocks the event loop.
_MAX_JSON_BYTES = 256 * 1024
SERVICES = (OIP_SERVICE, INFERENCE_SERVICE, OPERATIONS_SERVICE, RELEASE_SERVICE, _HEALTH)


class _Application(ConnectASGIApplication[None]):
    """Endpoints of several services in one application."""

    @property
    def path(self) -> str:
        return ""


def _application(endpoints: Mapping[str, Any], max_bytes: int, proto: Codec, json: Codec) -> _Application:
    return _Application(
        service=None,
        endpoints=lambda _: endpoints,
        read_max_bytes=max_bytes,
        codecs=[BoundedCodec(proto, max_bytes), BoundedCodec(json, min(max_bytes, _MAX_JSON_BYTES))],
        compressions=[BoundedGzip()],
    )


class BoundedGzip(GzipCompression):
    """Gzip whose content may be at most a hundred times its size, as in the door's unary calls."""

    def decompress(self, data: bytes | bytearray | memoryview, read_max_bytes: int | None = None) -> bytes:
        most = max(len(data) * MAX_RATIO, ANY_RATIO_BYTES)
        return super().decompress(data, most if read_max_bytes is None else min(read_max_bytes, most))


class BoundedCodec(ConnectCodec[Any, Any]):
    """One of the door's codecs, for connectrpc. It parses in one step, so large JSON is refused here."""

    def __init__(self, codec: Codec, max_bytes: int) -> None:
        self._codec = codec
        self._max_bytes = max_bytes

    def name(self) -> str:
        return self._codec.name

    def encode(self, message: Any) -> bytes:
        return self._codec.write_at_once(message)

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        try:
            if len(data) > self._max_bytes:
                raise too_large(len(data), self._max_bytes)
            return self._codec.read_at_once(bytes(data), message_class)
        except Fault as fault:
            raise connect_error(fault) from None


class Connect:
    """Serves the requests that connectrpc supports; leaves all others to `unknown`."""

    def __init__(
        self, ingress: Ingress, intake: Intake, proto: Codec, json: Codec, unknown: Application
    ) -> None:
        self._door = ingress.door
        self._departures = intake.departures
        self._ingress = ingress
        # Number of calls in flight that need no credential.
        self._open_calls = 0
        self._unknown = unknown
        most = intake.limits.max_request_bytes
        # A request that needs no credential contains only one or two names.
        open_endpoints = self._open_endpoints()
        self._open_paths = frozenset(open_endpoints)
        self._open = _application(open_endpoints, SMALL_BYTES, proto, json)
        self._streams = _application(self._stream_endpoints(), most, proto, json)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. connectrpc has already answered errors inside it, so they are reported, not raised."""
        if scope["path"] == _STREAM_INFER:
            await self._serve(self._streams, scope, receive, send)
        elif scope["path"] not in self._open_paths:
            await self._unknown(scope, receive, send)
        elif self._open_calls >= _MAX_OPEN_CALLS:
            # gRPC's clients read UNAVAILABLE from the HTTP status.
            headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
            await respond(send, 503, headers, _TOO_MANY_OPEN_CALLS)
        else:
            self._open_calls += 1
            try:
                async with asyncio.timeout(None if scope["path"] == _WATCH else _OPEN_CALL_S):
                    await self._serve(self._open, scope, receive, send)
            except TimeoutError:
                return  # Envoy ends the stream
            finally:
                self._open_calls -= 1

    async def _serve(self, application: _Application, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # connectrpc calls `receive` in a loop until the caller disconnects. The server's own returns at once: a busy loop.
            await application(scope, self._departures.patient(receive), send)
        except OSError:
            return  # as ASGI specifies: the caller disconnected during the answer
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may reach the server above
            self._door.unexpected(scope["path"], error)

    def _stream_endpoints(self) -> Mapping[str, Any]:
        stream = next(m for m in methods_of(OIP_SERVICE) if m.path == _STREAM_INFER)
        return {_STREAM_INFER: Endpoint.bidi_stream(_info(stream), self._stream_infer)}

    def _open_endpoints(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        health = Health([s.full_name for s in SERVICES], self._ingress.readiness.ready)
        for method in methods_of(_HEALTH):
            make = Endpoint.server_stream if method.server_streaming else Endpoint.unary
            found[method.path] = make(_info(method), _quiet(getattr(health, method.name), method))
        # v1's own descriptor is not in the pool (grpcio-reflection has v1alpha only), but every listed service must resolve.
        listed = [*(s.full_name for s in SERVICES), reflection.SERVICE_NAME]
        servicer = reflection.aio.ReflectionServicer(listed)
        for method in _REFLECTION:
            found[method.path] = Endpoint.bidi_stream(_info(method), servicer.ServerReflectionInfo)
        return found

    async def _stream_infer(self, requests: AsyncIterator[Any], rpc: RpcContext) -> AsyncIterator[Message]:
        context = _begin(self._door, "ModelStreamInfer", rpc)
        rpc.response_headers["x-request-id"] = context.header_id
        operation = self._door.operations[f"/{OIP_SERVICE.full_name}/ModelInfer"]
        try:
            serve = self._ingress.open_inference.ModelStreamInfer
            async for reply in self._door.stream(operation, serve, requests, context):
                yield reply
        except Fault as fault:
            raise to_connect(fault, rpc) from None


def _begin(door: Door, name: str, rpc: RpcContext) -> RequestContext:
    headers = {
        k.encode("latin-1", "replace"): v.encode("latin-1", "replace") for k, v in rpc.request_headers.items()
    }
    context = door.begin(name, headers)
    context.path = f"/{OIP_SERVICE.full_name}/{name}"
    left_ms = rpc.timeout_ms
    if left_ms is not None:
        context.deadline = context.received + left_ms / 1000
    return context


def _quiet(handler: Any, method: Method[Any, Any]) -> Any:
    """A handler without authentication and reporting: health probes come every second."""
    if method.server_streaming:

        async def stream(request: Any, _: RpcContext) -> AsyncIterator[Message]:
            async for reply in handler(request):
                yield reply

        return stream

    async def call(request: Any, rpc: RpcContext) -> Message:
        try:
            reply: Message = await handler(request)
        except Fault as fault:
            raise to_connect(fault, rpc) from None
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


def to_connect(fault: Fault, rpc: RpcContext) -> ConnectError:
    """The fault in connectrpc's form. The retry hint goes into the RPC's metadata."""
    if fault.retry_after_s is not None:
        milliseconds = max(0, round(fault.retry_after_s * 1000))
        rpc.response_trailers[PUSHBACK] = str(milliseconds)
        rpc.response_headers["retry-after"] = str(-(-milliseconds // 1000))
    return connect_error(fault)


def connect_error(fault: Fault) -> ConnectError:
    """The fault with its details."""
    details = [ErrorDetail(WireAny(type_url=d.type_url, value=d.value)) for d in status_of(fault).details]
    return ConnectError(_CODES[fault.code], fault.message, details)
