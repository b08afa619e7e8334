"""Doors that share limits, by the files of one machine or by a real Redis, under one clock that a test moves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import Fault
from headrace.state.redis import RedisCalls
from services.ingress.admission.quotas import Quotas
from services.ingress.admission.row_key import RowKey
from services.ingress.documents.catalog import Tenant
from services.ingress.sharing.books import Books
from services.ingress.sharing.leases import EVERY_S, LeaseSource
from services.ingress.sharing.machine import MachineSource
from services.ingress.sharing.metrics import ShareMetrics
from services.ingress.sharing.share import Source
from tests.services.monitoring.monitoring_outcomes import Log


def tenant(name: str = "a", **limits: float) -> Tenant:
    return Tenant(name, frozenset("*"), QuotaSpec.model_validate(limits), 1)


class Sharer:
    """One door. `now`: seconds, of all doors of a test. `place`: a folder, or the calls of a Redis."""

    def __init__(self, place: Path | RedisCalls, now: list[float], name: str = "door") -> None:
        self.registry, self.log, self.now = CollectorRegistry(), Log(), now
        self.books = None
        self.source: Source
        if isinstance(place, Path):
            self.source = MachineSource(place, lambda: now[0], self.log)
        else:
            self.books = Books(place, name, RowKey(None, print), round(now[0] * 1000))
            self.source = LeaseSource(self.books, lambda: now[0], ShareMetrics(self.registry), self.log)
        self.quotas = Quotas(lambda: now[0], self.source)
        self.held: list[Any] = []

    async def refresh(self) -> None:
        if self.books is not None:
            self.books.now_ms = round(self.now[0] * 1000)
        await self.quotas.refresh()

    def passes(self, who: Tenant, rows: int = 1, size_bytes: int = 1) -> int:
        """The rows that were let through."""
        try:
            quota = self.quotas.acquire(who)
        except Fault:
            return 0
        try:
            quota.charge(rows, size_bytes)
        except Fault:
            return 0
        finally:
            quota.release()
        return rows

    def hold(self, who: Tenant) -> bool:
        try:
            self.held.append(self.quotas.acquire(who))
        except Fault:
            return False
        return True

    def let_go(self) -> None:
        if self.held:
            self.held.pop().release()

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


async def introduce(doors: Sequence[Sharer]) -> None:
    """All of them start, and know each other."""
    for _ in range(2):
        for door in doors:
            if door.books is not None:
                door.books.now_ms = round(door.now[0] * 1000)
            await door.source.start()
            await door.refresh()


async def run(
    doors: Sequence[Sharer], who: Tenant, seconds: float, offered: Sequence[float], rows: int = 1
) -> float:
    """Rows per second that were let through, of so many offered per second at each door."""
    let, now = 0, doors[0].now
    owed = [0.0] * len(doors)
    for step in range(round(seconds / 0.01)):
        now[0] += 0.01
        for i, door in enumerate(doors):
            owed[i] += offered[i] * 0.01
            while owed[i] >= rows:
                owed[i] -= rows
                let += door.passes(who, rows)
            # The doors do not look at the same moments.
            if (step + 3 * i) % round(EVERY_S / 0.01) == 0:
                await door.refresh()
    return let / seconds
