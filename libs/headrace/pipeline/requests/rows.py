"""Rows as plain Python objects (JSON, Struct) ⇄ batches, and the rounding of outputs."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence

import numpy as np

from headrace.columns import Batch, Column, DType, Ragged, RowError, Rows
from headrace.hop.errors import Reason
from headrace.pipeline.requests.validation import row_error, unknown_input
from headrace.pipeline.spec import InputField, OutputField, Pipeline
from headrace.pipeline.types import Scalar, scalar


def batch_from_rows(
    pipeline: Pipeline, rows: Sequence[Mapping[str, object]], context: Rows, first: int = 0
) -> Batch:
    """A batch with one column per input of the pipeline, from one object per row (field name → value). `first`: how errors number
    the first row.

    JSON numbers become the declared type if they fit it, base64 text becomes `bytes`, nested lists a shaped
    field; null and absent are the same. A row with a value that does not fit, or a name that is no input,
    gets a row error (INVALID_ARGUMENT, REASON_INPUT_*). Ranges and required fields are left to
    `validate_inputs`.
    Raises ValueError if `context` is for another number of rows.
    """
    if len(rows) != len(context):
        raise ValueError(f"{len(rows)} rows with the context of {len(context)}")
    errors: dict[int, RowError] = {}
    names = {f.name for f in pipeline.inputs}
    for i, row in enumerate(rows):
        if not row.keys() <= names:
            fault = unknown_input(next(n for n in row if n not in names), names)
            errors[i] = row_error(
                fault.metadata["input"],
                first + i,
                fault.reason,
                fault.message,
                {"known": fault.metadata["known"]},
            )
    columns = [_column(f, rows, errors, first) for f in pipeline.inputs]
    return Batch(context, {c.name: c for c in columns}, errors)


def _column(
    field: InputField, rows: Sequence[Mapping[str, object]], errors: dict[int, RowError], first: int
) -> Column:
    size = math.prod(field.row_shape)
    empty: Scalar = b"" if field.dtype is DType.BYTES else 0
    elements: list[Scalar] = []
    valid = [True] * len(rows)
    for i, row in enumerate(rows):
        value = row.get(field.name)
        if value is not None:
            try:
                elements.extend(_elements(field, value))
                continue
            except _MisfitError as error:
                errors.setdefault(i, row_error(field.name, first + i, error.reason, str(error), {}))
        valid[i] = False
        elements.extend([empty] * size)
    mask = None if all(valid) else np.array(valid, bool)
    if field.dtype is DType.BYTES:
        ragged = Ragged.of([e for e in elements if isinstance(e, bytes)])
        return Column(field.name, field.dtype, ragged, field.row_shape, mask)
    with np.errstate(
        over="ignore"
    ):  # a number too large for float16 becomes infinite, and is refused as such
        array = np.array(elements, field.dtype.numpy).reshape(len(rows), *field.row_shape)
    return Column(field.name, field.dtype, array, field.row_shape, mask)


class _MisfitError(ValueError):
    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def _elements(field: InputField, value: object) -> list[Scalar]:
    """The elements of one row's value, row-major."""
    flat = [value]
    for i, length in enumerate(field.row_shape):
        if not all(isinstance(v, list | tuple) and len(v) == length for v in flat):
            shape = list(field.row_shape)
            text = f"should be nested lists of shape {shape}; a list at depth {i + 1} does not have {length} elements"
            raise _MisfitError(Reason.REASON_INPUT_SHAPE, text)
        flat = [item for v in flat if isinstance(v, list | tuple) for item in v]
    try:
        return [scalar(field.dtype, field.text, v) for v in flat]
    except ValueError as error:
        # Errors are logged, so they must not contain a value that is PII.
        text = f"does not fit {field.type}" if field.pii else str(error)
        raise _MisfitError(Reason.REASON_INPUT_DTYPE, text) from None


def rounds(pipeline: Pipeline) -> bool:
    return any(output.digits is not None for output in pipeline.outputs)


def rounded(pipeline: Pipeline, batch: Batch) -> Batch:
    """The batch with the outputs of the pipeline rounded to the digits that its document says; halves go to even.

    The digits that nobody needs tell most to a caller who trains a copy of the model. The result for a number depends on that
    number alone, so it is the same offline.
    """
    changed = []
    for output in pipeline.outputs:
        column = batch.columns.get(output.name)
        if output.digits is not None and column is not None and column.dtype.is_float:
            with np.errstate(over="ignore", invalid="ignore"):
                # In 64 bits: in 32 some numbers would differ in the last digit.
                values = np.round(column.array.astype(np.float64), output.digits).astype(column.array.dtype)
            # With more digits than the type has, nothing is to be rounded, but the computation may overflow.
            values = np.where(np.isfinite(values), values, column.array)
            changed.append(Column(column.name, column.dtype, values, column.row_shape, column.valid))
    return batch.with_columns(changed) if changed else batch


def rows_from_batch(pipeline: Pipeline, batch: Batch) -> list[dict[str, object]]:
    """One object per row: the pipeline's outputs. Text is str, bytes are base64, shaped columns nested lists.

    None stands for no value, and for NaN and infinities, which JSON does not have. A failed row is an empty
    object.
    """
    rows: list[dict[str, object]] = [{} for _ in range(len(batch))]
    for output in pipeline.outputs:
        column = batch.columns.get(output.name)
        if column is None:
            continue
        for row, value in zip(rows, _values(column, output), strict=True):
            row[output.name] = value
    for failed in batch.errors:
        rows[failed] = {}
    return rows


def _values(column: Column, output: OutputField) -> list[object]:
    if isinstance(column.values, Ragged):
        items = column.values.to_list()
        shown: list[object] = [
            i.decode(errors="replace") if output.type.text else base64.b64encode(i).decode("ascii")
            for i in items
        ]
    else:
        shown = column.values.reshape(-1).tolist()
        if column.dtype.is_float:
            shown = [v if isinstance(v, float) and math.isfinite(v) else None for v in shown]
            if (digits := output.digits) is not None:
                # A float32 of 0.12 is 0.11999999731779099 as JSON's float64.
                shown = [round(v, digits) if isinstance(v, float) else v for v in shown]
    for length in reversed(column.row_shape):
        shown = [shown[i : i + length] for i in range(0, len(shown), length)]
    if column.valid is None:
        return shown
    return [v if ok else None for v, ok in zip(shown, column.valid.tolist(), strict=True)]
