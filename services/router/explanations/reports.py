"""Tells the monitoring service of explanations: what can't be told now waits, bounded, and is told later."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.hop.errors import Fault
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.pieces import Explained

_MOST_WAITING = 2000
_MESSAGE = 100


@dataclass(frozen=True, slots=True)
class Report:
    """Explanations of predictions, whose ids are their rows' seeds; and how many predictions of each pipeline had to be
    explained since the last report."""

    explained: Sequence[Explained]
    demanded: Mapping[str, int]


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
        self._failing = False

    @property
    def wanted(self) -> bool:
        """Whether somebody takes them."""
        return self._receiver is not None

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._explained or self._demanded)

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
            report = Report([self._explained[i] for i in range(count)], dict(self._demanded))
            try:
                await self._receiver.record(report)
            except Fault as fault:
                if not self._failing:
                    self._failing = True
                    self._log.warning("explanations can't be sent; they wait", error=fault.message)
                return False
            for _ in range(count):
                self._explained.popleft()
            self._demanded.subtract(report.demanded)
            self._demanded = +self._demanded
            if self._failing:
                self._failing = False
                self._log.info("explanations are sent again")
        return True
