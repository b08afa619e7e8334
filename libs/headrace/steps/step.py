"""What a step is, built in or written by a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from headrace.columns import DType
from headrace.steps.frame import Frame
from headrace.steps.options import Options


class Step(Protocol):
    """One vectorised operation on columns.

    It keeps no state between runs and treats each row by itself, so that a row's result does not depend on
    the rows beside it.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns it reads."""
        ...

    @property
    def writes(self) -> Mapping[str, DType | None]:
        """Columns it writes, with their types; None: the type of what it read."""
        ...

    def run(self, frame: Frame) -> None:
        """Reads and writes `frame`. An exception other than Fault fails the row that causes it."""
        ...


ReadStep: TypeAlias = Callable[[Options], Step]
"""Makes a step of its options; raises SpecError for those that are wrong."""
