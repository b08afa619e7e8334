"""The rows that differ most, a bounded list."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.columns import Batch

KEPT = 20
# Scores: the second alone failed the row; another label; a number that differs by d has d / (1 + d), which is below 1.
FAILED, OTHER_LABEL = 3.0, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class DifferentRow:
    """A row that two versions answered differently. `row`: position among the rows of its request in one batch; `values`: output,
    what the caller got, what the second answered; `inputs`: one row, without personal data; `left_out`: columns that it lacks."""

    request_id: str
    row: int
    score: float
    values: Sequence[tuple[str, str, str]] = ()
    error: str = ""
    inputs: Batch | None = None
    left_out: Sequence[str] = ()

    def differences(self) -> Sequence[tuple[str, str, str]]:
        """The values; of a row that the second failed, its error in their place."""
        return self.values or [("(error)", "answered", self.error)]


class WorstRows:
    """Keeps the rows with the highest scores; of equal ones those that came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, DifferentRow]] = []
        self._serial = itertools.count()

    @property
    def least(self) -> float:
        """A row must have a higher score than this to be kept."""
        return self._heap[0][0] if len(self._heap) >= KEPT else 0.0

    def add(self, row: DifferentRow) -> None:
        if row.score <= self.least:
            return
        heapq.heappush(self._heap, (row.score, -next(self._serial), row))
        if len(self._heap) > KEPT:
            heapq.heappop(self._heap)

    def sorted(self) -> list[DifferentRow]:
        """Worst first."""
        return [row for *_, row in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
