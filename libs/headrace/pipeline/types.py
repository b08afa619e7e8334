"""The types of a pipeline document: their names, and values checked against them."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from headrace.columns import DType
from headrace.pipeline.document.entries import Entry

Scalar: TypeAlias = "bool | int | float | bytes"

# `string` is UTF-8 in a BYTES column, `bytes` is anything in one.
TYPE_NAMES: Mapping[str, DType] = MappingProxyType(
    {"string": DType.BYTES} | {d.name.lower(): d for d in DType}
)


# From here on a float64, and so a number of a Struct and of many JSON parsers, may stand for another integer that was rounded.
ROUNDED = 2**53
_DECIMAL = re.compile(r"-?[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column holds: element type and dimensions of one row. `text`: BYTES that are UTF-8."""

    dtype: DType
    row_shape: tuple[int, ...] = ()
    text: bool = False

    def __str__(self) -> str:
        name = "string" if self.text else self.dtype.name.lower()
        return f"{name}{list(self.row_shape)}" if self.row_shape else name

    def fits(self, other: ColumnType) -> bool:
        """Whether the two have the same columns; whether BYTES are text does not matter."""
        return self.dtype is other.dtype and self.row_shape == other.row_shape


def read_type(fields: Mapping[str, Entry]) -> ColumnType:
    """The type in the keys `type` and `shape` of a mapping; `shape` absent = a scalar per row."""
    name = fields["type"].choice(TYPE_NAMES) if "type" in fields else "bytes"
    shape: tuple[int, ...] = ()
    if "shape" in fields:
        shape = tuple(n.integer(1, 1 << 24) for n in fields["shape"].items())
    return ColumnType(TYPE_NAMES[name], shape, name == "string")


def read_typed(entry: Entry) -> ColumnType:
    """A type in its short form `float32` or its long form `{type: float32, shape: [24]}`."""
    if not entry.is_mapping:
        name = entry.choice(TYPE_NAMES)
        return ColumnType(TYPE_NAMES[name], (), name == "string")
    return read_type(entry.fields(["type"], ["shape"]))


def scalar(dtype: DType, text: bool, value: object) -> Scalar:
    """`value`, as JSON or Python holds it, as an element of `dtype`.

    A number fits an integer type if it is integral, in its bounds and, as a float, below 2**53; decimal text fits a 64-bit one
    (as in ProtoJSON). Text fits `string`; `bytes` takes bytes or base64 text. Raises ValueError saying what it
    should be.
    """
    if dtype is DType.BYTES:
        return _text(value) if text else _bytes(value)
    if dtype is DType.BOOL:
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise ValueError(f"should be true or false, is {_shown(value)}")
    if dtype.is_float:
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            return float(value)
        raise ValueError(f"should be a number, is {_shown(value)}")
    return _integer(dtype, value)


def _integer(dtype: DType, value: object) -> int:
    low, high = dtype.bounds
    number = _integral(value, wide=dtype.numpy.itemsize == 8)
    if number is None:
        raise ValueError(f"should be an integer ({dtype.name.lower()}), is {_shown(value)}")
    if not low <= number <= high:
        raise ValueError(f"{number} does not fit {dtype.name.lower()} ({low} to {high})")
    return number


def _integral(value: object, *, wide: bool) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if wide and ROUNDED <= abs(number) < math.inf:
            raise ValueError(f"{number:.0f} may have been rounded; send integers from 2**53 on as text")
        return int(number) if number.is_integer() else None
    return whole_number(value) if wide and isinstance(value, str) else None


def whole_number(text: str) -> int | None:
    """The integer that decimal text stands for; None if it is no such text."""
    return int(text) if _DECIMAL.fullmatch(text) else None


def _text(value: object) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise ValueError("is text that has no UTF-8 form") from None
    if isinstance(value, bytes):
        return value
    raise ValueError(f"should be text, is {_shown(value)}")


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
        except (binascii.Error, UnicodeEncodeError):
            raise ValueError("should be bytes in base64, is text that is not") from None
    raise ValueError(f"should be bytes in base64, is {_shown(value)}")


def _shown(value: object) -> str:
    """A value in an error message: short, whatever the caller sent."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}…"
