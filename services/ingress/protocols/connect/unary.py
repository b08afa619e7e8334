"""Unary calls of the Connect protocol: a message as the body of a POST, in JSON or protobuf.

https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from headrace.hop.errors import DOMAIN, Code, Fault, Reason, reason_name
from headrace.hop.transport.wire_errors import PUSHBACK, status_of
from services.ingress.faults import http_status, malformed
from services.ingress.protocols.asgi import NONE, Response
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.body.inflate import GZIP, inflate
from services.ingress.protocols.unary import UnaryProtocol
from services.ingress.request_context import RequestContext

_ERROR_INFO = "google.rpc.ErrorInfo"


class UnaryConnect(UnaryProtocol):
    """Connect's own."""

    content_types: ClassVar = {b"application/proto": "proto", b"application/json": "json"}

    def timeout(self, headers: Mapping[bytes, bytes]) -> float | None:
        text = headers.get(b"connect-timeout-ms")
        if text is None:
            return None
        if not text.isdigit() or len(text) > 10:
            raise malformed("connect-timeout-ms is not a number of at most 10 digits", "connect-timeout-ms")
        return int(text) / 1000

    async def unpack(self, body: bytes, limit: int, headers: Mapping[bytes, bytes]) -> bytes:
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding == b"identity" or not body:
            return body
        if encoding != b"gzip":
            name = encoding.decode("latin-1")[:40]
            raise Fault(
                Code.UNIMPLEMENTED,
                Reason.REASON_MALFORMED_REQUEST,
                f"content-encoding {name!r} is not understood; send gzip or identity",
                metadata={"content-encoding": name},
            )
        return await inflate(body, GZIP, limit)

    def reply(self, data: bytes, codec: Codec, context: RequestContext) -> Response:
        headers = [
            (b"content-type", b"application/" + codec.name.encode()),
            (b"x-request-id", context.header_id.encode()),
            *context.replay_headers(),
        ]
        return 200, headers, data, NONE

    def fail(self, fault: Fault, context: RequestContext) -> Response:
        """Errors are JSON with every codec. Trailers of a unary call are headers that begin with `trailer-`."""
        headers = [(b"content-type", b"application/json"), (b"x-request-id", context.header_id.encode())]
        if fault.retry_after_s is not None:
            milliseconds = max(0, round(fault.retry_after_s * 1000))
            headers.append((f"trailer-{PUSHBACK}".encode(), b"%d" % milliseconds))
            headers.append((b"retry-after", b"%d" % math.ceil(milliseconds / 1000)))
        if fault.code is Code.UNAUTHENTICATED:
            headers.append((b"www-authenticate", b"Bearer"))
        headers += context.replay_headers()
        return http_status(fault), headers, error_body(fault), NONE


def error_body(fault: Fault) -> bytes:
    """A fault in Connect's JSON. `debug` shows the content of `value` in readable form."""
    details: list[dict[str, Any]] = []
    for detail in status_of(fault).details:
        name = detail.TypeName()
        shown: dict[str, Any] = {
            "type": name,
            "value": base64.b64encode(detail.value).rstrip(b"=").decode(),
        }
        if name == _ERROR_INFO:
            info = {"reason": reason_name(fault.reason), "domain": DOMAIN, "metadata": dict(fault.metadata)}
            shown["debug"] = info
        details.append(shown)
    code = "canceled" if fault.code is Code.CANCELLED else fault.code.name.lower()
    error = {"code": code, "message": fault.message, "details": details}
    return json.dumps(error, ensure_ascii=False).encode(errors="replace")
