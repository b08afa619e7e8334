"""What values a column can hold, worked out without running a program: where would a number change unnoticed?

Whole numbers (identifiers, counts, codes) must come out as they went in: a float32 holds them exactly up to 2^24, a float64
up to 2^53. Beyond that, one number silently becomes another. Real numbers are rounded to the type that the author chose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from headrace.columns import DType

# Whole numbers are exact from the negative of this to this.
_EXACT = {DType.FLOAT16: 1 << 11, DType.FLOAT32: 1 << 24, DType.FLOAT64: 1 << 53}


@dataclass(frozen=True, slots=True)
class Values:
    """What a column can hold.

    `dtype`: None if unknown. `whole`: whole numbers from `low` to `high`, which must not change. `chosen_by`: the name of a
    step that made it float32 although no author wrote that type; empty if the author did.
    """

    dtype: DType | None = None
    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    chosen_by: str = ""

    @classmethod
    def of(cls, dtype: DType | None) -> Values:
        if dtype is None or dtype.is_float or dtype is DType.BYTES:
            return cls(dtype)
        low, high = dtype.bounds
        return cls(dtype, True, low, high)

    def exact_in(self, dtype: DType) -> bool:
        """Whether `dtype` has each of these values, too. Integer types count as exact: at run time they refuse what does
        not fit."""
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
    """What is known of each column while the steps of a program are followed in order, and what would be lost.

    `path`: where the step stands in the specification, as `steps[2].assemble`.
    """

    values: dict[str, Values]
    path: str = ""
    losses: list[Loss] = field(default_factory=list)
    # Outputs that are declared as another kind of type than the steps make.
    misfits: list[Loss] = field(default_factory=list)

    @property
    def step(self) -> str:
        return self.path.rpartition(".")[2]

    def get(self, name: str) -> Values:
        return self.values.get(name, Values())

    def put(self, name: str, values: Values) -> None:
        self.values[name] = values

    def lose(self, key: str, message: str) -> None:
        self.losses.append(Loss(f"{self.path}{key}", message))

    def into(self, name: str, dtype: DType, key: str, remedy: str) -> None:
        """Notes that column `name` becomes `dtype` here: a loss, if `dtype` does not have all its values."""
        values = self.get(name)
        if not values.exact_in(dtype):
            end = _EXACT[dtype]
            self.lose(
                key,
                f"{name!r} is {values}, and {dtype.name.lower()} has only the whole numbers from {-end} to {end} exactly: "
                f"{remedy}",
            )


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
