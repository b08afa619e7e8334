"""Compressed bodies, decompressed within limits: a few bytes can expand to gigabytes."""

from __future__ import annotations

import asyncio
import math
import zlib

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.faults import malformed, too_large

# zlib's window bits for each encoding: gzip only, and gzip or zlib.
GZIP, GZIP_OR_ZLIB = 31, 47
# A compressed body may expand at most by this factor. Up to `ANY_RATIO_BYTES` of output any factor is allowed.
MAX_RATIO = 100
ANY_RATIO_BYTES = 64 * 1024
# Bytes decompressed in one step. Other requests can run between two steps.
_STEP_BYTES = 256 * 1024


async def inflate(data: bytes, window_bits: int, limit: int) -> bytes:
    """Decompresses data. For a large result, other tasks run in between.

    Raises Fault RESOURCE_EXHAUSTED for more than `limit` bytes or (above 64 KiB) a hundred times the size of `data`;
    INVALID_ARGUMENT for data that is not in this format, is truncated, or has extra bytes after its end.
    """
    stream = zlib.decompressobj(wbits=window_bits)
    most = min(limit, max(ANY_RATIO_BYTES, len(data) * MAX_RATIO))
    pieces: list[bytes] = []
    size = 0
    while not stream.eof:
        try:
            piece = stream.decompress(stream.unconsumed_tail if pieces else data, _STEP_BYTES)
        except zlib.error:
            raise malformed("the compressed message is not what its encoding says") from None
        if not piece and not stream.eof:
            raise malformed("the compressed message is cut off")
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large(size, limit)
        if size > most:
            raise _bomb(size, len(data))
        if not stream.eof:
            await asyncio.sleep(0)
    if stream.unused_data:
        raise malformed("something follows the end of the compressed message")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _bomb(size: int, compressed: int) -> Fault:
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_TOO_LARGE,
        f"a compressed message may become {MAX_RATIO} times as large, not more; send it uncompressed",
        metadata={"limit": str(MAX_RATIO), "ratio": str(math.ceil(size / max(compressed, 1)))},
    )
