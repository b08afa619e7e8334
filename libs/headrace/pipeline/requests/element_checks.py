"""The checks of one input field, compiled from its declaration: which elements break it, and how."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType, Ragged
from headrace.hop.errors import Reason
from headrace.pipeline.spec import InputField
from headrace.pipeline.types import Scalar
from headrace.steps.value_ranges import span

# Up to this number of elements, Python's own comparisons take less time than one NumPy call.
_FEW = 12
# Why an element is wrong: the reason, the rest of a sentence about it, and its dynamic parts.
Complaint: TypeAlias = tuple[Reason, str, dict[str, str]]


class ElementCheck(Protocol):
    """Checks the elements of a column that has the field's dtype and row shape."""

    def wrong(self, column: Column) -> Sequence[int]:
        """Positions of the elements (row-major, rows first) that break the declaration."""
        ...

    def complaint(self, column: Column, element: int) -> Complaint:
        """What is wrong with one of them."""
        ...


class NoCheck:
    """For fields whose every value is allowed."""

    def wrong(self, column: Column) -> Sequence[int]:  # noqa: ARG002 - the protocol's
        return ()

    def complaint(self, column: Column, element: int) -> Complaint:
        raise AssertionError(f"nothing is wrong with {column.name}[{element}]")


class NumberCheck:
    """Range and NaN of numbers; that a bool is 0 or 1."""

    def __init__(self, field: InputField) -> None:
        self._field = field
        low, high = field.range or (None, None)
        # Excludes the infinities, unless they are allowed.
        end = math.inf if field.allow_nan or not field.dtype.is_float else sys.float_info.max
        self._low = -end if low is None else low
        self._high = end if high is None else high
        if field.dtype is DType.BOOL:
            self._low, self._high = 0, 1
        self._only_finite = field.dtype.is_float and field.range is None and not field.allow_nan

    def wrong(self, column: Column) -> Sequence[int]:
        elements = column.array.reshape(-1)
        if self._field.dtype is DType.BOOL:
            elements = elements.view(np.uint8)
        if len(elements) > _FEW:
            return self._wrong_of_many(elements)
        low, high = self._low, self._high
        # NaN fits no range: every comparison with it is false.
        wrong = [i for i, v in enumerate(elements.tolist()) if not low <= v <= high]
        if wrong and self._field.allow_nan:
            return [i for i in wrong if elements[i] == elements[i]]
        return wrong

    def _wrong_of_many(self, elements: NDArray[np.generic]) -> Sequence[int]:
        if self._only_finite:
            # isfinite takes a third of the time of two comparisons, and float32 does not have float64's largest number.
            fits = np.isfinite(elements)
        else:
            fits = np.logical_and(np.greater_equal(elements, self._low), np.less_equal(elements, self._high))
        if self._field.allow_nan:
            fits |= np.not_equal(elements, elements)
        return () if fits.all() else np.flatnonzero(~fits).tolist()

    def complaint(self, column: Column, element: int) -> Complaint:
        value = column.array.reshape(-1)[element].item()
        if isinstance(value, float) and math.isnan(value):
            return Reason.REASON_INPUT_RANGE, "is NaN, which is not allowed", {}
        allowed = span(*self._field.range) if self._field.range else "finite numbers"
        if self._field.dtype is DType.BOOL:
            allowed = "the bytes 0 and 1"
        return Reason.REASON_INPUT_RANGE, f"{_is(self._field, value)} outside {allowed}", {"allowed": allowed}


class ChoiceCheck:
    """Numbers out of a set."""

    def __init__(self, field: InputField, choices: Sequence[Scalar]) -> None:
        self._field = field
        self._choices = frozenset(choices)
        self._array = np.array(sorted(choices), field.dtype.numpy)

    def wrong(self, column: Column) -> Sequence[int]:
        elements = column.array.reshape(-1)
        if len(elements) > _FEW:
            return np.flatnonzero(~np.isin(elements, self._array)).tolist()
        return [i for i, v in enumerate(elements.tolist()) if v not in self._choices]

    def complaint(self, column: Column, element: int) -> Complaint:
        return _not_a_choice(self._field, column.array.reshape(-1)[element].item())


class BytesCheck:
    """Length, UTF-8 and choices of byte strings."""

    def __init__(self, field: InputField) -> None:
        self._field = field
        self._max_bytes = sys.maxsize if field.max_bytes is None else field.max_bytes
        self._choices = None if field.choices is None else frozenset(field.choices)

    def wrong(self, column: Column) -> Sequence[int]:
        ragged = column.ragged
        ends = ragged.offsets.tolist()
        limit = self._max_bytes
        # One check of the whole text is enough for the usual batch of short ASCII values.
        whole = ends[-1] - ends[0]
        short = whole <= limit or all(b - a <= limit for a, b in itertools.pairwise(ends))
        if short and self._choices is None and (not self._field.text or _is_ascii(ragged, ends[0], ends[-1])):
            return ()
        return [i for i, item in enumerate(ragged.to_list()) if self._is_wrong(item)]

    def _is_wrong(self, item: bytes) -> bool:
        if len(item) > self._max_bytes or (self._choices is not None and item not in self._choices):
            return True
        return self._field.text and not item.isascii() and not _is_utf8(item)

    def complaint(self, column: Column, element: int) -> Complaint:
        start, stop = column.ragged.offsets[element : element + 2].tolist()
        item = bytes(column.ragged.data[start:stop])
        if len(item) > self._max_bytes:
            text = f"has {len(item)} bytes; at most {self._max_bytes}"
            return Reason.REASON_INPUT_SHAPE, text, {"limit": str(self._max_bytes), "got": str(len(item))}
        if self._field.text and not _is_utf8(item):
            return Reason.REASON_INPUT_DTYPE, "is not UTF-8 text", {}
        return _not_a_choice(self._field, item)


def check_for(field: InputField) -> ElementCheck:
    """The cheapest check that covers what the field declares."""
    if field.dtype is DType.BYTES:
        free = field.max_bytes is None and field.choices is None and not field.text
        return NoCheck() if free else BytesCheck(field)
    if field.choices is not None:
        return ChoiceCheck(field, field.choices)
    anything = field.allow_nan if field.dtype.is_float else field.dtype is not DType.BOOL
    return NoCheck() if field.range is None and anything else NumberCheck(field)


def _is_ascii(ragged: Ragged, start: int, stop: int) -> bool:
    return bytes(ragged.data[start:stop]).isascii()


def _is_utf8(item: bytes) -> bool:
    try:
        item.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is(field: InputField, value: Scalar) -> str:
    if field.pii:
        return "is"
    shown = value.decode(errors="replace") if isinstance(value, bytes) else value
    return f"is {shown!r}," if isinstance(shown, str) else f"is {shown},"


def _not_a_choice(field: InputField, value: Scalar) -> Complaint:
    known = [c.decode(errors="replace") if isinstance(c, bytes) else str(c) for c in field.choices or ()]
    allowed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return Reason.REASON_INPUT_RANGE, f"{_is(field, value)} not one of {allowed}", {"allowed": allowed}
