"""Keeps the leases of this door: tells Redis what tenants used, ten times a second, and counts alone while Redis is away.

No request waits for Redis.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from headrace.access.specs import QuotaSpec
from headrace.hop.config import ConfigError
from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.admission.row_key import RowKey
from services.ingress.config import Sharing
from services.ingress.sharing.books import Books, BusyError, FormatError, said
from services.ingress.sharing.division import Grant, Use
from services.ingress.sharing.lease import Lease
from services.ingress.sharing.metrics import ShareMetrics
from services.ingress.sharing.queries import MergedQueries
from services.ingress.sharing.share import Buckets

# How often leases are renewed; how often a door without requests says that it is there.
EVERY_S = 0.1
_HELLO_S = 1.0
# A lease that could not be renewed for so long is over here. In the book it lasts longer (LEASE_MS), so nothing is given twice.
_LEASE_S = 1.0
# A Redis that did not answer is asked again after this time: a lease lasts a second.
_PAUSE_S = 0.2


class LeaseSource:
    """A `Source`. `clock`: monotonic seconds."""

    def __init__(self, books: Books, clock: Callable[[], float], metrics: ShareMetrics, log: Any) -> None:
        self.doors = 1
        self.queries = MergedQueries(books, clock, lambda: self.doors, lambda: self.disconnected, log)
        self._books = books
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._leases: dict[str, Lease] = {}
        self._greeted = float("-inf")
        # Tenants whose own keys can't be used, and why.
        self._refused: dict[str, str] = {}
        self._problem = ""
        metrics.doors.set(1)

    @property
    def disconnected(self) -> bool:
        """Whether this door can't ask Redis, so that it has its part of each limit."""
        return bool(self._problem)

    def share(self, tenant: str, limits: QuotaSpec, buckets: Buckets) -> Lease:
        lease = self._leases[tenant] = Lease(limits, buckets)
        lease.fall_back_to_local(self.doors, self._clock(), disconnected=self.disconnected)
        return lease

    async def start(self) -> None:
        try:
            await self._hello()
        except RedisDownError as error:
            self._failed(str(error))
        except FormatError as error:
            raise ConfigError(f"sharing.redis: {error}") from None

    async def refresh(self) -> bool:
        try:
            if self._problem or self._clock() - self._greeted >= _HELLO_S:
                await self._hello()
            await self._renew()
        except (RedisDownError, FormatError) as error:
            self._failed(str(error))
        self._end_leases()
        await self.queries.refresh()
        return False

    def keep_only(self, names: AbstractSet[str]) -> None:
        for name in self._leases.keys() - names:
            del self._leases[name]
            self._refused.pop(name, None)

    async def close(self) -> None:
        await self._books.close()

    async def _hello(self) -> None:
        doors = await self._books.hello()
        if doors is None:
            return
        self._greeted = self._clock()
        if self._problem:
            self._log.info("limits of tenants are shared by the doors again", doors=doors)
            # What was taken meanwhile was this door's own part: told now, it would be a debt of all.
            self._report_usage(self._leases)
        self._problem = ""
        self._metrics.alone.set(0)
        self.doors = doors
        self._metrics.doors.set(doors)

    async def _renew(self) -> None:
        due = {name: lease for name, lease in self._leases.items() if lease.due}
        if not due:
            return
        told = {name: (due[name].limits(self.doors), use) for name, use in self._report_usage(due).items()}
        for name, grant in (await self._books.exchange(told)).items():
            lease = due[name]
            if isinstance(grant, BusyError):
                lease.restore_usage(told[name][1])
            elif isinstance(grant, Grant):
                self._refused.pop(name, None)
                # A tenant's limits may have changed meanwhile, and with them its lease.
                if self._leases.get(name) is lease:
                    lease.apply_grant(grant, self.doors, self._clock())
            elif self._refused.get(name) != (why := said(grant)):
                self._refused[name] = why
                self._log.error("a tenant's limits are not shared by the doors", tenant=name, error=why)
        self._metrics.refused.set(len(self._refused))

    def _report_usage(self, names: Iterable[str]) -> dict[str, Use]:
        now = self._clock()
        return {name: self._leases[name].report_usage(now, EVERY_S) for name in names}

    def _end_leases(self) -> None:
        now = self._clock()
        for name, lease in self._leases.items():
            if lease.granted_at is not None and now - lease.granted_at >= _LEASE_S:
                lease.fall_back_to_local(
                    self.doors, now, disconnected=self.disconnected or name in self._refused
                )

    def _failed(self, problem: str) -> None:
        if not self._problem:
            told = "limits of tenants are not shared: each door has its part of them"
            self._log.error(told, doors=self.doors, error=problem)
            for lease in self._leases.values():
                if lease.granted_at is None:
                    lease.fall_back_to_local(self.doors, self._clock(), disconnected=True)
        self._problem = problem or "it failed"
        self._metrics.alone.set(1)


def lease_source(
    settings: Sharing, row_key: RowKey, clock: Callable[[], float], metrics: ShareMetrics, log: Any
) -> LeaseSource:
    """`clock`: monotonic seconds. Raises ConfigError if the address can't be read."""
    try:
        calls = RedisCalls(settings.redis, settings.timeout_s, clock, pause_s=_PAUSE_S)
    except ConfigError as error:
        raise ConfigError(f"sharing.{error}") from None
    return LeaseSource(Books(calls, secrets.token_hex(8), row_key), clock, metrics, log)
