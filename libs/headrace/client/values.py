"""Python values ⇄ google.protobuf.Struct, much faster than through JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value

# From here on a float64 does not hold each integer.
_ROUNDED = 2**53


def to_struct(row: Mapping[str, Any]) -> Struct:
    """A row as a Struct; bytes become base64 text, NumPy scalars plain numbers, integers that a number would round become text.

    Raises TypeError for a value that a Struct cannot hold.
    """
    return Struct(fields={name: _to_value(name, value) for name, value in row.items()})


def _to_value(name: str, value: Any) -> Value:
    if value is None:
        return Value(null_value=NullValue.NULL_VALUE)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int):
        return Value(number_value=value) if abs(value) < _ROUNDED else Value(string_value=str(value))
    if isinstance(value, float):
        return Value(number_value=value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Value(string_value=base64.b64encode(value).decode())
    if isinstance(value, Mapping):
        return Value(struct_value=to_struct(value))
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars, without importing it
        return _to_value(name, value.tolist())
    if isinstance(value, Sequence):
        return Value(list_value=ListValue(values=[_to_value(name, item) for item in value]))
    raise TypeError(
        f"{name}: a {type(value).__name__} can't be sent; use text, numbers, bool, bytes, lists or None"
    )


def from_struct(struct: Struct) -> dict[str, Any]:
    """The values of a struct; numbers are float, integers from 2**53 on text."""
    return {name: _from_value(value) for name, value in struct.fields.items()}


def _from_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    return getattr(value, kind)
