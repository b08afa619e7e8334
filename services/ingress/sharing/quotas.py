"""Keeps the leases of this door: tells Redis what tenants used, ten times a second, and counts alone while Redis is away.

No request waits for Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.access.specs import QuotaSpec
from headrace.state.redis import RedisDownError
from services.ingress.admission.quotas import Quota, Quotas
from services.ingress.ports import Log
from services.ingress.sharing.exchange import Exchange, FormatError
from services.ingress.sharing.lease import Grant, Use
from services.ingress.sharing.metrics import ShareMetrics

# How often leases are renewed; how often a door without requests says that it is there.
EVERY_S = 0.1
_HELLO_S = 1.0
# A lease that could not be renewed for so long is over here. In Redis it lasts longer (LEASE_MS), so nothing is given twice.
_LEASE_S = 1.0


class LeasedQuotas:
    """`clock`: monotonic seconds."""

    def __init__(
        self, exchange: Exchange, clock: Callable[[], float], metrics: ShareMetrics, log: Log
    ) -> None:
        self.quotas = Quotas(clock, began=self._began)
        self.doors = 1
        self._exchange = exchange
        self._clock = clock
        self._metrics = metrics
        self._log = log
        # When each tenant's use was last told, and when it last got a lease; the same of the door itself.
        self._told: dict[str, float] = {}
        self._leased: dict[str, float] = {}
        self._greeted = float("-inf")
        self._refused: dict[str, str] = {}
        self._problem = ""
        metrics.doors.set(1)

    @property
    def away(self) -> bool:
        """Whether this door can't ask Redis, so that it has its part of each limit."""
        return bool(self._problem)

    async def start(self) -> None:
        """Raises FormatError if Redis holds something else; that it is away is no reason not to start."""
        try:
            await self._hello()
        except RedisDownError as error:
            self._failed(str(error))

    async def look(self) -> None:
        """Renews the leases that are in use. Called again and again."""
        try:
            if self._problem or self._clock() - self._greeted >= _HELLO_S:
                await self._hello()
            await self._renew()
        except (RedisDownError, FormatError) as error:
            self._failed(str(error))
        self._end_leases()

    async def _hello(self) -> None:
        doors = await self._exchange.hello()
        self._greeted = self._clock()
        if self._problem:
            self._log.info("limits of tenants are shared by the doors again", doors=doors)
            # What was taken meanwhile was this door's own part: told now, it would be a debt of all.
            self._tell(self.quotas.current)
        self._problem = ""
        self._metrics.alone.set(0)
        self.doors = doors
        self._metrics.doors.set(doors)

    async def _renew(self) -> None:
        current = {name: quota for name, quota in self.quotas.current.items() if quota.leasing}
        if not current:
            return
        told, at = self._tell(current), self._clock()
        for name, grant in (await self._exchange.exchange(told, self.doors)).items():
            if isinstance(grant, Grant):
                self._refused.pop(name, None)
                # A tenant's limits may have changed meanwhile, and with them its quota.
                if self.quotas.current.get(name) is current[name]:
                    current[name].granted(grant, at, self.doors)
                    self._leased[name] = self._clock()
                    self._metrics.share(name, grant)
            elif self._refused.get(name) != grant:
                self._refused[name] = grant
                self._log.error("a tenant's limits are not shared by the doors", tenant=name, error=grant)
        self._metrics.refused.set(len(self._refused))

    def _tell(self, quotas: Mapping[str, Quota]) -> dict[str, tuple[QuotaSpec, Use]]:
        now = self._clock()
        told = {n: (q.limits, q.tell(now - self._told.get(n, now - EVERY_S))) for n, q in quotas.items()}
        self._told |= dict.fromkeys(quotas, now)
        return told

    def _end_leases(self) -> None:
        now = self._clock()
        for name in [n for n, at in self._leased.items() if now - at >= _LEASE_S]:
            del self._leased[name]
            if (quota := self.quotas.current.get(name)) is not None:
                quota.alone(self.doors, away=bool(self._problem) or name in self._refused)
                self._metrics.unleased(name, self.doors)
        for name in [n for n in self._told if n not in self.quotas.current]:
            del self._told[name]
            self._refused.pop(name, None)
            self._metrics.forget(name)

    def _began(self, name: str, quota: Quota) -> None:
        quota.alone(self.doors, away=bool(self._problem))
        self._leased.pop(name, None)

    def _failed(self, problem: str) -> None:
        if not self._problem:
            told = "limits of tenants are not shared: each door has its part of them"
            self._log.error(told, doors=self.doors, error=problem)
            for name, quota in self.quotas.current.items():
                if name not in self._leased:
                    quota.alone(self.doors, away=True)
        self._problem = problem or "it failed"
        self._metrics.alone.set(1)
        self._metrics.failures.inc()
