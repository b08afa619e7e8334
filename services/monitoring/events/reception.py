"""The store of events for an event loop: calls wait for a thread; failures are counted, said once, and healed by a success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

from headrace.catalog.access import Records
from headrace.catalog.errors import RecordsError
from headrace.events import EventGroup, Mask
from headrace.events.messages import Refused
from services.monitoring.events.file_audit import tell_audit
from services.monitoring.events.manifest.manifest import Forget, Stream
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.ports import EventObserver, GroupObserver
from services.monitoring.events.query import Found, Page, find, read
from services.monitoring.events.store import Erased, EventStore, Taken, UnwrittenError
from services.monitoring.events.values import Erasure, Problem, Query, Subject
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

P = ParamSpec("P")
R = TypeVar("R")
# How often it is looked whether events should go into files, what is too old is removed, and sizes and gaps are measured; and
# how often all files are read whether they are what was stored.
_CLOSE_S = 2.0
_SWEEP_S = 60.0
_MEASURE_S = _AUDIT_S = 10.0
_CHECK_S = 86_400.0
# So long after the start, as some processes are started each day.
_FIRST_CHECK_S = 3600.0
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
        forget: Forget = lambda *_, **__: None,
        audit: Records | None = None,
    ) -> None:
        """`audit`: is told of files."""
        self._audit = audit
        self._forget = forget
        self._store = store
        self._mask = mask
        self._observers = observers
        self._metrics = metrics
        self._wall = wall
        self._log = log
        # What routers report waits for no question.
        self._intake = ThreadPoolExecutor(1, "events")
        self._questions = ThreadPoolExecutor(2, "event-files")
        self._failing = False
        # Periodic work that failed when it was done last, and of which pipelines; "": of all.
        self._failing_work: dict[str, set[str]] = {}
        # Epoch of a stream → what was noted of it when its gaps were counted last.
        self._noted: dict[int, int] = {}
        self._told: set[tuple[str, str]] = set()

    async def take(
        self, replica: str, epoch: int, noted: int, groups: Sequence[EventGroup], *, durable: bool
    ) -> Taken:
        """Stores events and shows them to the observers. Raises StorageError if they are `durable` and can't be stored."""
        store = self._store
        if store is None:
            taken = Taken(fresh=list(groups))
        else:
            try:
                taken = await self._run(
                    self._intake, lambda: store.take(replica, epoch, noted, groups, durable=durable)
                )
            except StorageError as error:
                self._fails(str(error))
                raise
            if taken.problem:
                self._fails(taken.problem)
            elif taken.stored and not store.full:
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
        return Found() if store is None else await self._ask(lambda: find(store, query))

    async def read(self, query: Query) -> Page:
        """The same as they are stored. Raises StorageError."""
        store = self._store
        return Page() if store is None else await self._ask(lambda: read(store, query))

    async def erase(self, who: Erasure) -> Erased:
        """Removes events. Raises StorageError, MaskedError."""
        store = self._store
        if store is None:
            return Erased()
        subjects = tuple(self._masked(subject) for subject in who.subjects)
        erased = await self._ask(lambda: store.erase(replace(who, subjects=subjects), self._forget))
        self._metrics.erased.inc(erased.events)
        return erased

    async def over(self, what: Callable[[EventStore], R]) -> R | None:
        """What somebody computes of all events, on their thread; None: none are kept. Raises what it raises."""
        store = self._store
        return None if store is None else await self._ask(lambda: what(store))

    async def streams(self) -> dict[int, Stream]:
        """What was received of each stream. Raises StorageError."""
        store = self._store
        return {} if store is None else await self._ask(store.manifest.streams)

    async def check(self) -> tuple[dict[str, str], list[Problem]]:
        """Hashes of the files that the audit has, and files that are not what was stored. Raises StorageError."""
        store = self._store
        return (
            ({}, []) if store is None else await self._ask(lambda: (store.manifest.hashes(), store.check()))
        )

    async def run(self) -> None:
        """Puts events into files, removes old ones, and checks all, until cancelled."""
        store = self._store
        if store is None:
            return
        work: dict[str, tuple[Callable[[], object], float]] = {
            "close": (store.close_due, _CLOSE_S),
            "sweep": (lambda: self._metrics.swept.inc(store.sweep()), _SWEEP_S),
            "measure": (lambda: self._measure(store), _MEASURE_S),
            "check": (store.check, _CHECK_S),
        }
        if (audit := self._audit) is not None:
            work["audit"] = (lambda: tell_audit(audit, store.manifest), _AUDIT_S)
        since = dict.fromkeys(work, 0.0)
        since["check"] = _CHECK_S - _FIRST_CHECK_S
        while True:
            await asyncio.sleep(_CLOSE_S)
            for name, (what, every_s) in work.items():
                since[name] += _CLOSE_S
                # What failed is healed soon, however seldom it is done.
                if since[name] >= (min(every_s, _SWEEP_S) if self._failing_work.get(name) else every_s):
                    since[name] = 0.0
                    await self._attempt(name, what)

    async def close(self) -> None:
        """Ends what is at work. Events that are in no file wait in the database."""
        for threads in (self._intake, self._questions):
            await asyncio.to_thread(threads.shutdown)
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    async def _attempt(self, name: str, what: Callable[[], object]) -> None:
        """What fails is said once, and when the same works again; that other work goes well heals nothing."""
        why: Mapping[str, str] = {}
        try:
            await self._ask(what)
        except UnwrittenError as error:
            why = error.why
        except (StorageError, RecordsError) as error:
            why = {"": str(error)}
        except Exception as error:  # noqa: BLE001 - the loop must go on
            why = {"": f"{type(error).__name__}: {error}"}
        before, self._failing_work[name] = self._failing_work.get(name, set()), set(why)
        for pipeline in sorted(before ^ why.keys()):
            self._metrics.files.failing.labels(name, pipeline).set(pipeline in why)
            about = {"work": name, "pipeline": pipeline or "all"}
            if pipeline in why:
                self._log.error("files of events can't be written or read", **about, error=why[pipeline])
            else:
                self._log.info("files of events can be written and read again", **about)

    def _masked(self, subject: Subject) -> Subject:
        if not self._mask.finds:
            return subject
        return replace(subject, masked=self._mask.hash(subject.column, subject.value.encode()))

    def _measure(self, store: EventStore) -> None:
        streams = store.manifest.streams()
        # What was noted since the last time may be on its way.
        gaps = [gap for epoch, s in streams.items() for gap in s.received.gaps(self._noted.get(epoch, 0))]
        self._noted = {epoch: s.noted for epoch, s in streams.items()}
        self._metrics.missing.set(sum(last - first + 1 for first, last in gaps))
        self._metrics.files.bytes.set(store.manifest.size_bytes())

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

    async def _ask(self, what: Callable[[], R]) -> R:
        return await self._run(self._questions, what)

    async def _run(self, threads: ThreadPoolExecutor, what: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(threads, what)

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
