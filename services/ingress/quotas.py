"""How much each tenant may use: a token bucket for its rate, a count for what it has in flight."""

from __future__ import annotations

from collections.abc import Callable

from headrace.hop.errors import Code, Fault, Reason
from headrace.state.tenants import QuotaSpec
from services.ingress.tenants import Tenant

_RETRY_CONCURRENCY_S = 0.05


class TokenBucket:
    """Lets `rate` requests per second through, and up to `burst` at once. Time is passed in, in seconds."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, max(burst, 1.0)
        self._tokens, self._at = self._burst, now

    def take(self, now: float) -> float:
        """0.0 if a request may pass (its token is taken), else the seconds until one might."""
        # A clock that stands still or goes back must not make tokens.
        passed = now - self._at
        if passed > 0:
            self._tokens = min(self._burst, self._tokens + passed * self._rate)
            self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class Quota:
    """What one tenant has used of its limits."""

    __slots__ = ("_bucket", "_concurrency", "in_flight", "limits")

    def __init__(self, limits: QuotaSpec, now: float) -> None:
        self.limits = limits
        self.in_flight = 0
        rate = limits.rate_per_s
        self._bucket = None if rate is None else TokenBucket(rate, limits.burst or rate, now)
        self._concurrency = limits.concurrency

    def enter(self, now: float, tenant: str) -> None:
        """Counts a request that begins; `leave` must follow. Raises Fault RESOURCE_EXHAUSTED, counting nothing."""
        # Concurrency first: a request that is refused for it must not cost a token.
        if self._concurrency is not None and self.in_flight >= self._concurrency:
            raise _exceeded(
                tenant, f"{self._concurrency} requests at once", "concurrency", _RETRY_CONCURRENCY_S
            )
        if self._bucket is not None:
            wait = self._bucket.take(now)
            if wait > 0:
                raise _exceeded(tenant, f"{self.limits.rate_per_s:g} requests per second", "rate", wait)
        self.in_flight += 1

    def leave(self) -> None:
        """Ends a request that `enter` counted."""
        self.in_flight -= 1


class Quotas:
    """The quotas of all tenants. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
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

    def _renewed(self, old: Quota | None, tenant: Tenant) -> Quota:
        if old is not None and old.limits == tenant.limits:
            old.limits = tenant.limits
            return old
        # Requests of the old quota leave the old object; a changed limit begins with an empty count.
        quota = self._quotas[tenant.name] = Quota(tenant.limits, self._clock())
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
