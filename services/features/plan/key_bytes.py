"""Feast's entity key, version 3: how the online store names an entity.

The number of join keys, their names in order, then their values in that order, each with type and length. Feast's
docs/specs/online_store_format.md is its contract; a test holds this to Feast's own encoder.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from headrace.columns import DType

# Numbers of feast.types.ValueType.
_STRING, _INT32, _INT64 = 2, 3, 4
_SHORT = [struct.pack("<II", _STRING, size) for size in range(256)]
_INTEGERS = {DType.INT32: (_INT32, "<IIi"), DType.INT64: (_INT64, "<IIq")}


def prefix(names: Sequence[str]) -> bytes:
    """What the keys of all entities with these join keys (sorted) begin with."""
    encoded = [name.encode() for name in names]
    return struct.pack("<I", len(names)) + b"".join(struct.pack("<II", _STRING, len(n)) + n for n in encoded)


def text_parts(texts: Sequence[bytes]) -> list[bytes]:
    """Values of a text join key (UTF-8), as keys hold them."""
    heads = {n: _SHORT[n] if n < 256 else struct.pack("<II", _STRING, n) for n in set(map(len, texts))}
    return [heads[len(t)] + t for t in texts]


def integer_parts(numbers: Sequence[int], dtype: DType) -> list[bytes]:
    """Values of an INT32 or INT64 join key, as keys hold them."""
    kind, layout = _INTEGERS[dtype]
    pack, size = struct.Struct(layout).pack, dtype.numpy.itemsize
    return [pack(kind, size, n) for n in numbers]
