"""Unary gRPC-Web calls: gRPC for web pages in browsers, with the trailers in the body.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

from __future__ import annotations

from typing import ClassVar

from headrace.hop.errors import Fault
from services.ingress.protocols.asgi import NONE, Response
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.grpc import frames
from services.ingress.protocols.unary import FramedProtocol
from services.ingress.request_context import RequestContext

_TYPE = b"application/grpc-web"
# The first byte of the frame that holds the trailers.
_TRAILERS = 0x80
_OK = b"grpc-status:0\r\n"


class UnaryGrpcWeb(FramedProtocol):
    """gRPC-Web's own."""

    content_types: ClassVar = {_TYPE: "proto", b"%b+proto" % _TYPE: "proto", b"%b+json" % _TYPE: "json"}

    def reply(self, data: bytes, codec: Codec, context: RequestContext) -> Response:
        headers = [
            (b"content-type", b"%b+%b" % (_TYPE, codec.name.encode())),
            (b"x-request-id", context.header_id.encode()),
            *context.replay_headers(),
        ]
        pack = frames.PREFIX.pack
        body = b"".join((pack(0, len(data)), data, pack(_TRAILERS, len(_OK)), _OK))
        return 200, headers, body, NONE

    def fail(self, fault: Fault, context: RequestContext) -> Response:
        """The status is in the headers, because the response has no body."""
        headers = [
            (b"content-type", _TYPE),
            (b"x-request-id", context.header_id.encode()),
            *frames.status_headers(fault),
            *context.replay_headers(),
        ]
        return 200, headers, b"", NONE
