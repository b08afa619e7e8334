"""Which protocol a request speaks."""

from __future__ import annotations

from services.ingress.protocols.asgi import Application, Receive, Scope, Send
from services.ingress.protocols.connect import Connect
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.rest import PREFIX, Rest
from services.ingress.protocols.unary_grpc import UnaryGrpc
from services.ingress.wiring import Ingress

_GRPC = (b"application/grpc", b"application/grpc+proto")


def routes(ingress: Ingress, max_request_bytes: int) -> Application:
    """The application of all protocols: our own path for unary gRPC, connectrpc for what is rare, REST for /v2."""
    departures = Departures()
    unary = UnaryGrpc(ingress.door, departures, max_request_bytes)
    rest = Rest(ingress.door, departures, max_request_bytes)
    connect = Connect(ingress, departures, max_request_bytes)
    operations = ingress.door.operations

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        operation = operations.get(path)
        if operation is not None and scope["method"] == "POST":
            for name, value in scope["headers"]:
                if name == b"content-type":
                    if value in _GRPC:
                        await unary.serve(operation, scope, receive, send)
                        return
                    break
        if path.startswith(PREFIX) and path[len(PREFIX) :][:1] in ("", "/"):
            await rest.serve(scope, receive, send)
        else:
            await connect.serve(scope, receive, send)

    return serve
