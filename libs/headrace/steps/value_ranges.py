"""What values can be in each column of a program, worked out without running it: where would a number change unseen?

Whole numbers (identifiers, counts, codes) must come out as they went in: a float32 holds them exactly up to 2^24, a float64
up to 2^53, and beyond that one becomes another without a word. Real numbers are rounded to the type that the author wrote
down, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from headrace.columns import DType
from headrace.steps.program.program import Program

# Whole numbers up to here, and down to its negative, are exact.
_EXACT = {DType.FLOAT16: 1 << 11, DType.FLOAT32: 1 << 24, DType.FLOAT64: 1 << 53}


@dataclass(frozen=True, slots=True)
class Values:
    """What a column can hold. `dtype` None: unknown. `whole`: whole numbers, which must stay what they are, from `low` to
    `high`. `unsaid`: it was made float32 though nobody wrote so."""

    dtype: DType | None = None
    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    unsaid: bool = False

    @classmethod
    def of(cls, dtype: DType | None) -> Values:
        """Any value of a type."""
        if dtype is None or dtype.is_float or dtype is DType.BYTES:
            return cls(dtype)
        low, high = dtype.bounds
        return cls(dtype, True, low, high)

    @classmethod
    def within(cls, dtype: DType, low: float, high: float) -> Values:
        """Whole numbers of a type in a range."""
        return cls(dtype, True, low, high)

    def exact_in(self, dtype: DType) -> bool:
        """Whether each of them is one of `dtype`, too; integer types refuse at run time what does not fit."""
        if not self.whole or not dtype.is_float:
            return True
        return -_EXACT[dtype] <= self.low and self.high <= _EXACT[dtype]

    def __str__(self) -> str:
        name = "of an unknown type" if self.dtype is None else self.dtype.name.lower()
        return f"{name} ({span(self.low, self.high)})" if self.whole else name


@dataclass(frozen=True, slots=True)
class Loss:
    """A place where numbers would change, by its path in the specification, and what to write instead."""

    path: str
    message: str


@dataclass(slots=True)
class Known:
    """What is known of the columns while a program is gone through, and what would be lost."""

    values: dict[str, Values]
    path: str = ""
    losses: list[Loss] = field(default_factory=list)
    # Outputs that are declared as another kind of type than the steps make.
    misfits: list[Loss] = field(default_factory=list)

    def get(self, name: str) -> Values:
        return self.values.get(name, Values())

    def put(self, name: str, values: Values) -> None:
        self.values[name] = values

    def lose(self, key: str, message: str) -> None:
        self.losses.append(Loss(f"{self.path}{key}", message))

    def into(self, name: str, dtype: DType, key: str, remedy: str) -> None:
        """Notes that column `name` becomes `dtype` here."""
        values = self.get(name)
        if not values.exact_in(dtype):
            end = _EXACT[dtype]
            self.lose(
                key,
                f"{name!r} is {values}, and {dtype.name.lower()} has only the whole numbers from {-end} to {end} exactly: "
                f"{remedy}",
            )


@runtime_checkable
class Flowing(Protocol):
    """What a step may offer besides: what it makes of the values that it reads."""

    def flow(self, known: Known) -> None:
        """Puts the values of what it writes; notes what would be lost."""
        ...


def flow(program: Program, given: Mapping[str, Values]) -> Known:
    """What the program makes of columns that hold `given`; its outputs as they are declared."""
    known = Known(dict(given))
    for path, step in program.steps:
        known.path = path
        if isinstance(step, Flowing):
            step.flow(known)
            continue
        for name, dtype in step.writes.items():
            source = step.reads[0] if dtype is None and len(step.reads) == 1 else None
            known.put(name, known.get(source) if source else Values.of(dtype))
    for output in program.outputs:
        made = known.get(output.name)
        known.path = f"outputs.{output.name}"
        if made.dtype is not None and not output.accepts(made.dtype):
            wanted = output.dtype.name.lower()
            message = f"the steps make it {made.dtype.name.lower()}, not {wanted}; add a `cast` step"
            known.misfits.append(Loss(known.path, message))
        elif made.dtype not in (None, output.dtype):
            remedy = "declare the output as it is made, or write a `cast` step with `lossy: true`"
            known.into(output.name, output.dtype, "", remedy)
        if made.unsaid and output.dtype is DType.FLOAT64:
            known.lose(
                "", f"{output.name!r} was made float32 on the way: write `type: float64` in its `assemble`"
            )
        known.put(output.name, replace(made, dtype=output.dtype, unsaid=False))
    return known


def common(dtypes: list[DType | None]) -> DType | None:
    """The integer type that holds all values of these integer types; None if there is none, or one is no integer."""
    if not dtypes or any(d is None or d.numpy.kind not in "iu" for d in dtypes):
        return None
    found = np.result_type(*[d.numpy for d in dtypes if d is not None])
    return DType[found.name.upper()] if found.kind in "iu" else None


def span(low: float | None, high: float | None) -> str:
    """A range for people: `1 to 12`, `at least 0`, without exponents for whole numbers."""
    open_low, open_high = low in (None, -math.inf), high in (None, math.inf)
    if open_low and open_high:
        return "any number"
    if open_low or open_high:
        return f"at most {_number(high)}" if open_low else f"at least {_number(low)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e21
    return f"{value:.0f}" if whole else str(value)
