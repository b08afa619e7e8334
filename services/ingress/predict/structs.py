"""google.protobuf.Struct ⇄ Python objects; several times faster than json_format, which goes through text."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from headrace.pipeline.types import ROUNDED


def to_python(struct: Struct) -> dict[str, object]:
    """Field name → value, as in JSON."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return value.number_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_plain(v) for v in value.list_value.values]
    if kind == "struct_value":
        return to_python(value.struct_value)
    return None


def fill(struct: Struct, values: Mapping[str, object]) -> None:
    """Adds the values to the struct. They are of JSON's types: bool, numbers, str, None, lists of these.

    Integers that a number of a Struct does not hold exactly become text."""
    fields = struct.fields
    for name, value in values.items():
        _fill(fields[name], value)


def _fill(target: Value, value: object) -> None:
    if value is None:
        target.null_value = 0  # type: ignore[assignment]  # the only value of its enum
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int) and abs(value) >= ROUNDED:
        target.string_value = str(value)
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, list):
        items: ListValue = target.list_value
        items.SetInParent()
        for item in value:
            _fill(items.values.add(), item)
    else:
        raise TypeError(f"a Struct can't hold a {type(value).__name__}")
