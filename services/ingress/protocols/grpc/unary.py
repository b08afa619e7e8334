"""Unary gRPC calls over ASGI. This is the hot path, so it does only what the protocol requires."""

from __future__ import annotations

from typing import ClassVar

from headrace.hop.errors import Fault
from services.ingress.protocols.asgi import NONE, Headers, Response
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.grpc import frames
from services.ingress.protocols.unary import FramedProtocol, Intake
from services.ingress.request_context import RequestContext

_TYPE = b"application/grpc"
_TYPES = {"proto": (b"content-type", _TYPE), "json": (b"content-type", b"%b+json" % _TYPE)}
_OK = [(b"grpc-status", b"0")]
_ENCODINGS = (b"grpc-accept-encoding", b"identity,gzip")


class UnaryGrpc(FramedProtocol):
    """gRPC's own."""

    content_types: ClassVar = {_TYPE: "proto", b"%b+proto" % _TYPE: "proto", b"%b+json" % _TYPE: "json"}

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self._shedder = intake.door.shedder

    def reply(self, data: bytes, codec: Codec, context: RequestContext) -> Response:
        headers = [_TYPES[codec.name], (b"x-request-id", context.header_id.encode())]
        if context.original_request_id:
            headers += context.replay_headers()
        if self._shedder.refusals:
            self._shedder.answered(context)
        return 200, headers, frames.PREFIX.pack(0, len(data)) + data, _OK

    def fail(self, fault: Fault, context: RequestContext) -> Response:
        """A response that has only headers (gRPC's "trailers-only")."""
        status = refusal_headers(fault)
        self._shedder.refused(context, fault, status)
        headers = [*status, (b"x-request-id", context.header_id.encode()), *context.replay_headers()]
        return 200, headers, b"", NONE


def refusal_headers(fault: Fault) -> Headers:
    """The headers of an answer of headers alone, but the request's id."""
    return [(b"content-type", _TYPE), _ENCODINGS, *frames.status_headers(fault)]
