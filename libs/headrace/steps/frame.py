"""What steps work on: the columns of all rows, which steps replace, and the errors of the rows that failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType, Ragged, RowError
from headrace.hop.errors import Code, Fault, Reason

Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Key: TypeAlias = bytes | int | float | bool


class Frame:
    """The state of one run of a program over `rows` rows.

    A missing value (`Column.valid` False) stays missing through a step, unless the step says otherwise; the number or text
    in its place must never cause an error. `unseen`: (name of the step, column) → count of values outside its vocabulary.
    """

    __slots__ = ("_texts", "columns", "errors", "rows", "stage", "unseen")

    def __init__(self, columns: Mapping[str, Column], rows: int, stage: str) -> None:
        self.columns: dict[str, Column] = dict(columns)
        self.rows = rows
        self.stage = stage
        self.errors: dict[int, RowError] = {}
        self.unseen: dict[tuple[str, str], int] = defaultdict(int)
        self._texts: dict[str, list[bytes]] = {}

    def numbers(self, name: str) -> tuple[Floats, Mask | None]:
        """Values as float64 (rows, *row_shape), and bool (rows,) which are there (None: all).

        Raises Fault INVALID_ARGUMENT for byte strings.
        """
        column = self.columns[name]
        if isinstance(column.values, Ragged):
            raise _dtype(column, "a number")
        return column.values.astype(np.float64, copy=False), column.valid

    def vectors(self, name: str) -> tuple[Floats, Mask | None]:
        """As `numbers`, for a column with one dimension per row: float64 (rows, width). Raises Fault for another shape."""
        values, valid = self.numbers(name)
        if values.ndim != 2:
            raise _shape(self.columns[name], "one dimension per row")
        return values, valid

    def texts(self, name: str) -> tuple[list[bytes], Mask | None]:
        """Byte strings, one per row. Raises Fault for numbers or several per row."""
        column = self.columns[name]
        if not isinstance(column.values, Ragged):
            raise _dtype(column, "text")
        if column.row_shape:
            raise _shape(column, "one text per row")
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = column.values.to_list()
        return found, column.valid

    def keys(self, name: str) -> tuple[Sequence[Key], Mask | None]:
        """Values as Python objects, bytes or numbers, one per row, to be looked up in a vocabulary. Raises Fault for several per
        row."""
        column = self.columns[name]
        if isinstance(column.values, Ragged):
            return self.texts(name)
        if column.row_shape:
            raise _shape(column, "one value per row")
        return column.values.tolist(), column.valid

    def put(self, name: str, values: NDArray[np.generic], valid: Mask | None = None) -> None:
        """Writes a column of numbers: `values` (rows, …)."""
        self._texts.pop(name, None)
        self.columns[name] = Column.of(name, values, valid)

    def put_texts(self, name: str, items: list[bytes], valid: Mask | None = None) -> None:
        """Writes a column of byte strings, one per row."""
        self.columns[name] = Column(name, DType.BYTES, Ragged.of(items), (), valid)
        self._texts[name] = items

    def put_column(self, name: str, column: Column) -> None:
        """Writes a column, unchanged but for its name."""
        self._texts.pop(name, None)
        self.columns[name] = column if column.name == name else column.renamed(name)

    def refuse(self, rows: Mask, reason: Reason, field: str, message: str) -> None:
        """Fails the rows where `rows` is True with INVALID_ARGUMENT, naming `field` in the metadata."""
        error = RowError(Code.INVALID_ARGUMENT, reason, message, self.stage, {"field": field})
        for row in np.flatnonzero(rows).tolist():
            self.errors.setdefault(row, error)

    def refuse_values(self, bad: NDArray[np.bool_], valid: Mask | None, field: str, message: str) -> None:
        """Fails the rows that have a value and one of whose values is `bad` (rows, …), as out of range."""
        rows = by_row(bad)
        self.refuse(rows if valid is None else rows & valid, Reason.REASON_INPUT_RANGE, field, message)

    def require(self, field: str, valid: Mask | None) -> None:
        """Fails the rows that have no value of `field`."""
        if valid is not None and not valid.all():
            message = f"{field!r} has no value, and no step says what to use in its place; send one"
            self.refuse(~valid, Reason.REASON_INPUT_MISSING, field, message)


def by_row(values: NDArray[np.bool_]) -> Mask:
    """bool (rows,): rows in which any of `values` (rows, …) is True."""
    return values if values.ndim == 1 else np.asarray(values.any(axis=tuple(range(1, values.ndim))))


def both(left: Mask | None, right: Mask | None) -> Mask | None:
    """bool (rows,): rows that have both of two values; None: all rows."""
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _dtype(column: Column, wanted: str) -> Fault:
    message = f"column {column.name!r} holds {column.dtype.name}; a step needs {wanted}"
    metadata = {"field": column.name, "dtype": column.dtype.name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_DTYPE, message, metadata=metadata)


def _shape(column: Column, wanted: str) -> Fault:
    shape = list(column.row_shape)
    message = f"column {column.name!r} has rows of shape {shape}; a step needs {wanted}"
    metadata = {"field": column.name, "shape": str(shape)}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_SHAPE, message, metadata=metadata)
