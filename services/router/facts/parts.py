"""A part of a report: facts of one kind, as they are sent. Nothing large is made of them on the event loop at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence, Sized
from typing import Generic, NamedTuple, TypeVar

from headrace.events import EventGroup
from services.router.events.groups import GroupBuilder
from services.router.events.ring import AnsweredBatch, Ring

# Events are made in slices, with pauses in which live batches go on. (In a thread, that work had each of their steps wait for the
# interpreter's lock: 5 to 9 ms instead of 1, for 40 ms twice a second.)
_SLICE_S, _PAUSE_S = 0.0005, 0.004
Drained = TypeVar("Drained", bound=Sized)


class Made(NamedTuple):
    """What can be sent, as whoever sends it wrote it, and how many facts it holds."""

    content: object
    rows: int


class Part(Generic[Drained]):
    """`name`: its field in the report. `drain`: takes what waits, None: nothing; `write`: makes its content; `count`: its facts.
    `stored`, `lost`: told how many facts the receiver has, or are dropped and why: `refused` or `error`."""

    def __init__(
        self,
        name: str,
        drain: Callable[[], Drained | None],
        write: Callable[[Drained], Awaitable[object]],
        lost: Callable[[str, int], None],
        stored: Callable[[int], None] = lambda _: None,
        count: Callable[[Drained], int] = len,
    ) -> None:
        self.name = name
        self.stored = stored
        self.lost = lost
        # What is to be sent, until the receiver has it.
        self.unsent: Made | None = None
        self._drain = drain
        self._write = write
        self._count = count
        self._drained: Drained | None = None

    @property
    def rows(self) -> int:
        """Facts that are to be sent."""
        return self.unsent.rows if self.unsent is not None else 0

    async def make(self) -> None:
        """Makes what is to be sent of what waits, if nothing is. What a cancellation interrupts is made the next time."""
        if self.unsent is not None:
            return
        if self._drained is None:
            self._drained = self._drain()
        drained = self._drained
        if drained is None:
            return
        rows = self._count(drained)
        try:
            self.unsent = Made(await self._write(drained), rows)
        except Exception:
            self._drained = None
            self.lost("error", rows)
            raise
        self._drained = None


def event_writer(
    ring: Ring, builder: GroupBuilder, write: Callable[[int, int, Sequence[EventGroup]], object]
) -> Callable[[Sequence[AnsweredBatch]], Awaitable[object]]:
    """`write`: makes the content of an epoch, the number of its events so far, and groups of them."""

    async def written(answered: Sequence[AnsweredBatch]) -> object:
        groups, begun = list[EventGroup](), time.perf_counter()
        # Joined and masked in slices, between which live batches go on.
        for group in builder.steps(answered):
            if group is not None:
                groups.append(group)
            elif time.perf_counter() - begun > _SLICE_S:
                await asyncio.sleep(_PAUSE_S)
                begun = time.perf_counter()
        return await asyncio.to_thread(write, ring.notes.epoch, ring.notes.noted, groups)

    return written
