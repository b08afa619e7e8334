"""Steps that make one column of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import DType, Ragged
from headrace.hop.errors import Reason
from headrace.steps.errors import SpecError
from headrace.steps.frame import Frame, both, by_row
from headrace.steps.options import Options, as_number


@dataclass(frozen=True, slots=True)
class Assemble:
    """`assemble: {columns: […], into, type?: float32 | float64}`: the tensor a model reads.

    One row is the numbers of the columns in the given order, those with several per row laid flat. A row that
    lacks a value, or has one that is not finite, fails and names the column.
    """

    columns: tuple[str, ...]
    into: str
    dtype: DType

    @classmethod
    def read(cls, options: Options) -> Assemble:
        kind = options.choice("type", ["float32", "float64"], "float32")
        dtype = DType.FLOAT32 if kind == "float32" else DType.FLOAT64
        return cls(options.names("columns"), options.name("into"), dtype)

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: self.dtype}

    def run(self, frame: Frame) -> None:
        columns = [frame.columns[name] for name in self.columns]
        for column in columns:
            if column.valid is not None:
                frame.require(column.name, column.valid)
        if not any(c.row_shape or isinstance(c.values, Ragged) for c in columns):
            # One call for all: a call per column costs ten times as much for a few rows.
            matrix = np.concatenate([c.array for c in columns]).reshape(len(columns), frame.rows).T
            matrix = np.ascontiguousarray(matrix, self.dtype.numpy)
        else:
            matrix = self._side_by_side(frame)
        if not np.isfinite(matrix).all():
            self._refuse_infinite(frame)
        frame.put(self.into, matrix)

    def _parts(self, frame: Frame) -> list[NDArray[np.float64]]:
        """float64 (rows, numbers per row) of each column."""
        return [frame.numbers(name)[0].reshape(frame.rows, -1) for name in self.columns]

    def _side_by_side(self, frame: Frame) -> NDArray[np.floating]:
        return np.concatenate(self._parts(frame), axis=1).astype(self.dtype.numpy)

    def _refuse_infinite(self, frame: Frame) -> None:
        for name, part in zip(self.columns, self._parts(frame), strict=True):
            bad = by_row(~np.isfinite(part.astype(self.dtype.numpy)))
            message = (
                f"{name!r} is not a finite {self.dtype.name.lower()}; impute or clip it, or send another"
            )
            frame.refuse(bad, Reason.REASON_INPUT_RANGE, name, message)


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
