"""Unary gRPC calls over ASGI. This is the hot path, so it does only what the protocol requires."""

from __future__ import annotations

from headrace.hop.errors import Fault
from services.ingress.protocols.asgi import Headers, Send
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.entry import UnaryEntry
from services.ingress.protocols.grpc import frames
from services.ingress.protocols.unary import FramedProtocol, Intake
from services.ingress.request_context import RequestContext

_TYPE = b"application/grpc"
_OK = [(b"grpc-status", b"0")]
_ENCODINGS = (b"grpc-accept-encoding", b"identity,gzip")


class UnaryGrpc(FramedProtocol):
    """Serves `content-type: application/grpc`, `+proto` and `+json`."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self._shedder = intake.door.shedder

    async def reply(self, send: Send, data: bytes, codec: Codec, context: RequestContext) -> None:
        headers = [
            (b"content-type", _TYPE if codec.name == "proto" else b"%b+%b" % (_TYPE, codec.name.encode())),
            (b"x-request-id", context.header_id.encode()),
            *context.replay_headers(),
        ]
        self._shedder.answered(context)
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        body = frames.PREFIX.pack(0, len(data)) + data
        await send({"type": "http.response.body", "body": body, "more_body": False})
        await send({"type": "http.response.trailers", "headers": _OK, "more_trailers": False})

    async def fail(self, send: Send, fault: Fault, context: RequestContext) -> None:
        """A response that has only headers (gRPC's "trailers-only")."""
        status = refusal_headers(fault)
        self._shedder.refused(context, fault, status)
        headers = [*status, (b"x-request-id", context.header_id.encode()), *context.replay_headers()]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def refusal_headers(fault: Fault) -> Headers:
    """The headers of an answer of headers alone, but the request's id."""
    return [(b"content-type", _TYPE), _ENCODINGS, *frames.status_headers(fault)]


ENTRY = UnaryEntry(
    "grpc",
    {
        b"application/grpc": "proto",
        b"application/grpc+proto": "proto",
        b"application/grpc+json": "json",
    },
    UnaryGrpc,
)
