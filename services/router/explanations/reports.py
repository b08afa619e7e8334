"""Tells the monitoring service of explanations: what can't be told now waits, bounded, and is told later."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Mapping, Sequence
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
    """Explanations of predictions, whose ids are their rows' seeds; and how many predictions of each pipeline had to be
    explained since the last report; `works`: what explaining took since then."""

    explained: Sequence[Explained]
    demanded: Mapping[str, int]
    works: Works | None = None


@dataclass(slots=True)
class Works:
    """What explaining took, by tenant and pipeline, and how many explanations it was for. `identity`: it is counted once."""

    identity: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    took: dict[tuple[str, str], tuple[int, Took]] = field(default_factory=dict)

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
        self._demanded: Counter[str] = Counter()
        self._works = Works()
        # Under way: if it is not known whether it arrived, it is sent again under its name.
        self._leaving: Works | None = None
        self._failing = False

    @property
    def wanted(self) -> bool:
        """Whether somebody takes them."""
        return self._receiver is not None

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._explained or self._demanded or self._works.took or self._leaving)

    def worked(self, tenant: str, pipeline: str, took: Took) -> None:
        """Explaining a row of this tenant took so much, whatever came out."""
        if self.wanted and took.rows:
            self._works.add(tenant, pipeline, took)

    def demanded(self, pipeline: str, rows: int) -> None:
        """So many predictions were answered that must be explained."""
        self._demanded[pipeline] += rows

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
            if self._leaving is None and self._works.took:
                self._leaving, self._works = self._works, Works()
            report = Report([self._explained[i] for i in range(count)], dict(self._demanded), self._leaving)
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
            self._demanded.subtract(report.demanded)
            self._demanded = +self._demanded
            if self._failing:
                self._failing = False
                self._log.info("explanations are sent again")
        return True
