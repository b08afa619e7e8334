"""Reports to the monitoring service for as long as the router lives: what waits in the queue, and a tick each second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from headrace.hop.errors import Code, Fault, Reason
from headrace.ticks import Tick
from services.router.events.settings import EventsSettings
from services.router.facts.parts import Part
from services.router.facts.queue import Queue
from services.router.metrics import Metrics
from services.router.ticks.counters import Counters

# How long a report may take; and the pause before what failed is sent again.
_CALL_S = 2.0
_AGAIN_S = 0.5
_LAST_S = 0.5
# The receiver can't read it: it would refuse it for ever.
_FINAL = frozenset({Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.PERMISSION_DENIED})


def is_final(fault: Fault) -> bool:
    """Whether sending the same message again is of no use."""
    return fault.code in _FINAL or fault.reason == Reason.REASON_TOO_LARGE


class TickReceipt(NamedTuple):
    """What a replica of monitoring says of a tick. `behind`: it lacks earlier ones; `routers`: how many live ones it hears, 0: it
    does not say."""

    behind: bool = False
    routers: int = 0


class PartReceipt(NamedTuple):
    """What became of a part. `dropped`: facts that are lost; `again`: nothing was taken, it is to be sent again."""

    dropped: int = 0
    again: bool = False
    problem: str = ""


class Answer(NamedTuple):
    """`ticks`: what each replica says of the tick, or why it has not got it; `parts`: what one says of each part."""

    ticks: Sequence[TickReceipt | Fault]
    parts: Mapping[str, PartReceipt] | Fault


class Receiver(Protocol):
    """Takes reports."""

    async def report(
        self, epoch: int, tick: Tick | None, parts: Mapping[str, object], deadline: float
    ) -> Answer:
        """A tick goes to every replica, all else to one. `parts`: contents of `Made`; `deadline`: monotonic seconds. Raises Fault
        if there is no replica."""
        ...


class Sender:
    """A part that fails is sent again until it arrives, as the receiver takes each fact once; what comes meanwhile waits in the
    queue, which is bounded. The other parts go on. Counts are cumulative: the next tick has what this one had. `heard`: told how
    many routers there are; while nobody says it, what was said last holds. `clock`: monotonic seconds."""

    def __init__(
        self,
        queue: Queue,
        parts: Sequence[Part[Any]],
        counters: Counters,
        receiver: Receiver,
        metrics: Metrics,
        settings: EventsSettings,
        tick_s: float,
        heard: Callable[[int], None],
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._queue = queue
        self._parts = parts
        self._counters = counters
        self._receiver = receiver
        self._metrics = metrics
        self._wait_s = settings.wait_s
        self._tick_s = tick_s
        self._heard = heard
        self._clock = clock
        self._log = log
        self._due = clock() + tick_s
        # The parts together were refused for ever: which of them it was shows when they go one by one.
        self._apart = False
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self._wait()
                await self.send()
            except Exception as error:  # noqa: BLE001 - the loop must go on with what comes next
                self._metrics.reports.labels("INTERNAL").inc()
                self._fails("reports", f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Reports what waits and was counted, if it can be done quickly. `run` must have ended."""
        try:
            async with asyncio.timeout(_LAST_S):
                self._due = self._clock()
                await self.send()
                while self._queue.came.is_set() and not self._unsent:
                    await self.send()
        except Exception as error:  # noqa: BLE001 - the router must stop, whatever happens
            self._fails("reports", f"{type(error).__name__}: {error}")

    async def send(self) -> None:
        """One report: of each kind what failed before, else what has come; and a tick if it is due."""
        for part in self._parts:
            try:
                await part.make()
            except Exception as error:  # noqa: BLE001 - the other parts go on
                self._dropped(part, f"{type(error).__name__}: {error}")
        tick = None
        if self._clock() >= self._due:
            self._due = self._clock() + self._tick_s
            tick = self._counters.tick()
        sent = self._unsent[: 1 if self._apart else None]
        if tick is None and not sent:
            return
        contents = {part.name: part.unsent.content for part in sent if part.unsent is not None}
        epoch, deadline = self._counters.epoch, self._clock() + _CALL_S
        try:
            answer = await self._receiver.report(epoch, tick, contents, deadline)
        except Fault as fault:
            answer = Answer([fault], fault)
        if tick is not None:
            self._settle_tick(tick, answer.ticks)
        self._settle(sent, answer.parts)

    @property
    def _unsent(self) -> list[Part[Any]]:
        return [part for part in self._parts if part.unsent is not None]

    def _settle_tick(self, tick: Tick, answers: Sequence[TickReceipt | Fault]) -> None:
        good = [answer for answer in answers if not isinstance(answer, Fault)]
        if not good:
            self._fails("ticks", next(a.message for a in answers if isinstance(a, Fault)))
            return
        # A replica that has not got it will find that it lacks a tick, and say so.
        self._counters.received(tick)
        if any(receipt.behind for receipt in good):
            self._counters.start_over()
        if routers := max(receipt.routers for receipt in good):
            self._heard(routers)
        self._works("ticks")

    def _settle(self, sent: Sequence[Part[Any]], reply: Mapping[str, PartReceipt] | Fault) -> None:
        self._metrics.reports.labels(reply.code.name if isinstance(reply, Fault) else "OK").inc()
        if not isinstance(reply, Fault):
            self._works("reports")
            for part in sent:
                self._settle_part(part, reply[part.name])
        elif is_final(reply) and len(sent) > 1:
            self._apart = True
        else:
            receipt = PartReceipt(sum(part.rows for part in sent), not is_final(reply), reply.message)
            for part in sent:
                self._settle_part(part, receipt)
        self._apart = self._apart and bool(self._unsent)

    def _settle_part(self, part: Part[Any], receipt: PartReceipt) -> None:
        if receipt.again:
            self._fails(part.name, receipt.problem)
            return
        part.stored(part.rows - receipt.dropped)
        part.unsent = None
        if receipt.dropped:
            part.lost("refused", receipt.dropped)
            self._dropped(part, receipt.problem)
        self._works(part.name)

    async def _wait(self) -> None:
        """Returns when a tick is due, enough facts for a message wait, or some have waited long enough."""
        if self._unsent:
            await asyncio.sleep(0 if self._apart else _AGAIN_S)
            return
        try:
            async with asyncio.timeout(max(self._due - self._clock(), 0)):
                await self._queue.came.wait()
                async with asyncio.timeout(self._wait_s):
                    await self._queue.full.wait()
        except TimeoutError:
            return

    def _dropped(self, part: Part[Any], why: str) -> None:
        self._log.error("facts were dropped", part=part.name, error=why)

    def _fails(self, what: str, why: str) -> None:
        if what not in self._failing:
            self._failing.add(what)
            self._log.warning(
                "facts can't be reported; they wait, and beyond a bound they are dropped",
                part=what,
                error=why,
            )

    def _works(self, what: str) -> None:
        if what in self._failing:
            self._failing.discard(what)
            self._log.info("facts are reported again", part=what)
