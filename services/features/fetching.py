"""Gets rows: those that are current from memory, the others from the store, and last-known ones when it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from headrace.hop.breaker import Breaker
from services.features.keying import Keys
from services.features.planning import ViewPlan
from services.features.ports import Ask, OnlineStore, Rows, StoreError, StoreTimeoutError
from services.features.remembering import Memory

Fetched: TypeAlias = tuple[Rows, bool]
"""Rows, and whether the store vouches for them; else they are the last known."""


class Observer(Protocol):
    """Sees what was read; see metrics.py."""

    def read(self, seconds: float, error: str) -> None:
        """A read of the store ended; `error`: "" or what went wrong (timeout, store, breaker_open)."""
        ...

    def found(self, current: int, read: int) -> None:
        """So many keys were current in memory, and so many were read from the store."""
        ...


@dataclass(frozen=True, slots=True)
class Cache:
    """How long rows stay current in memory, in seconds; 0: not at all.

    `told_s`: where the store tells of changes, so that they are as good as the store's. `blind_s`: where it does not.
    """

    told_s: float
    blind_s: float


class Fetcher:
    """One store behind a memory and a breaker. Used on one event loop."""

    def __init__(
        self,
        store: OnlineStore,
        memory: Memory,
        breaker: Breaker,
        observer: Observer,
        clock: Callable[[], float],
        cache: Cache,
    ) -> None:
        """`clock`: monotonic seconds."""
        self._store = store
        self._memory = memory
        self._breaker = breaker
        self._observer = observer
        self._clock = clock
        self._cache = cache
        self._reading = 0
        self._changed: set[bytes] = set()
        store.watch(self._on_change)

    async def fetch(self, views: Sequence[ViewPlan], keys: Sequence[Keys], timeout_s: float) -> list[Fetched]:
        """Per view, the rows of its keys."""
        epoch = self._store.epoch()
        lasts_s = self._cache.told_s if epoch >= 0 else self._cache.blind_s
        now = self._clock()
        asks: list[Ask] = []
        known: list[Rows] = []
        for view, wanted in zip(views, keys, strict=True):
            rows = (
                self._memory.current(view, wanted.keys, epoch, now) if lasts_s else [None] * len(wanted.keys)
            )
            known.append(rows)
            asks.append(Ask(view, [key for key, row in zip(wanted.keys, rows, strict=True) if row is None]))
        open_asks = [ask for ask in asks if ask.keys]
        missing = sum([len(ask.keys) for ask in open_asks])
        self._observer.found(sum(map(len, known)) - missing, missing)
        if not open_asks:
            return [(rows, True) for rows in known]
        self._reading += 1
        try:
            found = await self._guarded(open_asks, timeout_s)
            if found is not None:
                self._learn(open_asks, found, epoch, now + lasts_s)
        finally:
            self._reading -= 1
            if not self._reading:
                self._changed.clear()
        if found is None:
            recall = self._memory.recall
            return [(recall(view, wanted.keys), False) for view, wanted in zip(views, keys, strict=True)]
        fresh = iter(found)
        return [
            (_filled(rows, next(fresh)) if ask.keys else rows, True)
            for ask, rows in zip(asks, known, strict=True)
        ]

    def _learn(self, asks: Sequence[Ask], found: Sequence[Rows], epoch: int, until: float) -> None:
        for ask, rows in zip(asks, found, strict=True):
            self._memory.learn(ask, rows, epoch, until)
        # The news of a change may have overtaken the row that it is about.
        for key in self._changed:
            self._memory.outdate(key)

    def _on_change(self, key: bytes) -> None:
        self._memory.outdate(key)
        if self._reading:
            self._changed.add(key)

    async def _guarded(self, asks: Sequence[Ask], timeout_s: float) -> Sequence[Rows] | None:
        """The rows of each ask; None if they could not be read."""
        began = self._clock()
        permit = self._breaker.admit(began)
        if not permit:
            self._observer.read(0.0, "breaker_open")
            return None
        error, found = "", None
        try:
            found = await self._store.read(asks, timeout_s)
        except StoreTimeoutError:
            error = "timeout"
        except StoreError:
            error = "store"
        except BaseException:
            # The caller went away: that says nothing of the store.
            self._breaker.release(permit)
            raise
        now = self._clock()
        self._breaker.record(permit, now, now - began, 1.0 if error else 0.0, error == "timeout")
        self._observer.read(now - began, error)
        return found


def _filled(known: Rows, found: Rows) -> Rows:
    """Found rows in the places of those that are not known."""
    if len(found) == len(known):
        return found
    fresh = iter(found)
    return [next(fresh) if row is None else row for row in known]
