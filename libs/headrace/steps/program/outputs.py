"""The columns that a specification declares as outputs, and the check that the program made them so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.steps.errors import SpecError
from headrace.steps.frame import Mask
from headrace.steps.options import Options


class OutputError(Exception):
    """A program made another column than it declares. `rows`: bool (rows,), True where it is wrong; None: all."""

    def __init__(self, message: str, rows: Mask | None = None) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Output:
    """A declared output: element type and dimensions of one row."""

    name: str
    dtype: DType
    row_shape: tuple[int, ...]

    def accepts(self, dtype: DType) -> bool:
        """Whether values of `dtype` may become this output: the same kind of number, or a wider one."""
        if DType.BYTES in (dtype, self.dtype):
            return dtype is self.dtype
        return bool(np.can_cast(dtype.numpy, self.dtype.numpy, "same_kind"))

    def blank(self, rows: int) -> Column:
        """Zeros, or empty byte strings, for rows that have no result."""
        if self.dtype is DType.BYTES:
            count = rows * int(np.prod(self.row_shape, dtype=np.int64))
            return Column(self.name, self.dtype, Ragged(np.zeros(count + 1, np.uint32), b""), self.row_shape)
        return Column(
            self.name, self.dtype, np.zeros((rows, *self.row_shape), self.dtype.numpy), self.row_shape
        )

    def conformed(self, column: Column, rows: int) -> Column:
        """`column` in the declared type. Raises OutputError if its shape, type or values do not fit."""
        if column.row_shape != self.row_shape or len(column) != rows:
            made, wanted = [len(column), *column.row_shape], [rows, *self.row_shape]
            raise OutputError(f"{self.name!r} has shape {made}; {wanted} is declared")
        if column.dtype is self.dtype:
            return column
        if not self.accepts(column.dtype):
            made_type, declared = column.dtype.name.lower(), self.dtype.name.lower()
            raise OutputError(f"{self.name!r} is {made_type}; {declared} is declared: add a `cast` step")
        values = column.array.astype(self.dtype.numpy)
        if not self.dtype.is_float and self.dtype.numpy.itemsize <= column.dtype.numpy.itemsize:
            wrong = (values.astype(column.dtype.numpy) != column.array).reshape(rows, -1).any(axis=1)
            if wrong.any():
                raise OutputError(
                    f"{self.name!r} has values that do not fit {self.dtype.name.lower()}", wrong
                )
        return Column(self.name, self.dtype, values, self.row_shape, column.valid)


def read_outputs(value: object, made: Mapping[str, DType | None]) -> tuple[Output, ...]:
    """The `outputs` of a specification: name → type, or name → {type, shape}.

    Raises SpecError for one that no step makes, or that is made of another type.
    """
    options = Options("outputs", value)
    if not options.values:
        raise SpecError("outputs", "needs at least one output")
    outputs = []
    for name in options.values:
        output = read_output(options, name)
        if name not in made:
            raise options.error(name, f"no step makes it; they make {', '.join(made)}")
        dtype = made[name]
        if dtype is not None and not output.accepts(dtype):
            declared = output.dtype.name.lower()
            raise options.error(
                name, f"the steps make it {dtype.name.lower()}, not {declared}; add a `cast` step"
            )
        outputs.append(output)
    return tuple(outputs)


def read_output(options: Options, name: str) -> Output:
    """A column's type in its short form `float32` or its long form `{type: float32, shape: [24]}`."""
    if isinstance(options.raw(name), str):
        return Output(name, options.dtype(name), ())
    section = options.section(name)
    dtype = section.dtype("type")
    shape = section.raw("shape", ())
    if not isinstance(shape, list | tuple) or not all(type(n) is int and 0 < n <= 1 << 24 for n in shape):
        raise section.error("shape", "should be a list of dimensions, each 1 or more")
    section.done()
    return Output(name, dtype, tuple(shape))
