"""Reads features for a batch: never on the event loop, never for longer than allowed, and always with an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from headrace.columns import Batch, Column, Timing
from headrace.hop.breaker import Breaker
from services.features.keying import Keys, distinct, read_entities
from services.features.planning import ServicePlan, ViewPlan
from services.features.ports import OnlineStore, StoredRow, StoreError
from services.features.remembering import Memory
from services.features.shaping import Answer, Shaped, shape

# Of the time a call has left, reading may take this share; the rest is for answering with what is remembered.
_SHARE = 0.8
_MICRO = 1_000_000
Rows = Sequence[StoredRow | None]


class Observer(Protocol):
    """Sees what was read; see metrics.py."""

    def read(self, seconds: float, error: str) -> None:
        """A read of all views of a batch ended; `error`: "" or what went wrong (timeout, store, breaker_open)."""
        ...

    def served(self, view: str, shaped: Shaped) -> None:
        """A view's rows go out."""
        ...


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` for durations; `wall` (seconds since 1970) for ages."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Reader:
    """Serves batches of one store. Used on one event loop; the store is used in `threads`."""

    def __init__(
        self,
        store: OnlineStore,
        threads: ThreadPoolExecutor,
        breaker: Breaker,
        memory: Memory,
        observer: Observer,
        clocks: Clocks,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._threads = threads
        self._breaker = breaker
        self._memory = memory
        self._observer = observer
        self._clocks = clocks
        self._timeout_s = timeout_s

    async def read(self, plan: ServicePlan, batch: Batch, budget_s: float) -> Batch:
        """The features of the batch's rows, in its order, with annotations and the time it took.

        Rows that failed before, or whose deadline has passed, stay failed. Raises Fault INVALID_ARGUMENT for
        entity columns that do not fit the plan.
        """
        began = self._clocks.monotonic()
        entities = read_entities(batch.columns, plan.keys)
        asked = [(view, distinct(view, entities, len(batch))) for view in plan.views]
        read_began = self._clocks.monotonic()
        answers = await self._answers(asked, min(self._timeout_s, budget_s * _SHARE))
        read_ended = self._clocks.monotonic()
        columns: list[Column] = []
        for answer in answers:
            shaped = shape(answer, self._clocks.wall())
            self._observer.served(answer.view.name, shaped)
            columns += shaped.columns
        reply = Batch.of(batch.rows, columns).with_errors(batch.errors)
        reply = reply.with_errors(batch.expired(self._clocks.monotonic(), "features"))
        reply.timings = [
            self._timing("features", began, began, self._clocks.monotonic(), len(batch)),
            self._timing("features/store", began, read_began, read_ended, sum(len(k.keys) for _, k in asked)),
        ]
        return reply

    def _timing(self, stage: str, origin: float, start: float, stop: float, rows: int) -> Timing:
        return Timing(stage, "features", int((start - origin) * _MICRO), int((stop - start) * _MICRO), rows)

    async def _answers(self, asked: Sequence[tuple[ViewPlan, Keys]], timeout_s: float) -> list[Answer]:
        rows = await self._guarded(asked, timeout_s)
        answers = []
        for (view, keys), found in zip(asked, rows, strict=True):
            if found is None:
                answers.append(Answer(view, keys, self._memory.recall(view, keys.keys), asked=False))
            else:
                self._memory.learn(view, keys.keys, found)
                answers.append(Answer(view, keys, found, asked=True))
        return answers

    async def _guarded(
        self, asked: Sequence[tuple[ViewPlan, Keys]], timeout_s: float
    ) -> Sequence[Rows | None]:
        """Each view's rows; None for the views that could not be read."""
        began = self._clocks.monotonic()
        permit = self._breaker.admit(began)
        if not permit:
            self._observer.read(0.0, "breaker_open")
            return [None] * len(asked)
        error, failed, timed_out = "", False, False
        job = asyncio.get_running_loop().run_in_executor(self._threads, self._read_all, asked)
        rows: Sequence[Rows | None] = [None] * len(asked)
        try:
            rows, failed = await asyncio.wait_for(job, timeout_s)
            error = "store" if failed else ""
        except TimeoutError:
            error, failed, timed_out = "timeout", True, True
        except BaseException:
            # The caller went away: that says nothing of the store.
            self._breaker.release(permit)
            raise
        now = self._clocks.monotonic()
        self._breaker.record(permit, now, now - began, float(failed), timed_out)
        self._observer.read(now - began, error)
        return rows

    def _read_all(self, asked: Sequence[tuple[ViewPlan, Keys]]) -> tuple[list[Rows | None], bool]:
        """In a thread: views one after the other, until one fails. Whether one did."""
        rows: list[Rows | None] = []
        for view, keys in asked:
            try:
                rows.append(self._store.read(view, keys.keys) if keys.keys else [])
            except StoreError:
                # The others would wait as long, and fail as well.
                return [*rows, *[None] * (len(asked) - len(rows))], True
        return rows, False
