"""Tells the monitoring service of explanations: what can't be told now waits, bounded, and is told later."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from headrace.hop.errors import Fault
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.pieces import Explained, Took

_MOST_WAITING = 2000
_MESSAGE = 100
# Tenants and pipelines of one message; what others took is nobody's.
_MOST_PAYERS = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """Explanations of predictions, whose ids are their rows' seeds; `counts`: what is counted since the last report."""

    explained: Sequence[Explained]
    counts: Counts | None = None


@dataclass(slots=True)
class Counts:
    """How many predictions of each pipeline had to be explained, and what explaining took, by tenant and pipeline, with how
    many explanations it was for. `identity`: they are counted once, however often they are told."""

    identity: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    demanded: Counter[str] = field(default_factory=Counter)
    took: dict[tuple[str, str], tuple[int, Took]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.demanded or self.took)

    def add(self, tenant: str, pipeline: str, took: Took) -> None:
        who = (tenant, pipeline)
        if who not in self.took and len(self.took) >= _MOST_PAYERS:
            who = ("", pipeline)
        count, sum_ = self.took.get(who, (0, Took()))
        sum_.rows += took.rows
        for name, us in took.busy_us.items():
            sum_.busy_us[name] = sum_.busy_us.get(name, 0.0) + us
        self.took[who] = count + 1, sum_


class Receiver(Protocol):
    """Takes explanations."""

    async def record(self, report: Report) -> None:
        """Raises Fault."""
        ...


class Reports:
    """`receiver` None: there is nobody to tell, so nothing needs to be explained."""

    def __init__(self, receiver: Receiver | None, metrics: ExplanationMetrics, log: Any) -> None:
        self._receiver = receiver
        self._metrics = metrics
        self._log = log
        self._explained: deque[Explained] = deque()
        self._counts = Counts()
        # Under way: if it is not known whether they arrived, they are sent again unchanged, under the same id.
        self._leaving: Counts | None = None
        self._failing = False

    @property
    def wanted(self) -> bool:
        """Whether somebody takes them."""
        return self._receiver is not None

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._explained or self._counts or self._leaving)

    def worked(self, tenant: str, pipeline: str, took: Took) -> None:
        """Explaining a row of this tenant took so much, whatever came out."""
        if self.wanted and took.rows:
            self._counts.add(tenant, pipeline, took)

    def demanded(self, pipeline: str, rows: int) -> None:
        """So many predictions were answered that must be explained."""
        self._counts.demanded[pipeline] += rows

    def add(self, explained: Explained) -> None:
        """One of them was explained."""
        if len(self._explained) >= _MOST_WAITING:
            self._explained.popleft()
            self._metrics.unsent.inc()
        self._explained.append(explained)

    async def send(self) -> bool:
        """Tells what waits; whether it arrived."""
        while self.waiting and self._receiver is not None:
            count = min(len(self._explained), _MESSAGE)
            if self._leaving is None and self._counts:
                self._leaving, self._counts = self._counts, Counts()
            report = Report([self._explained[i] for i in range(count)], self._leaving)
            try:
                await self._receiver.record(report)
            except Fault as fault:
                if not self._failing:
                    self._failing = True
                    self._log.warning("explanations can't be sent; they wait", error=fault.message)
                return False
            for _ in range(count):
                self._explained.popleft()
            self._leaving = None
            if self._failing:
                self._failing = False
                self._log.info("explanations are sent again")
        return True
