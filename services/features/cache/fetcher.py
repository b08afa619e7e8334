"""Gets rows: current rows from memory, the others from the store, and last-known rows when the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from headrace.hop.resilience.breaker import Breaker
from services.features.cache.cache import RowCache
from services.features.cache.single_flight import PendingRow, SingleFlight
from services.features.freshness.freshness import ViewResult
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import (
    KeyQuery,
    OnlineStore,
    Rows,
    StoredRow,
    StoreError,
    StoreTimeoutError,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from services.features.metrics import FeaturesMetrics

# Of the event loop, from an answer that has arrived to the end of the call that asked for it.
_ROUNDS = 3


class _Missing(NamedTuple):
    """Rows of a view that are not in memory. `holes`: positions of those that this call must read.

    `seats`: positions of the rows that another call already reads, and where each row will be.
    """

    found: ViewResult
    rows: list[StoredRow | None]
    keys: list[bytes]
    holes: list[int]
    seats: list[tuple[int, PendingRow]]


class Fetcher:
    """Reads one store through a row cache and a circuit breaker. Used on one event loop."""

    def __init__(
        self,
        store: OnlineStore,
        memory: RowCache,
        breaker: Breaker,
        metrics: FeaturesMetrics,
        clock: Callable[[], float],
        cache_s: float,
        log: FilteringBoundLogger,
        patience_s: float,
    ) -> None:
        """`clock`: monotonic seconds. `cache_s`: so long rows of a store that reports changes stay current in memory.
        `patience_s`: a store that does not answer within this has failed."""
        self._store = store
        self._memory = memory
        self._breaker = breaker
        self._metrics = metrics
        self._clock = clock
        self._cache_s = cache_s
        self._log = log
        self._patience_s = patience_s
        self._failing = False
        self._single_flight = SingleFlight()
        self._changed: set[bytes] = set()
        store.watch(self._on_change)

    async def fetch(
        self, plan: ServicePlan, keys: Sequence[EntityKeys], count: int, many: bool, timeout_s: float
    ) -> list[ViewResult]:
        """The rows of each view's keys. `count`: the number of all keys. `many`: the batch has many rows: returns TableRows where
        possible."""
        epoch = self._store.epoch()
        lasts_s = self._cache_s if epoch >= 0 else 0.0
        now = self._clock()
        many = many and lasts_s > 0
        current, found, missing = self._memory.current, [], []
        for view, its, limits in zip(plan.views, keys, plan.limits, strict=True):
            rows, holes = current(view, its.keys, epoch, now, many)
            one = ViewResult(view, its, rows, True, limits)
            found.append(one)
            if holes:
                missing.append(self._missing(one, its.keys, holes))
        if missing:
            await self._complete(missing, count, timeout_s, epoch, now, now + lasts_s)
        else:
            self._metrics.found(count, 0, 0)
        return found

    def _missing(self, found: ViewResult, keys: list[bytes], holes: list[int]) -> _Missing:
        """The rows that are not in memory, and which of them are being read for other calls."""
        assert isinstance(found.rows, list), "a block has no holes"
        seats: list[tuple[int, PendingRow]] = []
        if self._single_flight.active:
            missing = keys if len(holes) == len(keys) else [keys[i] for i in holes]
            sought = self._single_flight.seats(found.view.identity, missing)
            if sought.count(None) != len(sought):
                # An entity that changed after a read began may have been read before the change: read it again.
                changed = self._changed
                seats = [
                    (i, seat)
                    for i, seat in zip(holes, sought, strict=True)
                    if seat is not None and keys[i] not in changed
                ]
                taken = {i for i, _ in seats}
                holes = [i for i in holes if i not in taken]
        return _Missing(found, found.rows, keys, holes, seats)

    async def _complete(
        self,
        missing: list[_Missing],
        count: int,
        timeout_s: float,
        epoch: int,
        now: float,
        lasts_until: float,
    ) -> None:
        """Gets the missing rows of `count` in all, or the last-known rows of a view if one of its rows can't be got."""
        joined = sum([len(m.seats) for m in missing]) if self._single_flight.active else 0
        to_read = [m for m in missing if m.holes] if joined else missing
        asks = _asks(to_read)
        holes = sum([len(ask.keys) for ask in asks])
        self._metrics.found(count - holes - joined, joined, holes)
        read = await self._read(asks, timeout_s, epoch, lasts_until) if asks else ()
        if read is not None:
            for m, rows in zip(to_read, read, strict=True):
                if len(rows) == len(m.keys):
                    m.rows[:] = rows
                    continue
                for i, row in zip(m.holes, rows, strict=True):
                    m.rows[i] = row
            if not joined:
                return
        for m in missing:
            if (m.holes and read is None) or (m.seats and not await self._join(m, now + timeout_s)):
                m.found.rows, m.found.answered = self._memory.recall(m.found.view, m.keys), False

    async def _join(self, wanted: _Missing, until: float) -> bool:
        """Takes rows from reads for other calls. Returns whether all of these reads succeeded in time."""
        for landing in {seat[0] for _, seat in wanted.seats}:
            if not landing.done():
                await asyncio.wait((landing,), timeout=max(until - self._clock(), 0))
            # As in stores/answers.py: the other call may have its answer only when a late loop has come round.
            for _ in range(_ROUNDS):
                if not landing.done():
                    await asyncio.sleep(0)
            if not landing.done() or landing.result() is None:
                return False
        for i, (landing, view, place) in wanted.seats:
            found = landing.result()
            assert found is not None, "looked at above"
            wanted.rows[i] = found[view][place]
        return True

    async def _read(
        self, asks: Sequence[KeyQuery], timeout_s: float, epoch: int, until: float
    ) -> Sequence[Rows] | None:
        landing = self._single_flight.start(asks)
        found: Sequence[Rows] | None = None
        try:
            found = await self._guarded(asks, timeout_s)
            if found is not None:
                for ask, rows in zip(asks, found, strict=True):
                    self._memory.learn(ask, rows, epoch, until)
                # The report of a change may have arrived before the row, which is then already outdated.
                for key in self._changed:
                    self._memory.mark_outdated(key)
        finally:
            self._single_flight.end(landing, found)
            if not self._single_flight.active:
                self._changed.clear()
        return found

    async def _guarded(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows] | None:
        """The rows of each query; None if they could not be read."""
        began = self._clock()
        permit = self._breaker.admit(began)
        if not permit:
            self._metrics.read(0.0, "breaker_open")
            return None
        error, found = "", None
        try:
            found = await self._store.read(asks, timeout_s)
        except StoreTimeoutError as failure:
            error = "timeout"
            self._tell(str(failure))
        except StoreError as failure:
            error = "store"
            self._tell(str(failure))
        except BaseException:
            # The call was cancelled: that says nothing about the store.
            self._breaker.release(permit)
            raise
        if not error and self._failing:
            self._failing = False
            self._log.info("the store answers again")
        now = self._clock()
        if error == "timeout" and timeout_s < self._patience_s:
            self._breaker.release(permit)  # its caller had less time, which says nothing about the store
        else:
            self._breaker.record(permit, now, now - began, 1.0 if error else 0.0)
        self._metrics.read(now - began, error)
        return found

    def _tell(self, why: str) -> None:
        """Logs only the first failure after a success; the metrics count all of them."""
        if not self._failing:
            self._failing = True
            self._log.warning("the store can't be read; last-known values and defaults are served", why=why)

    def _on_change(self, key: bytes) -> None:
        self._memory.mark_outdated(key)
        if self._single_flight.active:
            self._changed.add(key)


def _asks(missing: Sequence[_Missing]) -> list[KeyQuery]:
    """The queries for the store. Views with the same keys share one list object, so that stores read them together."""
    asks: list[KeyQuery] = []
    last: tuple[_Missing, list[bytes]] | None = None
    for m in missing:
        found, _, keys, holes, _ = m
        if len(holes) != len(keys):
            if last is None or last[0].keys is not keys or last[0].holes != holes:
                last = m, [keys[i] for i in holes]
            keys = last[1]
        asks.append(KeyQuery(found.view, keys))
    return asks
