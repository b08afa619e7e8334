"""How the Open Inference Protocol carries elements: byte strings in raw contents, and the fields of typed contents."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from headrace.columns.column import DType

LENGTH = struct.Struct("<I")
# The field of InferTensorContents that holds a type's elements. FP16 has none: it travels raw.
CONTENTS: Mapping[DType, str] = MappingProxyType(
    {
        DType.BOOL: "bool_contents",
        DType.INT8: "int_contents",
        DType.INT16: "int_contents",
        DType.INT32: "int_contents",
        DType.INT64: "int64_contents",
        DType.UINT8: "uint_contents",
        DType.UINT16: "uint_contents",
        DType.UINT32: "uint_contents",
        DType.UINT64: "uint64_contents",
        DType.FLOAT32: "fp32_contents",
        DType.FLOAT64: "fp64_contents",
        DType.BYTES: "bytes_contents",
    }
)


def pack_bytes(items: Iterable[bytes]) -> bytes:
    """Raw contents of a BYTES tensor: each element as its length (4 bytes, little-endian) and its bytes."""
    return b"".join([part for item in items for part in (LENGTH.pack(len(item)), item)])


def unpack_bytes(raw: bytes, most: int = sys.maxsize) -> tuple[list[bytes], int]:
    """The elements in raw contents, at most `most`, and how many bytes they take.

    These are fewer than `len(raw)` if an element is cut off or there are more than `most`.
    """
    items: list[bytes] = []
    at, end = 0, len(raw)
    while at + LENGTH.size <= end and len(items) < most:
        start = at + LENGTH.size
        stop = start + LENGTH.unpack_from(raw, at)[0]
        if stop > end:
            break
        items.append(raw[start:stop])
        at = stop
    return items, at
