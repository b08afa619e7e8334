"""Steps that compute with two columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headrace.columns import DType
from headrace.steps.frame import Floats, Frame, both
from headrace.steps.options import Options
from headrace.steps.step import Columns
from headrace.steps.value_ranges import Known, Values

OPERATIONS = ("add", "subtract", "multiply", "ratio")


@dataclass(frozen=True, slots=True)
class Arithmetic(Columns):
    """`add | subtract | multiply: {left, right, into}` and `ratio: {left, right, into, otherwise?}`, in float64.

    `otherwise` (0 if not given) is the ratio where the right side is 0.
    """

    operation: str
    into: str
    otherwise: float

    @classmethod
    def read(cls, operation: str, options: Options) -> Arithmetic:
        otherwise = options.number("otherwise", 0.0) if operation == "ratio" else 0.0
        left, right, into = (options.name(key) for key in ("left", "right", "into"))
        return cls((left, right), {into: DType.FLOAT64}, operation, into, otherwise)

    def flow(self, known: Known) -> None:
        for name, key in zip(self.reads, (".left", ".right"), strict=True):
            known.into(name, DType.FLOAT64, key, "give it a `range`, or cast it before with `lossy: true`")
        left, right = map(known.get, self.reads)
        whole = left.whole and right.whole and self.operation != "ratio"
        known.put(self.into, replace(self._range(left, right) if whole else Values(), dtype=DType.FLOAT64))

    def _range(self, left: Values, right: Values) -> Values:
        if self.operation == "add":
            ends = [left.low + right.low, left.high + right.high]
        elif self.operation == "subtract":
            ends = [left.low - right.high, left.high - right.low]
        else:
            ends = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
        return Values(None, True, min(ends), max(ends))

    def run(self, frame: Frame) -> None:
        (left, valid), (right, valid_right) = map(frame.numbers, self.reads)
        frame.put(self.into, self._apply(left, right), both(valid, valid_right))

    def _apply(self, left: Floats, right: Floats) -> Floats:
        if self.operation == "add":
            return left + right
        if self.operation == "subtract":
            return left - right
        if self.operation == "multiply":
            return left * right
        zero = right == 0
        return np.where(zero, self.otherwise, left / np.where(zero, 1.0, right))
