"""How many values a protobuf message has, counted in its bytes before parsing, because parsing makes an object of each.

An empty submessage of two bytes can take a hundred bytes when it is parsed. So the number of values is limited, too.
Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.ingress.faults import too_many_values

# The size of the smallest possible field: a tag and a length of zero.
LEAST_BYTES = 2
# Fields scanned in one step.
_STEP = 4000
# Wire types.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
# For each field number: the fields of the submessage, or None for a field whose content is not scanned.
Fields: TypeAlias = "dict[int, Fields | None]"


@functools.lru_cache(maxsize=64)
def fields_of(message: Descriptor) -> Fields:
    """What the scan must know about a message type. A recursive type (such as Struct's Value) is represented by one object."""
    return _fields(message, {})


def _fields(message: Any, known: dict[str, Fields]) -> Fields:
    found = known.get(message.full_name)
    if found is None:
        found = known[message.full_name] = {}
        for field in message.fields:
            nested = field.type == FieldDescriptor.TYPE_MESSAGE
            found[field.number] = _fields(field.message_type, known) if nested else None
    return found


def scan(data: bytes, fields: Fields, most: int) -> Iterator[None]:
    """Scans a message in steps (one `next` each). Raises Fault RESOURCE_EXHAUSTED for more than `most` values.

    Each field that is present in the message is a value. A packed list is one value, because it takes little more memory than its
    bytes. Invalid data ends the scan without an error: the parser gives a better error message.
    """
    counted = 0
    # The stack of messages that are being read: where each one ends, and its fields.
    stack = [(len(data), fields)]
    at = 0
    try:
        while stack:
            end, inside = stack[-1]
            if at >= end:
                stack.pop()
                continue
            counted += 1
            if counted > most:
                raise too_many_values(most)
            if counted % _STEP == 0:
                yield
            tag, at = _varint(data, at)
            kind = tag & 7
            if kind == _LENGTH:
                length, at = _varint(data, at)
                nested = inside.get(tag >> 3)
                if at + length > end:
                    return
                if nested is None:
                    at += length
                else:
                    stack.append((at + length, nested))
            elif kind == _VARINT:
                _, at = _varint(data, at)
            elif kind == _FIXED32:
                at += 4
            elif kind == _FIXED64:
                at += 8
            else:
                return
    except IndexError:
        return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
        if shift > 63:
            raise IndexError
