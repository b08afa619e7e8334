"""Steps that make one column of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType, Ragged
from headrace.hop.errors import Reason
from headrace.steps.builtin.conversion import refuse_unfit
from headrace.steps.errors import SpecError
from headrace.steps.frame import Frame, both, by_row
from headrace.steps.options import Options, as_number
from headrace.steps.value_ranges import Known, Values, common

_TYPES = [d.name.lower() for d in DType if d.numpy.kind in "iuf"]


@dataclass(frozen=True, slots=True)
class Assemble:
    """`assemble: {columns: […], into, type?: a numeric type, lossy?}`: the tensor a model reads.

    Without `type`, integer columns make the smallest integer type that holds them all; any others make float32. One row is
    the numbers of the columns in the given order, those with several per row laid flat. A row that lacks a value, or has
    one that is not finite or does not fit the type, fails and names the column. `lossy: true` lets `headrace pipeline check`
    pass whole numbers that the type does not have exactly.
    """

    columns: tuple[str, ...]
    into: str
    # None: as the columns are.
    dtype: DType | None
    lossy: bool = False

    @classmethod
    def read(cls, options: Options) -> Assemble:
        dtype = DType[options.choice("type", _TYPES).upper()] if "type" in options else None
        return cls(options.names("columns"), options.name("into"), dtype, options.flag("lossy", False))

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: self.dtype}

    def typed(self, known: Mapping[str, DType | None]) -> Mapping[str, DType | None]:
        """What it writes, given the types of columns that are known."""
        found = self.dtype or common([known.get(name) for name in self.columns])
        # One that is no integer settles it, whatever the others are.
        if found is None and any(
            d is not None and d.numpy.kind not in "iu" for d in map(known.get, self.columns)
        ):
            found = DType.FLOAT32
        return {self.into: found}

    def flow(self, known: Known) -> None:
        given = [known.get(name) for name in self.columns]
        dtype = self.typed({n: v.dtype for n, v in zip(self.columns, given, strict=True)})[self.into]
        for i, name in enumerate(self.columns if dtype and not self.lossy else ()):
            assert dtype is not None
            remedy = f"declare a `range` of the input, write {_wider(known.get(name), dtype)} here, or `lossy: true`"
            known.into(name, dtype, f".columns[{i}]", remedy)
        whole = [v for v in given if v.whole and not self.lossy]
        low, high = (
            (min(v.low for v in whole), max(v.high for v in whole)) if whole else (-math.inf, math.inf)
        )
        unsaid = self.dtype is None and any(v.dtype is DType.FLOAT64 for v in given)
        known.put(self.into, Values(dtype, bool(whole), low, high, unsaid))

    def run(self, frame: Frame) -> None:
        columns = [frame.columns[name] for name in self.columns]
        for column in columns:
            if column.valid is not None:
                frame.require(column.name, column.valid)
        dtype = self.dtype or common([c.dtype for c in columns]) or DType.FLOAT32
        if not dtype.is_float:
            frame.put(self.into, self._whole(frame, columns, dtype))
            return
        if not any(c.row_shape or isinstance(c.values, Ragged) for c in columns):
            # One call for all: a call per column costs ten times as much for a few rows.
            matrix = np.concatenate([c.array for c in columns]).reshape(len(columns), frame.rows).T
            matrix = np.ascontiguousarray(matrix, dtype.numpy)
        else:
            matrix = np.concatenate(self._parts(frame), axis=1).astype(dtype.numpy)
        if not np.isfinite(matrix).all():
            self._refuse_infinite(frame, dtype)
        frame.put(self.into, matrix)

    def _whole(self, frame: Frame, columns: Sequence[Column], dtype: DType) -> NDArray[np.generic]:
        """Integers, which never pass through a float."""
        parts = []
        for column in columns:
            frame.numbers(column.name)  # refuses text
            refuse_unfit(frame, column, dtype, exact=True)
            parts.append(column.array.reshape(frame.rows, -1).astype(dtype.numpy))
        return np.concatenate(parts, axis=1)

    def _parts(self, frame: Frame) -> list[NDArray[np.float64]]:
        """float64 (rows, numbers per row) of each column."""
        return [frame.numbers(name)[0].reshape(frame.rows, -1) for name in self.columns]

    def _refuse_infinite(self, frame: Frame, dtype: DType) -> None:
        for name, part in zip(self.columns, self._parts(frame), strict=True):
            bad = by_row(~np.isfinite(part.astype(dtype.numpy)))
            message = f"{name!r} is not a finite {dtype.name.lower()}; impute or clip it, or send another"
            frame.refuse(bad, Reason.REASON_INPUT_RANGE, name, message)


def _wider(values: Values, dtype: DType) -> str:
    """What could be written instead of `dtype`, if anything has these values exactly."""
    if values.exact_in(DType.FLOAT64):
        return "`type: float64`"
    return (
        f"`type: {values.dtype.name.lower()}`" if values.dtype else f"another type than {dtype.name.lower()}"
    )


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`add | subtract | multiply: {left, right, into}` and `ratio: {left, right, into, otherwise?}`, in float64.

    `otherwise` (0 if not given) is the ratio where the right side is 0.
    """

    operation: str
    left: str
    right: str
    into: str
    otherwise: float = 0.0

    @classmethod
    def reader(cls, operation: str, options: Options) -> Arithmetic:
        otherwise = options.number("otherwise", 0.0) if operation == "ratio" else 0.0
        names = options.name("left"), options.name("right"), options.name("into")
        return cls(operation, *names, otherwise)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.left, self.right)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.FLOAT64}

    def flow(self, known: Known) -> None:
        for name, key in ((self.left, ".left"), (self.right, ".right")):
            known.into(name, DType.FLOAT64, key, "give it a `range`, or cast it before with `lossy: true`")
        left, right = known.get(self.left), known.get(self.right)
        whole = left.whole and right.whole and self.operation != "ratio"
        known.put(self.into, replace(self._span(left, right) if whole else Values(), dtype=DType.FLOAT64))

    def _span(self, left: Values, right: Values) -> Values:
        if self.operation == "add":
            ends = [left.low + right.low, left.high + right.high]
        elif self.operation == "subtract":
            ends = [left.low - right.high, left.high - right.low]
        else:
            ends = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
        return Values(None, True, min(ends), max(ends))

    def run(self, frame: Frame) -> None:
        left, valid = frame.numbers(self.left)
        right, valid_right = frame.numbers(self.right)
        frame.put(self.into, self._apply(left, right), both(valid, valid_right))

    def _apply(self, left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.operation == "add":
            return left + right
        if self.operation == "subtract":
            return left - right
        if self.operation == "multiply":
            return left * right
        zero = right == 0
        return np.where(zero, self.otherwise, left / np.where(zero, 1.0, right))


@dataclass(frozen=True, slots=True)
class JoinText:
    """`join_text: {columns: […], into, separator?}`: one key of several texts; absent if one of them is."""

    columns: tuple[str, ...]
    into: str
    separator: bytes

    @classmethod
    def read(cls, options: Options) -> JoinText:
        separator = options.text("separator", "").encode()
        return cls(options.names("columns"), options.name("into"), separator)

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.BYTES}

    def run(self, frame: Frame) -> None:
        lists, valid = [], None
        for name in self.columns:
            items, there = frame.texts(name)
            lists.append(items)
            valid = both(valid, there)
        frame.put_texts(self.into, [self.separator.join(parts) for parts in zip(*lists, strict=True)], valid)


@dataclass(frozen=True, slots=True)
class Vote:
    """`vote: {columns: {name: weight}, into}`: weighted mean of the scores of several models, in float64.

    The scores have one shape. A model without a score for a row does not vote; no score at all: no value.
    """

    weights: Mapping[str, float]
    into: str

    @classmethod
    def read(cls, options: Options) -> Vote:
        section = options.section("columns")
        weights = {n: as_number(section.raw(n), f"{section.path}.{n}") for n in section.values}
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            raise SpecError(section.path, "weights should be 0 or more, and not all 0")
        return cls(weights, options.name("into"))

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.weights)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.FLOAT64}

    def run(self, frame: Frame) -> None:
        total = np.zeros(frame.rows)
        score: NDArray[np.float64] | None = None
        for name, weight in self.weights.items():
            values, valid = frame.numbers(name)
            share = np.full(frame.rows, weight) if valid is None else np.where(valid, weight, 0.0)
            total += share
            part = values * share.reshape(-1, *[1] * (values.ndim - 1))
            score = part if score is None else score + part
        assert score is not None  # a vote has at least one column
        voted = total > 0
        divisor = np.where(voted, total, 1.0).reshape(-1, *[1] * (score.ndim - 1))
        frame.put(self.into, score / divisor, None if voted.all() else voted)
