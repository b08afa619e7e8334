"""The protocols of the ingress, and which of them a request uses.

A new protocol of unary calls is a class with its content types, its place in UNARY, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.config import Limits
from services.ingress.protocols.asgi import Application, Receive, Scope, Send, respond
from services.ingress.protocols.body.codecs import Codec, Json, Proto
from services.ingress.protocols.connect.streams import Connect
from services.ingress.protocols.connect.unary import UnaryConnect
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.grpc.unary import UnaryGrpc
from services.ingress.protocols.grpc.web import UnaryGrpcWeb
from services.ingress.protocols.rest.protocol import Rest
from services.ingress.protocols.unary import Intake, UnaryProtocol
from services.ingress.wiring import Ingress

Unary: TypeAlias = "dict[bytes, tuple[UnaryProtocol, Codec]]"
UNARY: tuple[type[UnaryProtocol], ...] = (UnaryGrpc, UnaryGrpcWeb, UnaryConnect)


def routes(ingress: Ingress, limits: Limits, protocols: Sequence[type[UnaryProtocol]] = UNARY) -> Application:
    """The application: unary calls of the door's operations by their content type, the Open Inference Protocol's REST form below
    /v2, and all others."""
    proto, json = Proto(limits.max_values), Json(limits.max_values)
    codecs: dict[str, Codec] = {codec.name: codec for codec in (proto, json)}
    intake = Intake(ingress.door, Departures(ingress.door.clock), limits)
    unary: Unary = {}
    for make in protocols:
        made = make(intake)
        unary |= {content_type: (made, codecs[name]) for content_type, name in make.content_types.items()}
    rest = Rest(intake).serve
    others = Connect(ingress, intake, proto, json, _unknown(intake, unary)).serve
    operations = ingress.door.operations

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        operation = operations.get(path)
        if operation is None:
            serve_path = rest if path == "/v2" or path.startswith("/v2/") else others
            await serve_path(scope, receive, send)
            return
        headers = dict(scope["headers"])
        found = unary.get(_content_type(headers))
        if found is None or scope["method"] != "POST":
            await _refuse(scope, send)
            return
        protocol, codec = found
        await protocol.serve(operation, codec, headers, scope, receive, send)

    return serve


def _unknown(intake: Intake, unary: Unary) -> Application:
    """Says in the protocol of a call that there is no such service or method; 404 to what is no call."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as ASGI has it
        path, headers = scope["path"], dict(scope["headers"])
        protocol, _ = unary.get(_content_type(headers), (None, None))
        # JSON that is sent to any other path may be no call.
        if (
            protocol is None
            or scope["method"] != "POST"
            or not (protocol.framing_bytes or path.count("/") == 2)
        ):
            await respond(send, 404, [], b"")
            return
        context = intake.door.begin("unknown", headers, scope.get("received"), path)
        text = f"nothing is served at {path[:120]}"
        fault = intake.door.refuse(context, Fault(Code.UNIMPLEMENTED, Reason.REASON_METHOD_UNKNOWN, text))
        await respond(send, *protocol.fail(fault, context))

    return refuse


def _content_type(headers: Mapping[bytes, bytes]) -> bytes:
    found = headers.get(b"content-type", b"")
    # `application/json; charset=utf-8`: JSON has no other charset, so the parameter is ignored.
    return found if b";" not in found else found.partition(b";")[0].strip()


async def _refuse(scope: Scope, send: Send) -> None:
    """Answers a method or a content type that no protocol supports."""
    if scope["method"] != "POST":
        await respond(send, 405, [(b"allow", b"POST")], b"")
        return
    await respond(
        send, 415, [(b"accept-post", b"application/json, application/proto, application/grpc")], b""
    )
