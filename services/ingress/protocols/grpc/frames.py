"""gRPC's wire details: length-prefixed frames, timeouts, status headers. Pure functions: bytes in, bytes out."""

from __future__ import annotations

import base64
import functools
import struct
from urllib.parse import quote

from headrace.hop import limiters
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.transport.wire_errors import DETAILS, PUSHBACK, cut, status_of
from services.ingress.faults import malformed, too_large
from services.ingress.protocols.asgi import Headers
from services.ingress.protocols.body.inflate import GZIP, inflate

PREFIX = struct.Struct(">BI")
_SIZE = PREFIX.size
_UNITS = {ord("H"): 3600.0, ord("M"): 60.0, ord("S"): 1.0, ord("m"): 1e-3, ord("u"): 1e-6, ord("n"): 1e-9}
_LIMITER_ALONE = {limiters.KEY}
_PLAIN = bytes(set(range(0x20, 0x7F)) - {ord("%")})


@functools.lru_cache(maxsize=256)
def read_timeout(value: bytes) -> float:
    """Seconds of a `grpc-timeout` header: at most 8 digits and a unit. Raises Fault INVALID_ARGUMENT."""
    unit = _UNITS.get(value[-1]) if value else None
    if unit is None or not 2 <= len(value) <= 9 or not value[:-1].isdigit():
        shown = value[:20].decode("latin-1")
        raise malformed(f"grpc-timeout {shown!r} is not 1 to 8 digits and a unit of H, M, S, m, u or n")
    return int(value[:-1]) * unit


async def read_message(body: bytes, limit: int, encoding: bytes) -> bytes:
    """The message of a unary call's body: exactly one frame, of at most `limit` bytes when decompressed.

    `encoding`: the `grpc-encoding` header, b"" if absent. Raises Fault INVALID_ARGUMENT for anything but one complete
    frame, UNIMPLEMENTED for a compression other than gzip, RESOURCE_EXHAUSTED for a message over the limit.
    """
    if len(body) < _SIZE:
        raise malformed(f"the body has {len(body)} bytes; a gRPC frame begins with 5")
    compressed, length = PREFIX.unpack_from(body)
    if compressed > 1:
        raise malformed(f"the first byte of a gRPC frame is 0 or 1, not {compressed}")
    if length > limit:
        raise too_large(length, limit)
    if length != len(body) - _SIZE:
        raise malformed(
            f"the frame announces {length} bytes, {len(body) - PREFIX.size} came; a unary call sends one whole frame"
        )
    message = body[_SIZE:]
    if not compressed:
        return message
    check_encoding(encoding)
    return await inflate(message, GZIP, limit)


def check_encoding(encoding: bytes) -> None:
    """Raises Fault unless a compressed message of that `grpc-encoding` can be read."""
    if encoding != b"gzip":
        name = encoding.decode("latin-1")[:40] or "identity"
        raise Fault(
            Code.UNIMPLEMENTED if name != "identity" else Code.INVALID_ARGUMENT,
            Reason.REASON_MALFORMED_REQUEST,
            f"compressed frame with grpc-encoding {name!r}; gzip is understood",
            metadata={"grpc-encoding": name},
        )


def status_headers(fault: Fault) -> Headers:
    """The trailers (or the headers, if the response has only headers) that say how a call failed."""
    if fault.metadata.keys() != _LIMITER_ALONE:
        return _made(fault)
    # Cached: under overload there are thousands of equal refusals per second.
    limiter = fault.metadata[limiters.KEY]
    return list(_of_kind(fault.code, fault.reason, fault.message, limiter, fault.retry_after_s))


@functools.lru_cache(maxsize=64)
def _of_kind(code: Code, reason: Reason, message: str, limiter: str, retry_after_s: float | None) -> Headers:
    return _made(Fault(code, reason, message, metadata={limiters.KEY: limiter}, retry_after_s=retry_after_s))


def _made(fault: Fault) -> Headers:
    found: Headers = [
        (b"grpc-status", b"%d" % fault.code),
        (b"grpc-message", percent_encode(cut(fault.message))),
    ]
    details = base64.b64encode(status_of(fault).SerializeToString()).rstrip(b"=")
    found.append((DETAILS.encode(), details))
    if fault.retry_after_s is not None:
        found.append((PUSHBACK.encode(), b"%d" % max(0, round(fault.retry_after_s * 1000))))
    return found


def percent_encode(message: str) -> bytes:
    """The encoding of `grpc-message`: printable ASCII unchanged, everything else as %XX of its UTF-8 bytes."""
    return quote(message, safe=_PLAIN, errors="replace").encode()
