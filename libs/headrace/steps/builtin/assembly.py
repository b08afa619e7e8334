"""The step that makes the tensor which a model reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.hop.errors import Reason
from headrace.steps.builtin.conversion import refuse_unfit
from headrace.steps.frame import Frame, by_row
from headrace.steps.options import Options
from headrace.steps.step import Columns
from headrace.steps.value_ranges import Known, Values

_TYPES = [d.name.lower() for d in DType if d.numpy.kind in "iuf"]


@dataclass(frozen=True, slots=True)
class Assemble(Columns):
    """`assemble: {columns: […], into, type?: a numeric type, lossy?}`: the tensor a model reads.

    Without `type`, integer columns make the smallest integer type that holds them all; any others make float32. One row is
    the numbers of the columns in the given order, those with several per row laid flat. A row that lacks a value, or has
    one that is not finite or does not fit the type, fails and names the column. `lossy: true` lets `headrace pipeline check`
    pass whole numbers that the type does not have exactly.
    """

    into: str
    # None: decided by the types of the columns.
    dtype: DType | None
    lossy: bool

    @classmethod
    def read(cls, options: Options) -> Assemble:
        dtype = DType[options.choice("type", _TYPES).upper()] if "type" in options else None
        columns, into = options.names("columns"), options.name("into")
        return cls(columns, {into: dtype}, into, dtype, options.flag("lossy", False))

    def typed(self, known: Mapping[str, DType | None]) -> Mapping[str, DType | None]:
        found = self.dtype or _common_integer({known.get(name) for name in self.reads})
        # One column that is no integer decides it, whatever the types of the others are.
        if found is None and any(
            d is not None and d.numpy.kind not in "iu" for d in map(known.get, self.reads)
        ):
            found = DType.FLOAT32
        return {self.into: found}

    def flow(self, known: Known) -> None:
        given = [known.get(name) for name in self.reads]
        dtype = self.typed({n: v.dtype for n, v in zip(self.reads, given, strict=True)})[self.into]
        for i, name in enumerate(self.reads if dtype and not self.lossy else ()):
            assert dtype is not None
            remedy = f"declare a `range` of the input, write {_wider(known.get(name), dtype)} here, or `lossy: true`"
            known.into(name, dtype, f".columns[{i}]", remedy)
        whole = [v for v in given if v.whole and not self.lossy]
        low, high = (
            (min(v.low for v in whole), max(v.high for v in whole)) if whole else (-math.inf, math.inf)
        )
        narrowed = self.dtype is None and any(v.dtype is DType.FLOAT64 for v in given)
        known.put(self.into, Values(dtype, bool(whole), low, high, known.step if narrowed else ""))

    def run(self, frame: Frame) -> None:
        given = frame.columns
        columns = [given[name] for name in self.reads]
        for column in [c for c in columns if c.valid is not None]:
            frame.require(column.name, column.valid)
        kinds = {(c.dtype, c.row_shape) for c in columns}
        dtype = self.dtype or _common_integer({dtype for dtype, _ in kinds}) or DType.FLOAT32
        if not dtype.is_float:
            frame.put(self.into, self._whole(frame, columns, dtype))
            return
        if not [1 for its_dtype, shape in kinds if shape or its_dtype is DType.BYTES]:
            # One NumPy call for all columns: for a few rows, a call per column takes ten times as long.
            matrix = np.concatenate([c.values for c in columns]).reshape(len(columns), frame.rows).T
            matrix = np.ascontiguousarray(matrix, dtype.numpy)
        else:
            matrix = np.concatenate(self._parts(frame), axis=1).astype(dtype.numpy)
        if not np.isfinite(matrix).all():
            self._refuse_infinite(frame, dtype)
        frame.put(self.into, matrix)

    def _whole(self, frame: Frame, columns: Sequence[Column], dtype: DType) -> NDArray[np.generic]:
        """The matrix of integer columns, never converted to a float in between."""
        parts = []
        for column in columns:
            frame.numbers(column.name)  # raises Fault for text
            refuse_unfit(frame, column, dtype, exact=True)
            parts.append(column.array.reshape(frame.rows, -1).astype(dtype.numpy))
        return np.concatenate(parts, axis=1)

    def _parts(self, frame: Frame) -> list[NDArray[np.float64]]:
        """Each column as float64 (rows, numbers per row)."""
        return [frame.numbers(name)[0].reshape(frame.rows, -1) for name in self.reads]

    def _refuse_infinite(self, frame: Frame, dtype: DType) -> None:
        for name, part in zip(self.reads, self._parts(frame), strict=True):
            bad = by_row(~np.isfinite(part.astype(dtype.numpy)))
            message = f"{name!r} is not a finite {dtype.name.lower()}; impute or clip it, or send another"
            frame.refuse(bad, Reason.REASON_INPUT_RANGE, name, message)


def _wider(values: Values, dtype: DType) -> str:
    """A type that has these values exactly, for the message; `dtype` has not."""
    if values.exact_in(DType.FLOAT64):
        return "`type: float64`"
    return (
        f"`type: {values.dtype.name.lower()}`" if values.dtype else f"another type than {dtype.name.lower()}"
    )


def _common_integer(dtypes: Set[DType | None]) -> DType | None:
    """The smallest integer type that holds all values of these integer types; None if there is none, or one is no integer."""
    if not dtypes or [d for d in dtypes if d is None or d.numpy.kind not in "iu"]:
        return None
    found = np.result_type(*[d.numpy for d in dtypes if d is not None])
    return DType[found.name.upper()] if found.kind in "iu" else None
