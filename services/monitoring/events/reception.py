"""The store of events for an event loop: calls wait for a thread; failures are counted, said once, and healed by a success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from headrace.events import EventGroup, Mask
from headrace.events.messages import Refused
from services.monitoring.events.erasure import Erased, Erasure, erase
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.ports import EventObserver, GroupObserver
from services.monitoring.events.query import Found, Page, Query, find, read
from services.monitoring.events.storage.index import Stream
from services.monitoring.events.storage.store import EventStore, Taken
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

P = ParamSpec("P")
R = TypeVar("R")
# How often segments are looked at whether they should be closed, old ones are removed, and sizes and gaps are measured.
_CLOSE_S = 1.0
_SWEEP_S = 60.0
_MEASURE_S = 10.0
_MOST_CAUSES = 64


class Reception:
    """`store` None: events are only observed. `observers` see each event once. `wall`: seconds since 1970."""

    def __init__(
        self,
        store: EventStore | None,
        mask: Mask,
        observers: Sequence[EventObserver | GroupObserver],
        metrics: EventMetrics,
        wall: Callable[[], float],
        log: Log,
        forget: Callable[[Sequence[bytes]], object] = lambda _: None,
    ) -> None:
        """`forget`: removes what is kept elsewhere of events that are erased, by their ids. Blocks; raises StorageError."""
        self._forget = forget
        self._store = store
        self._mask = mask
        self._observers = observers
        self._metrics = metrics
        self._wall = wall
        self._log = log
        # The store is one thread's at a time.
        self._thread = ThreadPoolExecutor(1, "events")
        self._failing = False
        # Epoch of a stream → what was noted of it when its gaps were counted last.
        self._noted: dict[int, int] = {}
        self._told: set[tuple[str, str]] = set()

    async def start(self) -> None:
        """Takes up what an earlier process left. What can't be done now is done by the next process."""
        if self._store is not None:
            try:
                await self._run(self._store.start)
            except StorageError as error:
                self._fails(str(error))

    async def take(
        self, replica: str, epoch: int, noted: int, groups: Sequence[EventGroup], *, durable: bool
    ) -> Taken:
        """Stores events and shows them to the observers. Raises StorageError if they are `durable` and can't be stored."""
        store = self._store
        if store is None:
            taken = Taken(fresh=list(groups))
        else:
            try:
                taken = await self._run(lambda: store.take(replica, epoch, noted, groups, durable=durable))
            except StorageError as error:
                self._fails(str(error))
                raise
            if taken.problem:
                self._fails(taken.problem)
            elif taken.stored:
                self._works()
        self._metrics.stored.inc(taken.stored)
        self._metrics.dropped.inc(taken.dropped)
        self._show(taken.fresh)
        return taken

    def refused(self, groups: Sequence[Refused]) -> int:
        """Counts the events of groups that can't be read, and returns how many; the log has each of the first causes once."""
        for group in groups:
            self._metrics.refused.inc(group.rows)
            cause = (group.pipeline, group.why.partition(".batch: ")[2] or group.why)
            if cause not in self._told and len(self._told) < _MOST_CAUSES:
                self._told.add(cause)
                self._log.error(
                    "a group of events can't be read; it is dropped, the others are stored",
                    pipeline=group.pipeline,
                    error=group.why,
                    events=group.rows,
                )
        return sum(group.rows for group in groups)

    async def find(self, query: Query) -> Found:
        """The newest events that fit. Raises StorageError."""
        store = self._store
        return Found() if store is None else await self._run(lambda: find(store, query))

    async def read(self, query: Query) -> Page:
        """The same as they are stored. Raises StorageError."""
        store = self._store
        return Page() if store is None else await self._run(lambda: read(store, query))

    async def erase(self, who: Erasure) -> Erased:
        """Removes events. Raises StorageError, MaskedError."""
        store = self._store
        if store is None:
            return Erased()
        erased = await self._run(lambda: erase(store, who, self._mask, self._forget))
        self._metrics.erased.inc(erased.events)
        return erased

    async def over(self, what: Callable[[EventStore], R]) -> R | None:
        """What somebody computes of all events, on their thread; None: none are kept. Raises what it raises."""
        store = self._store
        return None if store is None else await self._run(lambda: what(store))

    async def streams(self) -> dict[int, Stream]:
        """What was received of each stream. Raises StorageError."""
        store = self._store
        return {} if store is None else dict(await self._run(store.streams))

    async def run(self) -> None:
        """Closes segments and removes old ones, until cancelled."""
        store, since = self._store, 0.0
        while store is not None:
            await asyncio.sleep(_CLOSE_S)
            since += _CLOSE_S
            try:
                await self._run(store.close_due)
                if since >= _SWEEP_S:
                    since = 0.0
                    self._metrics.swept.inc(await self._run(store.sweep))
                if since % _MEASURE_S == 0:
                    await self._run(lambda: self._measure(store))
            except StorageError as error:
                self._fails(str(error))
            except Exception as error:  # noqa: BLE001 - the loop must go on
                self._fails(f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Closes the segments."""
        if self._store is not None:
            await self._run(self._store.close)
        self._thread.shutdown(wait=False)

    def _measure(self, store: EventStore) -> None:
        streams = store.streams()
        # What was noted since the last time may be on its way.
        gaps = [gap for epoch, s in streams.items() for gap in s.received.gaps(self._noted.get(epoch, 0))]
        self._noted = {epoch: s.noted for epoch, s in streams.items()}
        self._metrics.missing.set(sum(last - first + 1 for first, last in gaps))
        self._metrics.segments.bytes.set(store.index.size_bytes())

    def _show(self, groups: Sequence[EventGroup]) -> None:
        now = self._wall()
        for group in groups:
            for observer in self._observers:
                try:
                    if isinstance(observer, GroupObserver):
                        observer.observe_group(group, now)
                    else:
                        observer.observe(group.header, group.batch.columns, now)
                except Exception as error:  # noqa: BLE001 - the others and the router must not suffer
                    self._metrics.observers_failed.inc()
                    told = f"{type(error).__name__}: {error}"
                    self._log.error("events were not observed", observer=type(observer).__name__, error=told)

    async def _run(self, what: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    def _fails(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._metrics.failing.set(1)
            self._log.error("events can't be stored", error=why)

    def _works(self) -> None:
        if self._failing:
            self._failing = False
            self._metrics.failing.set(0)
            self._log.info("events are stored again")
