"""What the monitoring service is told of explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from services.router.explanations.pieces import Explained, Took
from services.router.facts.queue import Lane

# What an explanation takes in memory, about.
_BYTES, _COLUMN_BYTES = 1000, 16
# Tenants and pipelines of one message; what others took is nobody's.
_MOST_PAYERS = 1000

# What explaining took, by tenant and pipeline, with how many explanations it was for.
Works: TypeAlias = Mapping[tuple[str, str], tuple[int, Took]]


@dataclass(frozen=True, slots=True)
class Report:
    """Explanations of predictions, whose ids are their rows' seeds. `works`: since the last report; counted once, however often
    the report of this number is told."""

    number: int
    explained: Sequence[Explained]
    works: Works

    def __len__(self) -> int:
        return len(self.explained)


class Reports:
    """`lane` None: there is nobody to tell."""

    def __init__(self, lane: Lane[Explained] | None) -> None:
        self._lane = lane
        self._works: dict[tuple[str, str], tuple[int, Took]] = {}
        self._number = 0

    def worked(self, tenant: str, pipeline: str, took: Took, count: int) -> None:
        """Explaining so many rows of this tenant took so much, whatever came out."""
        if self._lane is None or not took.rows:
            return
        who = (tenant, pipeline)
        if who not in self._works and len(self._works) >= _MOST_PAYERS:
            who = ("", pipeline)
        before, sum_ = self._works.get(who, (0, Took()))
        sum_.add(took.rows, took.busy_us)
        self._works[who] = before + count, sum_
        self._lane.queue.came.set()

    def add(self, explained: Explained) -> None:
        """A stored prediction was explained."""
        if self._lane is not None:
            self._lane.append(explained, 1, _BYTES + _COLUMN_BYTES * len(explained.subject.players))

    def drain(self) -> Report | None:
        """What is to be told; None: nothing."""
        assert self._lane is not None, "there is somebody to tell"
        explained, works = self._lane.drain(), self._works
        if not (explained or works):
            return None
        self._number += 1
        self._works = {}
        return Report(self._number, explained, works)
