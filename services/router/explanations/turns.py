"""Whose piece of an explanation runs next: tenants in turns, by the time that their pieces took."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from headrace.hop.limiters import EXPLANATIONS

_RETRY_AFTER_S = 1.0


@dataclass(slots=True, eq=False)
class Entry:
    """Rows of a tenant that are to be explained. `order`: of its wish for a turn, None: it has none. `began`: its turn, by the
    clock. `granted`: wakes who waits for the turn."""

    tenant: str
    rows: int
    order: int | None = None
    began: float = 0.0
    granted: asyncio.Event | None = None


class Turns:
    """One piece runs at a time: of the tenant with the least virtual time, the oldest of its entries (start-time fair queueing).
    Pure; `clock`: monotonic seconds.

    A tenant's virtual time grows by what its turns take, so one long piece is as much as many short ones. One that comes, or has
    paused, begins where the others are: it waits for at most one turn of each of them.
    """

    def __init__(self, max_rows: int, clock: Callable[[], float]) -> None:
        self._max_rows = max_rows
        self._clock = clock
        self._entries: dict[str, deque[Entry]] = {}
        self._times: dict[str, float] = {}
        self._now = 0.0
        self._orders = count()
        self.rows = 0
        self.running: Entry | None = None

    def enter(self, tenant: str, rows: int) -> Entry:
        """Rows come. Raises Fault RESOURCE_EXHAUSTED OVERLOADED: a tenant may have as many as it leaves free (alone: half)."""
        own = sum(entry.rows for entry in self._entries.get(tenant, ()))
        if rows and own + rows > self._max_rows - self.rows:
            raise EXPLANATIONS.refusal(
                f"{self.rows} rows wait to be explained here, {own} of them of this tenant; ask again later",
                retry_after_s=_RETRY_AFTER_S,
                limit=str(self._max_rows),
            )
        entry = Entry(tenant, rows)
        self._entries.setdefault(tenant, deque()).append(entry)
        self.rows += rows
        return entry

    def leave(self, entry: Entry) -> None:
        """They are explained, or nobody waits for them any more."""
        self.end(entry)
        entries = self._entries[entry.tenant]
        first = entries[0] is entry
        entries.remove(entry)
        self.rows -= entry.rows
        if not entries:
            del self._entries[entry.tenant]
        elif first and entries[0].order is not None:
            if entry.order is None:
                self.want(entries[0])
            else:
                entries[0].order = entry.order  # the tenant keeps its place
        if not self._entries:
            self._times.clear()
            self._now = 0.0

    def want(self, entry: Entry) -> None:
        """The next piece of it can run."""
        entry.order = next(self._orders)
        self._times[entry.tenant] = max(self._times.get(entry.tenant, 0.0), self._now)

    def grant(self) -> Entry | None:
        """Begins the next turn; None: one runs, or there is none to begin."""
        ready = [
            (self._times[t], e[0].order, e[0]) for t, e in self._entries.items() if e[0].order is not None
        ]
        if self.running is not None or not ready:
            return None
        self._now, _, entry = min(ready, key=lambda found: found[:2])
        entry.order, entry.began = None, self._clock()
        self.running = entry
        # What a tenant that has left used too much is remembered until the others have had as much.
        self._times = {t: used for t, used in self._times.items() if t in self._entries or used > self._now}
        return entry

    def end(self, entry: Entry) -> None:
        """Its turn has ended, if it has one."""
        if self.running is entry:
            self._times[entry.tenant] += self._clock() - entry.began
            self.running = None


class FairSlot:
    """`Turns` for coroutines."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    @contextmanager
    def entered(self, tenant: str, rows: int) -> Iterator[Entry]:
        """Around the work for these rows. Raises Fault as `Turns.enter`."""
        entry = self._turns.enter(tenant, rows)
        try:
            yield entry
        finally:
            self._turns.leave(entry)
            self._grant()

    async def acquire(self, entry: Entry) -> None:
        """Returns when it has its turn; at once if it has it already. Stages that run at the same time share the turn."""
        if self._turns.running is entry:
            return
        if entry.granted is None or entry.order is None:
            entry.granted = asyncio.Event()
            self._turns.want(entry)
            self._grant()
        await entry.granted.wait()

    def release(self, entry: Entry) -> None:
        """Ends its turn, if it has one."""
        self._turns.end(entry)
        self._grant()

    def _grant(self) -> None:
        entry = self._turns.grant()
        if entry is not None and entry.granted is not None:
            entry.granted.set()
