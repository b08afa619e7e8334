"""Reports a tick each second, for as long as the router lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from headrace.hop.errors import Fault
from headrace.ticks import Tick
from services.router.metrics import Metrics
from services.router.ticks.counters import Counters

EVERY_S = 1.0
_LAST_S = 0.5


class Receipt(NamedTuple):
    """What a replica of monitoring answers. `behind`: it lacks earlier ticks; `routers`: how many live ones it hears, 0: it
    does not say."""

    behind: bool = False
    routers: int = 0


class Monitoring(Protocol):
    """Takes ticks."""

    async def report(self, tick: Tick, deadline: float) -> Sequence[Receipt | Fault]:
        """Tells every replica; what each answers, or why it has not got this one.

        `deadline`: monotonic seconds. Raises Fault if there is no replica.
        """
        ...


class Reporter:
    """Reports what was counted. What fails is told again, as counts are cumulative. `clock`: monotonic seconds. `heard`: told how
    many routers there are; while nobody says it, what was said last holds."""

    def __init__(
        self,
        counters: Counters,
        monitoring: Monitoring,
        metrics: Metrics,
        log: Any,
        clock: Callable[[], float],
        every_s: float = EVERY_S,
        heard: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._counters = counters
        self._monitoring = monitoring
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._every_s = every_s
        self._heard = heard
        self._failing = False
        self._lost = 0

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.report()
            except Exception as error:  # noqa: BLE001 - the loop must go on: the next tick has all that this one had
                self._metrics.reports.labels("INTERNAL").inc()
                self._fails(f"{type(error).__name__}: {error}")

    async def report(self) -> None:
        """Reports once."""
        tick = self._counters.tick()
        if tick.lost_exposures > self._lost:
            self._metrics.lost_exposures.inc(tick.lost_exposures - self._lost)
            self._lost = tick.lost_exposures
        answers = await self._answers(tick)
        good = [answer for answer in answers if not isinstance(answer, Fault)]
        if not good:
            refused = next(answer for answer in answers if isinstance(answer, Fault))
            self._metrics.reports.labels(refused.code.name).inc()
            self._fails(refused.message)
            return
        # A replica that has not got it will find that it lacks a tick, and say so.
        self._counters.received(tick)
        if any(receipt.behind for receipt in good):
            self._counters.start_over()
        if routers := max(receipt.routers for receipt in good):
            self._heard(routers)
        self._metrics.reports.labels("OK").inc()
        if self._failing:
            self._failing = False
            self._log.info("ticks are reported again")

    async def close(self) -> None:
        """Reports what was counted since the last tick, if it can be done quickly."""
        try:
            async with asyncio.timeout(_LAST_S):
                await self.report()
        except Exception as error:  # noqa: BLE001 - the router must stop, whatever happens
            self._fails(f"{type(error).__name__}: {error}")

    async def _answers(self, tick: Tick) -> Sequence[Receipt | Fault]:
        try:
            return await self._monitoring.report(tick, self._clock() + max(self._every_s, EVERY_S))
        except Fault as fault:
            return [fault]

    def _fails(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.warning("ticks can't be reported; they are counted on", error=why)
