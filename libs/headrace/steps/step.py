"""What a step is, built in or written by a user, and three bases for steps of the usual forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from headrace.columns import DType
from headrace.steps.frame import Frame
from headrace.steps.options import Options, Targets
from headrace.steps.value_ranges import Known


class Step(Protocol):
    """One vectorised operation on columns.

    It keeps no state between runs and treats each row by itself, so that a row's result does not depend on
    the other rows of its batch. A step may offer more: see `Weighted`, `Typed` and `Ranged`.
    """

    @property
    def reads(self) -> tuple[str, ...]: ...

    @property
    def writes(self) -> Mapping[str, DType | None]:
        """Names and types of the columns that it writes; None: the type of the column that it read."""
        ...

    def run(self, frame: Frame) -> None:
        """Reads and writes the columns of `frame`. An exception other than Fault fails the row that causes it."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """A step that is more work per row than an ordinary one."""

    @property
    def weight(self) -> int:
        """The work for one row, in ordinary steps. Heavy programs run in a thread, not on the event loop."""
        ...


@runtime_checkable
class Typed(Protocol):
    """A step whose output types depend on the types of several columns that it reads."""

    def typed(self, known: Mapping[str, DType | None]) -> Mapping[str, DType | None]:
        """As `Step.writes`, given the types of the columns that are known; None: unknown."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A step that says which values it makes, so that `headrace pipeline check` finds numbers that would change."""

    def flow(self, known: Known) -> None:
        """Puts the values of what it writes; notes what would be lost."""
        ...


ReadStep: TypeAlias = Callable[[Options], Step]
"""Makes a step of its options; raises SpecError for those that are wrong."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Base of a step that says when it is made which columns it reads and writes; see `Step`."""

    reads: tuple[str, ...]
    writes: Mapping[str, DType | None]


@dataclass(frozen=True, slots=True)
class OneColumn:
    """Base of a step that reads `column` and writes `into`. `made`: the type that it writes; None: the one that it read."""

    column: str
    into: str
    made: ClassVar[DType | None] = None

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: self.made}


@dataclass(frozen=True, slots=True)
class EachColumn:
    """Base of a step that changes columns one by one. `targets`: (read, written) names; `made`: the type that it writes."""

    targets: Targets
    made: ClassVar[DType | None] = DType.FLOAT64

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(read for read, _ in self.targets)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {written: self.made for _, written in self.targets}
