"""Checks requests against the inputs that a pipeline declares. The ingress does so once per request."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import Batch, Column, DType, Ragged, RowError
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline.problems import suggestion
from headrace.pipeline.requests.element_checks import ElementCheck, check_for
from headrace.pipeline.spec import InputField, Pipeline
from headrace.pipeline.types import ColumnType


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
        elif wrong := check.elements.wrong(column):
            check.report(column, wrong, errors)
    if changed:
        batch = batch.with_columns(changed)
    return batch.with_errors(errors) if errors else batch


def unknown_input(name: str, known: Iterable[str]) -> Fault:
    """The Fault for an input that the pipeline does not declare."""
    known = sorted(known)
    message = f"the pipeline has no input {name[:80]!r}{suggestion(name[:80], known)}"
    metadata = {"input": name[:80], "known": ",".join(known)}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_UNKNOWN, message, metadata=metadata)


def row_error(name: str, row: int, reason: Reason, text: str, metadata: Mapping[str, str]) -> RowError:
    """The error of one row for one input."""
    message = f"input {name}, row {row}: {text}"
    return RowError(Code.INVALID_ARGUMENT, reason, message, "", {"input": name, "row": str(row), **metadata})


def null_column(name: str, kind: ColumnType, count: int) -> Column:
    """A column of `count` rows without a value."""
    return _filled(name, kind, count, None)


@dataclass(frozen=True, slots=True)
class _FieldCheck:
    field: InputField
    dtype: DType
    row_shape: tuple[int, ...]
    elements: ElementCheck
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

    def report(self, column: Column, wrong: Iterable[int], errors: dict[int, RowError]) -> None:
        """Adds an error for each row with a wrong element: that of its first one."""
        size = column.row_size
        for element in wrong:
            row = element // size
            if row in errors:
                continue
            reason, text, metadata = self.elements.complaint(column, element)
            if size > 1:
                text, metadata = (
                    f"element {element % size} {text}",
                    {**metadata, "element": str(element % size)},
                )
            errors[row] = row_error(column.name, row, reason, text, metadata)


@functools.lru_cache(maxsize=256)
def _checks(pipeline: Pipeline) -> Mapping[str, _FieldCheck]:
    return {
        f.name: _FieldCheck(f, f.dtype, f.row_shape, check_for(f), _filled(f.name, f.type, 1, f))
        for f in pipeline.inputs
    }


def _check_nulls(check: _FieldCheck, column: Column, errors: dict[int, RowError]) -> Column:
    """Checks a column that has nulls. Returns it with the default in place of each null, if the field has a default."""
    valid = column.is_valid()
    field, size = check.field, column.row_size
    check.report(column, [e for e in check.elements.wrong(column) if valid[e // size]], errors)
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
