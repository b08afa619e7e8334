"""How much each tenant may use: a token bucket for its rate, a count for what it has in flight."""

from __future__ import annotations

from collections.abc import Callable

from headrace.hop.errors import Code, Fault, Reason
from headrace.state.tenants import QuotaSpec
from services.ingress.sharing import Cell, Shared
from services.ingress.tenants import Tenant

_RETRY_CONCURRENCY_S = 0.05


class TokenBucket:
    """Lets `rate` requests per second through, and up to `burst` at once. Time is passed in, in seconds."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, max(burst, 1.0)
        self._tokens, self._at = self._burst, now

    def take(self, now: float, elsewhere: float = 0.0) -> float:
        """0.0 if a request may pass (its token is taken), else the seconds until one might.

        `elsewhere`: tokens that others took since the last call.
        """
        self.look(now, elsewhere)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def look(self, now: float, elsewhere: float) -> None:
        """Accounts for the time that has passed, and for what others took meanwhile."""
        # A clock that stands still or goes back must not make tokens.
        passed = now - self._at
        if passed > 0:
            self._tokens = min(self._burst, self._tokens + passed * self._rate)
            self._at = now
        if elsewhere:
            # Others may have taken the same last token, or under another limit: a debt, but no endless one.
            self._tokens = max(self._tokens - elsewhere, -self._burst)


class Quota:
    """What one tenant has used of its limits; `cell`: what it uses in other processes."""

    __slots__ = ("_bucket", "_cell", "_concurrency", "in_flight", "limits")

    def __init__(self, limits: QuotaSpec, now: float, cell: Cell | None = None) -> None:
        self.limits = limits
        self.in_flight = 0
        rate = limits.rate_per_s
        self._bucket = None if rate is None else TokenBucket(rate, limits.burst or rate, now)
        self._concurrency = limits.concurrency
        self._cell = cell

    def enter(self, now: float, tenant: str) -> None:
        """Counts a request that begins; `leave` must follow. Raises Fault RESOURCE_EXHAUSTED, counting nothing."""
        cell = self._cell
        # Concurrency first: a request that is refused for it must not cost a token.
        if self._concurrency is not None:
            elsewhere = cell.in_flight_elsewhere() if cell is not None else 0
            if self.in_flight + elsewhere >= self._concurrency:
                raise _exceeded(
                    tenant, f"{self._concurrency} requests at once", "concurrency", _RETRY_CONCURRENCY_S
                )
        if self._bucket is not None:
            wait = self._bucket.take(now, cell.taken_elsewhere() if cell is not None else 0.0)
            if wait > 0:
                raise _exceeded(tenant, f"{self.limits.rate_per_s:g} requests per second", "rate", wait)
        self.in_flight += 1
        if cell is not None:
            cell.begin()
            if self._bucket is not None:
                cell.take()

    def leave(self) -> None:
        """Ends a request that `enter` counted."""
        self.in_flight -= 1
        if self._cell is not None:
            self._cell.end()

    def look(self, now: float) -> None:
        """Accounts for what was taken elsewhere, though nobody asks here."""
        if self._bucket is not None and self._cell is not None:
            self._bucket.look(now, self._cell.taken_elsewhere())


class Quotas:
    """The quotas of all tenants. `clock`: monotonic seconds; `shared`: where other processes count, too."""

    def __init__(self, clock: Callable[[], float], shared: Shared | None = None) -> None:
        self._clock = clock
        self._shared = shared
        self._quotas: dict[str, Quota] = {}

    def enter(self, tenant: Tenant) -> Quota:
        """Counts a request of `tenant`; call `leave` of the result when it is over.

        Raises Fault RESOURCE_EXHAUSTED with a hint when to try again.
        """
        quota = self._quotas.get(tenant.name)
        if quota is None or quota.limits is not tenant.limits:
            quota = self._renewed(quota, tenant)
        quota.enter(self._clock(), tenant.name)
        return quota

    def look(self) -> None:
        """Learns which processes and tenants came and went elsewhere: now and then, off the path of requests."""
        if self._shared is not None:
            self._shared.refresh()
            for quota in self._quotas.values():
                quota.look(self._clock())

    def _renewed(self, old: Quota | None, tenant: Tenant) -> Quota:
        if old is not None and old.limits == tenant.limits:
            old.limits = tenant.limits
            return old
        # Requests of the old quota leave the old object; a changed limit begins with an empty count.
        cell = self._shared.cell(tenant.name) if self._shared is not None else None
        if cell is not None:
            cell.taken_elsewhere()  # before this bucket began
        quota = self._quotas[tenant.name] = Quota(tenant.limits, self._clock(), cell)
        return quota

    def keep_only(self, names: set[str]) -> None:
        """Forgets tenants that are gone."""
        for name in self._quotas.keys() - names:
            del self._quotas[name]


def _exceeded(tenant: str, limit: str, kind: str, wait: float) -> Fault:
    return Fault(
        Code.RESOURCE_EXHAUSTED,
        Reason.REASON_QUOTA_EXCEEDED,
        f"tenant {tenant} may have {limit}; try again in {wait:.3f} s",
        metadata={"tenant": tenant, "quota": kind, "limit": limit},
        retry_after_s=wait,
    )
