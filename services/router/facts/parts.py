"""The parts of a report: what waits in a lane, as a message. Nothing large is made of it on the event loop at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

from headrace.api.monitoring.v1 import facts_pb2 as pb
from headrace.events import EventGroup
from headrace.events import messages as event_messages
from headrace.ticks import Exposure
from headrace.ticks import messages as tick_messages
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.ring import AnsweredBatch, Ring
from services.router.explanations.reports import Report, Reports, written
from services.router.facts.queue import Lane

# Events are made in slices, with pauses in which live batches go on. (In a thread, that work had each of their steps wait for the
# interpreter's lock: 5 to 9 ms instead of 1, for 40 ms twice a second.)
_SLICE_S, _PAUSE_S = 0.0005, 0.004


class Made(NamedTuple):
    """A report with one part, and how many facts it holds."""

    request: pb.ReportRequest
    rows: int


class Part(Protocol):
    """Facts of one kind."""

    # Its field in the report and in the reply.
    name: str

    async def make(self) -> Made | None:
        """Takes what waits; None: nothing. What a cancellation interrupts is made again."""
        ...

    def told(self, stored: int, dropped: int) -> None:
        """The receiver has taken so many facts, and dropped the others."""
        ...

    def lost(self, reason: str, rows: int) -> None:
        """So many were dropped here: `refused` or `error`."""
        ...


class EventPart:
    """`replica`: name of this process."""

    name = "events"

    def __init__(self, ring: Ring, builder: GroupBuilder, replica: str, metrics: EventMetrics) -> None:
        self._ring = ring
        self._builder = builder
        self._replica = replica
        self._metrics = metrics
        # Left the ring, and are no message yet.
        self._taken: Sequence[AnsweredBatch] = ()

    async def make(self) -> Made | None:
        taken = self._taken = self._taken or self._ring.take()
        rows, notes = sum(map(len, taken)), self._ring.notes
        self._metrics.waiting.set(self._ring.rows + rows)
        if not taken:
            return None
        try:
            groups = await self._groups(taken)
            noted = notes.noted
            message = await asyncio.to_thread(
                lambda: event_messages.write(self._replica, notes.epoch, noted, groups)
            )
        except Exception:
            self._taken = ()
            self.lost("error", rows)
            raise
        self._taken = ()
        return Made(pb.ReportRequest(events=message), rows)

    def told(self, stored: int, dropped: int) -> None:
        self._metrics.sent.inc(stored)
        self._metrics.waiting.set(self._ring.rows)
        if dropped:
            self.lost("refused", dropped)

    def lost(self, reason: str, rows: int) -> None:
        self._metrics.dropped(reason, rows)

    async def _groups(self, taken: Sequence[AnsweredBatch]) -> list[EventGroup]:
        """Joined and masked in slices, between which live batches go on."""
        groups, begun = [], time.perf_counter()
        for group in self._builder.steps(taken):
            if group is not None:
                groups.append(group)
            elif time.perf_counter() - begun > _SLICE_S:
                await asyncio.sleep(_PAUSE_S)
                begun = time.perf_counter()
        return groups


class ExposurePart:
    """Which rows got which arm."""

    name = "exposures"

    def __init__(self, lane: Lane[Sequence[Exposure]]) -> None:
        self._lane = lane
        self._taken: Sequence[Exposure] = ()

    async def make(self) -> Made | None:
        taken = self._taken = self._taken or [*chain.from_iterable(self._lane.take())]
        if not taken:
            return None
        messages = await asyncio.to_thread(tick_messages.write_exposures, taken)
        self._taken = ()
        return Made(pb.ReportRequest(exposures=messages), len(taken))

    def told(self, stored: int, dropped: int) -> None:  # noqa: ARG002 - only what is lost is counted
        if dropped:
            self._lane.lost(dropped)

    def lost(self, reason: str, rows: int) -> None:  # noqa: ARG002 - they are lost, whatever the reason
        self._lane.lost(rows)


class ExplanationPart:
    """Explanations and what they took. `unsent`: told how many are lost."""

    name = "explanations"

    def __init__(self, reports: Reports, unsent: Callable[[int], None]) -> None:
        self._reports = reports
        self._unsent = unsent
        self._taken: Report | None = None

    async def make(self) -> Made | None:
        report = self._taken = self._taken or self._reports.take()
        if report is None:
            return None
        message = await asyncio.to_thread(written, report)
        self._taken = None
        return Made(pb.ReportRequest(explanations=message), len(report.explained))

    def told(self, stored: int, dropped: int) -> None:  # noqa: ARG002 - only what is lost is counted
        self._unsent(dropped)

    def lost(self, reason: str, rows: int) -> None:  # noqa: ARG002 - they are lost, whatever the reason
        self._unsent(rows)
