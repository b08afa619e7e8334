"""Reads the `inputs` of a document."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.columns import DType
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.spec import InputField
from headrace.pipeline.types import TYPE_NAMES, ColumnType, Scalar, read_type, scalar

_KEYS = ("shape", "required", "range", "choices", "max_bytes", "allow_nan", "default", "pii", "description")
MAX_VALUE_BYTES = 1 << 30


def read_inputs(entry: Entry | None) -> tuple[InputField, ...]:
    if entry is None:
        return ()
    found = entry.entries()
    if not found:
        entry.fail("needs at least one input")
    return tuple(_read_input(name, e) for name, e in found.items())


def _read_input(name: str, entry: Entry) -> InputField:
    entry.check_name(name)
    if not entry.is_mapping:
        name_of_type = entry.choice(TYPE_NAMES)
        return InputField(name, TYPE_NAMES[name_of_type], text=name_of_type == "string")
    fields = entry.fields(["type"], _KEYS)
    kind = read_type(fields)
    if "type" not in fields or fields["type"].plain() not in TYPE_NAMES:
        return InputField(name, kind.dtype)  # nothing else can be checked without the type
    _refuse_misplaced(fields, kind)
    default = _read_default(fields.get("default"), kind)
    required = fields["required"].boolean() if "required" in fields else default is None
    if required and default is not None:
        fields["required"].fail("an input with a default can't be required")
    return InputField(
        name,
        kind.dtype,
        kind.row_shape,
        kind.text,
        required,
        read_range(fields.get("range")),
        _read_choices(fields.get("choices"), kind),
        fields["max_bytes"].integer(1, MAX_VALUE_BYTES) if "max_bytes" in fields else None,
        fields["allow_nan"].boolean() if "allow_nan" in fields else False,
        default,
        fields["pii"].boolean() if "pii" in fields else False,
        fields["description"].text() if "description" in fields else "",
    )


def _refuse_misplaced(fields: Mapping[str, Entry], kind: ColumnType) -> None:
    """Logs checks that mean nothing for the type: they would never refuse anything."""
    number = kind.dtype not in (DType.BYTES, DType.BOOL)
    for key, fits in (
        ("range", number),
        ("max_bytes", kind.dtype is DType.BYTES),
        ("allow_nan", kind.dtype.is_float),
        ("choices", not kind.dtype.is_float and kind.dtype is not DType.BOOL),
    ):
        if key in fields and not fits:
            fields[key].fail(f"means nothing for a {kind}")
    if "range" in fields and "choices" in fields:
        fields["choices"].fail("give a range or choices, not both")


def read_range(entry: Entry | None) -> tuple[float | None, float | None] | None:
    """[lowest, highest]; None: there is no entry, or it is wrong."""
    if entry is None:
        return None
    ends = [e.plain() for e in entry.items()]
    low, high = ends if len(ends) == 2 else (None, None)
    if len(ends) != 2 or not (_is_end(low) and _is_end(high)):
        entry.fail("should be [lowest, highest]; null leaves an end open")
        return None
    if low is not None and high is not None and low > high:  # type: ignore[operator]  # both are numbers: _is_end
        entry.fail(f"is empty: {low} is above {high}")
        return None
    return low, high  # type: ignore[return-value]  # numbers or None: _is_end


def _is_end(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _read_choices(entry: Entry | None, kind: ColumnType) -> tuple[Scalar, ...] | None:
    if entry is None:
        return None
    found = [_read_scalar(e, kind) for e in entry.items()]
    if not found:
        entry.fail("needs at least one value")
    return tuple(c for c in found if c is not None)


def _read_default(entry: Entry | None, kind: ColumnType) -> Scalar | None:
    if entry is None or entry.plain() is None:
        return None
    return _read_scalar(entry, kind)


def _read_scalar(entry: Entry, kind: ColumnType) -> Scalar | None:
    try:
        return scalar(kind.dtype, kind.text, entry.plain())
    except ValueError as error:
        entry.fail(str(error))
        return None
