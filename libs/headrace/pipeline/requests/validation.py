"""Checks requests against the inputs that a pipeline declares. The ingress does so once per request.

The checks of each input field are compiled from its declaration: which elements break it, and how.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import sub
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, Ragged, RowError
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline.problems import suggestion
from headrace.pipeline.spec import InputField, Pipeline
from headrace.pipeline.types import ColumnType, Scalar
from headrace.steps.value_ranges import span

# Up to this number of elements, Python's own comparisons take less time than one NumPy call.
_FEW = 12
# Why an element is wrong: the reason, the rest of a sentence about it, and its dynamic parts.
Complaint: TypeAlias = tuple[Reason, str, dict[str, str]]


class NumberCheck:
    """Range and NaN of numbers; that a bool is 0 or 1.

    As the other checks: `wrong` tells the positions of elements (row-major, rows first) of a column of the field's dtype and row
    shape that break the declaration, `complaint` what is wrong with one of them.
    """

    def __init__(self, field: InputField) -> None:
        self._field = field
        low, high = field.range or (None, None)
        # Excludes the infinities, unless they are allowed.
        end = math.inf if field.allow_nan or not field.dtype.is_float else sys.float_info.max
        self._low = -end if low is None else low
        self._high = end if high is None else high
        self._is_bool = field.dtype is DType.BOOL
        if self._is_bool:
            self._low, self._high = 0, 1
        self._only_finite = field.dtype.is_float and field.range is None and not field.allow_nan

    def wrong(self, column: Column) -> Sequence[int]:
        elements = column.array.reshape(-1)
        if self._is_bool:
            elements = elements.view(np.uint8)
        if len(elements) > _FEW:
            return self._wrong_of_many(elements)
        low, high, wrong = self._low, self._high, []
        for i, v in enumerate(elements.tolist()):
            # NaN fits no range: every comparison with it is false.
            if not low <= v <= high:
                wrong.append(i)
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
        if self._is_bool:
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
        ends, limit = ragged.offsets.tolist(), self._max_bytes
        # One check of the whole text is enough for the usual batch of short ASCII values.
        first, last = ends[0], ends[-1]
        free = self._choices is None and (last - first <= limit or max(map(sub, ends[1:], ends)) <= limit)
        if free and (not self._field.text or bytes(ragged.data[first:last]).isascii()):
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


ElementCheck: TypeAlias = NumberCheck | ChoiceCheck | BytesCheck


def _check_for(field: InputField) -> ElementCheck | None:
    """The cheapest check that covers what the field declares; None: every value is allowed."""
    if field.dtype is DType.BYTES:
        free = field.max_bytes is None and field.choices is None and not field.text
        return None if free else BytesCheck(field)
    if field.choices is not None:
        return ChoiceCheck(field, field.choices)
    anything = field.allow_nan if field.dtype.is_float else field.dtype is not DType.BOOL
    return None if field.range is None and anything else NumberCheck(field)


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


def validate_inputs(pipeline: Pipeline, batch: Batch) -> Batch:
    """The batch as the pipeline needs it: each declared input is a column of the declared type and shape.

    Inputs that are not there become their default, or null. A row with a value that is missing, out of range,
    not among the choices, too long, not UTF-8 or NaN gets a row error (INVALID_ARGUMENT, REASON_INPUT_*;
    metadata `input`, `row` and what was allowed); rows that failed before keep their error. Raises Fault
    INVALID_ARGUMENT for what concerns all rows: an unknown name, a missing required column, a wrong type or
    shape.
    """
    checks = _checks(pipeline)
    columns = batch.columns
    if not columns.keys() <= checks.keys():
        raise unknown_input(next(n for n in columns if n not in checks), checks)
    count = len(batch.rows.request_ids)
    changed: list[Column] = []
    errors: dict[int, RowError] = {}
    for name, check in checks.items():
        column = columns.get(name)
        if column is None:
            changed.append(check.missing(count))
            continue
        if column.dtype is not check.dtype or column.row_shape != check.row_shape:
            raise check.misfit(column)
        if column.valid is not None:
            column = _check_nulls(check, column, errors)
            changed.append(column)
        elif check.elements is not None and (wrong := check.elements.wrong(column)):
            check.report(column, wrong, check.elements, errors)
    if changed:
        batch = batch.with_columns(changed)
    return batch.with_errors(errors) if errors else batch


def unknown_input(name: str, known: Iterable[str]) -> Fault:
    known = sorted(known)
    message = f"the pipeline has no input {name[:80]!r}{suggestion(name[:80], known)}"
    metadata = {"input": name[:80], "known": ",".join(known)}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_UNKNOWN, message, metadata=metadata)


def row_error(name: str, row: int, reason: Reason, text: str, metadata: Mapping[str, str]) -> RowError:
    message = f"input {name}, row {row}: {text}"
    return RowError(Code.INVALID_ARGUMENT, reason, message, "", {"input": name, "row": str(row), **metadata})


def null_column(name: str, kind: ColumnType, count: int) -> Column:
    return _filled(name, kind, count, None)


@dataclass(frozen=True, slots=True)
class _FieldCheck:
    field: InputField
    dtype: DType
    row_shape: tuple[int, ...]
    elements: ElementCheck | None
    # The column of one row without this input. Made once, because most requests have one row.
    one: Column

    def missing(self, count: int) -> Column:
        field = self.field
        if field.required:
            message = f"input {field.name} is required ({field.type})"
            metadata = {"input": field.name}
            raise Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, metadata=metadata)
        return self.one if count == 1 else _filled(field.name, field.type, count, field)

    def misfit(self, column: Column) -> Fault:
        wanted, got = self.field.type, ColumnType(column.dtype, column.row_shape)
        metadata = {"input": column.name, "expected": str(wanted), "got": str(got)}
        if column.dtype is not self.dtype:
            text = f"should be {wanted} ({wanted.dtype.oip}), is {got} ({got.dtype.oip})"
            reason = Reason.REASON_INPUT_DTYPE
        else:
            text = f"should have the shape {list(self.row_shape)} per row, has {list(column.row_shape)}"
            reason = Reason.REASON_INPUT_SHAPE
        return Fault(Code.INVALID_ARGUMENT, reason, f"input {column.name} {text}", metadata=metadata)

    @staticmethod
    def report(
        column: Column, wrong: Iterable[int], elements: ElementCheck, errors: dict[int, RowError]
    ) -> None:
        """Adds an error for each row with a wrong element: that of its first one."""
        size = column.row_size
        for element in wrong:
            row = element // size
            if row in errors:
                continue
            reason, text, metadata = elements.complaint(column, element)
            if size > 1:
                place = str(element % size)
                text, metadata = f"element {place} {text}", {**metadata, "element": place}
            errors[row] = row_error(column.name, row, reason, text, metadata)


@functools.lru_cache(maxsize=256)
def _checks(pipeline: Pipeline) -> Mapping[str, _FieldCheck]:
    return {
        f.name: _FieldCheck(f, f.dtype, f.row_shape, _check_for(f), _filled(f.name, f.type, 1, f))
        for f in pipeline.inputs
    }


def _check_nulls(check: _FieldCheck, column: Column, errors: dict[int, RowError]) -> Column:
    """Checks a column that has nulls. Returns it with the default in place of each null, if the field has a default."""
    valid = column.is_valid()
    field, size = check.field, column.row_size
    if (elements := check.elements) is not None:
        wrong = [e for e in elements.wrong(column) if valid[e // size]]
        check.report(column, wrong, elements, errors)
    if field.required:
        for row in np.flatnonzero(~valid).tolist():
            text = "is required and has no value"
            errors.setdefault(row, row_error(column.name, row, Reason.REASON_INPUT_MISSING, text, {}))
    if field.default is None or valid.all():
        return column
    return _with_default(column, field)


def _with_default(column: Column, field: InputField) -> Column:
    valid = column.is_valid()
    if isinstance(column.values, Ragged):
        default = field.default if isinstance(field.default, bytes) else b""
        there = np.repeat(valid, column.row_size).tolist()
        items = [i if ok else default for i, ok in zip(column.values.to_list(), there, strict=True)]
        return Column(column.name, column.dtype, Ragged.of(items), column.row_shape)
    values = column.values.copy()
    values[~valid] = field.default  # the parser made it fit the dtype
    return Column(column.name, column.dtype, values, column.row_shape)


def _filled(name: str, kind: ColumnType, count: int, field: InputField | None) -> Column:
    """A column of one value: the field's default, or null."""
    default = field.default if field else None
    valid = np.zeros(count, bool) if default is None else None
    if kind.dtype is DType.BYTES:
        size = count * int(np.prod(kind.row_shape, dtype=int))
        item = default if isinstance(default, bytes) else b""
        return Column(name, kind.dtype, Ragged.of([item] * size), kind.row_shape, valid)
    values = np.full((count, *kind.row_shape), 0 if default is None else default, kind.dtype.numpy)
    return Column(name, kind.dtype, values, kind.row_shape, valid)
