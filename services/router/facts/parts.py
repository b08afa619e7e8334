"""The parts of a report: what waits in a lane, as a message. Nothing large is made of it on the event loop at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence, Sized
from typing import Generic, NamedTuple, Protocol, TypeVar

from headrace.events import EventGroup
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.ring import AnsweredBatch, Ring

# Events are made in slices, with pauses in which live batches go on. (In a thread, that work had each of their steps wait for the
# interpreter's lock: 5 to 9 ms instead of 1, for 40 ms twice a second.)
_SLICE_S, _PAUSE_S = 0.0005, 0.004

Drained = TypeVar("Drained", bound=Sized)


class Made(NamedTuple):
    """A part that can be sent, as whoever sends it wrote it, and how many facts it holds."""

    content: object
    rows: int


class Part(Protocol):
    """Facts of one kind."""

    # Its field in the report and in the reply.
    name: str

    async def make(self) -> Made | None:
        """Takes what waits; None: nothing. What a cancellation interrupts is made again."""
        ...

    def stored(self, rows: int) -> None:
        """The receiver has so many."""
        ...

    def lost(self, reason: str, rows: int) -> None:
        """So many were dropped: `refused` by the receiver, or `error`."""
        ...


class EventPart:
    """`write`: makes the content of an epoch, the number of its events so far, and groups of them."""

    name = "events"

    def __init__(
        self,
        ring: Ring,
        builder: GroupBuilder,
        write: Callable[[int, int, Sequence[EventGroup]], object],
        metrics: EventMetrics,
    ) -> None:
        self._ring = ring
        self._builder = builder
        self._write = write
        self._metrics = metrics
        # Left the ring, and are no message yet.
        self._taken: Sequence[AnsweredBatch] = ()

    async def make(self) -> Made | None:
        taken = self._taken = self._taken or self._ring.drain()
        rows, notes = sum(map(len, taken)), self._ring.notes
        self._metrics.waiting.set(self._ring.rows + rows)
        if not taken:
            return None
        try:
            groups = await self._groups(taken)
            content = await asyncio.to_thread(self._write, notes.epoch, notes.noted, groups)
        except Exception:
            self._taken = ()
            self.lost("error", rows)
            raise
        self._taken = ()
        return Made(content, rows)

    def stored(self, rows: int) -> None:
        self._metrics.sent.inc(rows)
        self._metrics.waiting.set(self._ring.rows)

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


class LanePart(Generic[Drained]):
    """What `drain` gives, None: nothing; `write` makes its content. `lost`: told how many facts are lost."""

    def __init__(
        self,
        name: str,
        drain: Callable[[], Drained | None],
        write: Callable[[Drained], object],
        lost: Callable[[int], None],
    ) -> None:
        self.name = name
        self._drain = drain
        self._write = write
        self._lost = lost
        self._drained: Drained | None = None

    async def make(self) -> Made | None:
        if self._drained is None:
            self._drained = self._drain()
        if self._drained is None:
            return None
        rows = len(self._drained)
        try:
            content = await asyncio.to_thread(self._write, self._drained)
        except Exception:
            self._drained = None
            self._lost(rows)
            raise
        self._drained = None
        return Made(content, rows)

    def stored(self, rows: int) -> None:
        """Only what is lost is counted."""

    def lost(self, reason: str, rows: int) -> None:  # noqa: ARG002 - they are lost, whatever the reason
        self._lost(rows)
