"""Whose piece of an explanation runs next: tenants take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from headrace.hop.limiters import EXPLANATIONS

_RETRY_AFTER_S = 1.0


@dataclass(slots=True, eq=False)
class Entry:
    """Rows of a tenant that are to be explained. `began`: its turn, by the clock. `wants` a turn, until it is `granted`."""

    tenant: str
    rows: int
    began: float = 0.0
    wants: bool = False
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class FairSlot:
    """One piece runs at a time: the tenants take turns, each with the oldest of its entries. So one that comes waits for at most
    one turn of each of the others. `clock`: monotonic seconds."""

    def __init__(self, max_rows: int, clock: Callable[[], float]) -> None:
        self._max_rows = max_rows
        self._clock = clock
        # By tenant, in the order of their next turns.
        self._entries: dict[str, deque[Entry]] = {}
        self.rows = 0
        self.running: Entry | None = None

    @contextmanager
    def entered(self, tenant: str, rows: int) -> Iterator[Entry]:
        """Around the work for these rows. Raises Fault RESOURCE_EXHAUSTED OVERLOADED: a tenant may have as many as it leaves free
        (alone: half)."""
        own = sum(entry.rows for entry in self._entries.get(tenant, ()))
        if rows and own + rows > self._max_rows - self.rows:
            raise EXPLANATIONS.refusal(
                f"{self.rows} rows wait to be explained here, {own} of them of this tenant; ask again later",
                retry_after_s=_RETRY_AFTER_S,
                limit=str(self._max_rows),
            )
        entry = Entry(tenant, rows)
        entries = self._entries.setdefault(tenant, deque())
        entries.append(entry)
        self.rows += rows
        try:
            yield entry
        finally:
            entries.remove(entry)
            self.rows -= rows
            self.release(entry)

    async def acquire(self, entry: Entry) -> None:
        """Returns when it has its turn; at once if it has it already. Stages that run at the same time share the turn."""
        self.want(entry)
        await entry.granted.wait()

    def want(self, entry: Entry) -> None:
        """The next piece of it can run, once it is granted."""
        if self.running is not entry and not entry.wants:
            entry.wants = True
            entry.granted.clear()
            self._grant()

    def release(self, entry: Entry) -> None:
        """Ends its turn, if it has one; its tenant's next one comes after those of all others."""
        if self.running is entry:
            self.running = None
            self._entries[entry.tenant] = self._entries.pop(entry.tenant)
        if not self._entries[entry.tenant]:
            del self._entries[entry.tenant]
        self._grant()

    def _grant(self) -> None:
        entry = next((entries[0] for entries in self._entries.values() if entries[0].wants), None)
        if self.running is None and entry is not None:
            self.running, entry.wants, entry.began = entry, False, self._clock()
            entry.granted.set()
