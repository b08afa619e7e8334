"""The rules of a release, compiled: the first whose conditions all hold decides.

Each condition has two forms that say the same: `holds` of one Python value, and `mask` of a whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, DType
from headrace.columns.column import Mask
from headrace.pipeline import ColumnType, InputField
from headrace.pipeline.types import scalar
from headrace.releases import Between, OneOf, Rule
from headrace.releases.document import Condition
from headrace.releases.inputs import TENANT, signal_type
from services.router.routes.assignment import values_of

# NumPy compares with each of so few values faster than `isin` sorts.
_FEW_VALUES = 8


class Predicate(Protocol):
    """A condition on one signal."""

    def holds(self, value: Any) -> bool:
        """Of one value; a null meets no condition."""
        ...

    def mask(self, batch: Batch, signal: str) -> Mask | None:
        """bool (rows,): where it holds. None: nowhere, as the batch has no such column."""
        ...


class IsText:
    """One of some texts, in a column of bytes (as UTF-8) or of the rows' tenants."""

    def __init__(self, values: Sequence[object], *, encoded: bool) -> None:
        texts = [str(v) for v in values]
        self._wanted: frozenset[object] = (
            frozenset(t.encode() for t in texts) if encoded else frozenset(texts)
        )

    def holds(self, value: Any) -> bool:
        return value in self._wanted

    def mask(self, batch: Batch, signal: str) -> Mask | None:
        values, wanted = values_of(batch, signal), self._wanted
        return None if values is None else np.fromiter([v in wanted for v in values], bool, len(values))


class IsNumber:
    """One of some numbers, as the column's type holds them."""

    def __init__(self, values: Sequence[Any], dtype: DType) -> None:
        self._array = np.array([_as(scalar(dtype, False, v), dtype) for v in values], dtype.numpy)
        self._wanted = frozenset(self._array.tolist())

    def holds(self, value: Any) -> bool:
        return value in self._wanted

    def mask(self, batch: Batch, signal: str) -> Mask | None:
        found = _numbers(batch, signal)
        if found is None:
            return None
        array, valid = found
        if len(self._array) > _FEW_VALUES:
            hit: Mask = np.isin(array, self._array)
        else:
            hit = array == self._array[0]
            for value in self._array[1:]:
                hit |= array == value
        return hit if valid is None else hit & valid


class IsBetween:
    """A number from `low` to `high`, both included, as the column's type holds them."""

    def __init__(self, condition: Between, dtype: DType) -> None:
        self._low, self._high = _bounds(condition, dtype)

    def holds(self, value: Any) -> bool:
        # A batch may lack the declared column and have another of its name; the stages refuse it, not a TypeError here.
        return isinstance(value, int | float) and self._low <= value <= self._high

    def mask(self, batch: Batch, signal: str) -> Mask | None:
        found = _numbers(batch, signal)
        if found is None:
            return None
        array, valid = found
        hit: Mask = (array >= self._low) & (array <= self._high)
        return hit if valid is None else hit & valid


def _as(value: Any, dtype: DType) -> Any:
    """A number as an element of the type, as a Python value."""
    with np.errstate(over="ignore"):
        return dtype.numpy.type(value).item()


def _bounds(condition: Between, dtype: DType) -> tuple[Any, Any]:
    low = -math.inf if condition.min is None else condition.min
    high = math.inf if condition.max is None else condition.max
    if dtype.is_float:
        return _as(low, dtype), _as(high, dtype)
    # Whole numbers are compared as such: a float can't hold each of 64 bits.
    least, most = dtype.bounds
    whole_low = least if low <= least else math.ceil(low) if low <= most else None
    whole_high = most if high >= most else math.floor(high) if high >= least else None
    if whole_low is None or whole_high is None:
        return most, least  # holds nowhere
    return whole_low, whole_high


def _numbers(batch: Batch, signal: str) -> tuple[NDArray[Any], Mask | None] | None:
    if signal in batch.columns:
        column = batch.columns[signal]
        return (
            (column.array, column.valid) if column.dtype is not DType.BYTES and not column.row_shape else None
        )
    values = values_of(batch, signal)
    return None if values is None else (np.array(values, np.int64), None)


def _predicate(signal: str, condition: Condition, kind: ColumnType) -> Predicate:
    if isinstance(condition, OneOf):
        if kind.dtype is DType.BYTES:
            return IsText(condition.any, encoded=signal != TENANT)
        return IsNumber(condition.any, kind.dtype)
    return IsBetween(condition, kind.dtype)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """Conditions, each on a signal."""

    predicates: tuple[tuple[str, Predicate], ...]


class Rules:
    """Rules in their order. `none`: what stands for a row that no rule takes."""

    def __init__(self, rules: Sequence[Rule], inputs: Mapping[str, InputField]) -> None:
        self.none = len(rules)
        self._rules = [
            CompiledRule(tuple((s, _predicate(s, c, _type(s, inputs))) for s, c in rule.when.items()))
            for rule in rules
        ]
        self._signals = tuple(dict.fromkeys(s for rule in self._rules for s, _ in rule.predicates))

    def of_few(self, batch: Batch) -> list[int]:
        """The number of the first rule that takes each row; `none` for a row that none takes. Quick for a few rows."""
        values = {signal: values_of(batch, signal) for signal in self._signals}
        return [self._of_row(values, row) for row in range(len(batch))]

    def _of_row(self, values: Mapping[str, list[Any] | None], row: int) -> int:
        for number, rule in enumerate(self._rules):
            for signal, predicate in rule.predicates:
                column = values[signal]
                if column is None or not predicate.holds(column[row]):
                    break
            else:
                return number
        return self.none

    def of_many(self, batch: Batch) -> NDArray[np.intp]:
        """The same, by a few NumPy calls for all rows."""
        numbers = np.full(len(batch), self.none, np.intp)
        for number in range(self.none - 1, -1, -1):  # backwards, so that the first rule has the last word
            mask = self._mask(self._rules[number], batch)
            if mask is not None:
                numbers[mask] = number
        return numbers

    @staticmethod
    def _mask(rule: CompiledRule, batch: Batch) -> Mask | None:
        taken: Mask | None = None
        for signal, predicate in rule.predicates:
            mask = predicate.mask(batch, signal)
            if mask is None:
                return None
            taken = mask if taken is None else taken & mask
        return taken


def _type(signal: str, inputs: Mapping[str, InputField]) -> ColumnType:
    kind = signal_type(signal, inputs)
    assert kind is not None, "the release was checked against the inputs"
    return kind
