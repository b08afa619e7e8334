"""OIP messages in REST's JSON: all numbers are JSON numbers, while ProtoJSON writes 64-bit numbers as text."""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf.message import Message

# The descriptors of upb and those of pure Python have no common type.
Field: TypeAlias = Any


def to_json(message: Message) -> dict[str, Any]:
    """Every field under its proto name, also with default values. Messages and members of a oneof only if set; enums by name."""
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        shown[field.name] = _value(field, getattr(message, field.name))
    return shown


def _value(field: Field, value: Any) -> Any:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = entry.fields_by_name["value"]
        return {str(key): _one(inner, value[key]) for key in value}
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: Field, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return to_json(value) if field.message_type is not None else value
