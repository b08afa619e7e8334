"""Headers of gRPC calls in HPACK, for a client that uses no dynamic table."""

from __future__ import annotations

from collections.abc import Iterable

UNKNOWN = 2
# Names that HPACK's static table has, as literals without indexing.
_STATIC = {":authority": b"\x01", ":path": b"\x04", "content-type": b"\x0f\x10", "authorization": b"\x0f\x08"}
_INDEXED = {(":method", "POST"): b"\x83", (":scheme", "http"): b"\x86"}
# HPACK's Huffman code of the characters in `grpc-status: N`.
_HUFFMAN = {
    **{"0": "00000", "1": "00001", "2": "00010", "a": "00011", "c": "00100", "s": "01000", "t": "01001"},
    **{"-": "010110", "g": "100110", "p": "101011", "r": "101100", "u": "101101"},
    **{str(n): f"{0b011001 + n - 3:06b}" for n in range(3, 10)},
}


def _huffman(text: str) -> bytes:
    bits = "".join(_HUFFMAN[c] for c in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _string(data: bytes, huffman: bool = False) -> bytes:
    size, flag = len(data), 128 if huffman else 0
    if size < 127:
        return bytes([flag | size]) + data
    out, rest = bytearray([flag | 127]), size - 127
    while rest >= 128:
        out.append(rest % 128 | 128)
        rest //= 128
    return bytes(out) + bytes([rest]) + data


_STATUS_NAMES = (_string(_huffman("grpc-status"), huffman=True), _string(b"grpc-status"))
_STATUS_VALUES = {_string(str(n).encode()): n for n in range(17)}
_STATUS_VALUES |= {_string(_huffman(str(n)), huffman=True): n for n in range(17)}


def header_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers in HPACK without entries for the dynamic table."""
    block = b""
    for name, value in headers:
        known = _INDEXED.get((name, value))
        block += known or _STATIC.get(name, b"\x00" + _string(name.encode())) + _string(value.encode())
    return block


def call_headers(path: str, authority: str, more: Iterable[tuple[str, str]]) -> bytes:
    """The block of a gRPC call of `path` ("/package.Service/Method")."""
    first = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    return header_block([*first, ("te", "trailers"), ("content-type", "application/grpc"), *more])


def grpc_status(block: bytes) -> int | None:
    """The status in a header block; None: it has none."""
    for name in _STATUS_NAMES:
        at = block.find(name)
        if at >= 0:
            at += len(name)
            return _STATUS_VALUES.get(block[at : at + 1 + (block[at] & 127)], UNKNOWN)
    return None
