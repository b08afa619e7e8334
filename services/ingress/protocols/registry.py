"""Which protocol a request speaks."""

from __future__ import annotations

from services.ingress.config import Limits
from services.ingress.protocols.asgi import Application, Receive, Scope, Send, respond
from services.ingress.protocols.body.codecs import Codec, Json, Proto
from services.ingress.protocols.connect.streams import Connect
from services.ingress.protocols.connect.unary import UnaryConnect
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.grpc.unary import UnaryGrpc
from services.ingress.protocols.grpc.web import UnaryGrpcWeb
from services.ingress.protocols.rest.protocol import PREFIX, Rest
from services.ingress.protocols.unary import Intake, UnaryProtocol
from services.ingress.wiring import Ingress


def routes(ingress: Ingress, limits: Limits) -> Application:
    """The application of all protocols: our own path for unary calls, connectrpc for streams, REST for /v2."""
    intake = Intake(ingress.door, Departures(), limits)
    proto, json = Proto(limits.max_values), Json(limits.max_values)
    rest = Rest(intake)
    connect = Connect(ingress, intake, proto, json)
    operations = ingress.door.operations
    unary = _by_content_type(intake, proto, json)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        operation = operations.get(path)
        if operation is not None:
            found = unary.get(_content_type(scope))
            if found is not None and scope["method"] == "POST":
                protocol, codec = found
                await protocol.serve(operation, codec, scope, receive, send)
            else:
                await _refuse(scope, send)
        elif path.startswith(PREFIX) and path[len(PREFIX) :][:1] in ("", "/"):
            await rest.serve(scope, receive, send)
        else:
            await connect.serve(scope, receive, send)

    return serve


def _by_content_type(intake: Intake, proto: Codec, json: Codec) -> dict[bytes, tuple[UnaryProtocol, Codec]]:
    grpc, web, connect = UnaryGrpc(intake), UnaryGrpcWeb(intake), UnaryConnect(intake)
    return {
        b"application/grpc": (grpc, proto),
        b"application/grpc+proto": (grpc, proto),
        b"application/grpc+json": (grpc, json),
        b"application/grpc-web": (web, proto),
        b"application/grpc-web+proto": (web, proto),
        b"application/grpc-web+json": (web, json),
        b"application/proto": (connect, proto),
        b"application/json": (connect, json),
    }


def _content_type(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-type":
            found: bytes = value
            # `application/json; charset=utf-8`: JSON has no other.
            return found if b";" not in found else found.partition(b";")[0].strip()
    return b""


async def _refuse(scope: Scope, send: Send) -> None:
    """A method or a content type that no protocol has."""
    if scope["method"] != "POST":
        await respond(send, 405, [(b"allow", b"POST")], b"")
        return
    await respond(
        send, 415, [(b"accept-post", b"application/json, application/proto, application/grpc")], b""
    )
