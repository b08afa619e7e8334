"""How much each tenant may use: rows and bytes per second by token buckets, and a count of its requests in flight."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from google.protobuf.message import Message

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import Fault
from headrace.hop.limiters import TENANT_BYTES, TENANT_CONCURRENCY, TENANT_ROWS, Limiter
from headrace.hop.resilience.limiter import TokenBucket
from services.ingress.admission.admission_control import no_slot
from services.ingress.documents.catalog import Tenant
from services.ingress.request_context import RequestContext
from services.ingress.sharing.share import Source

_RETRY_CONCURRENCY_S = 0.05


class QuotaFault(Fault):
    """A refusal by one of the limiters of a tenant; `wait`: seconds until it may pass; `limit`: a description of the limit.

    `empty`: a request of one row would have been refused, too. Only then may Envoy repeat the refusal to other requests
    without asking the application.
    """

    def __init__(
        self,
        tenant: str,
        limiter: Limiter,
        limit: str,
        *,
        wait: float,
        empty: bool,
    ) -> None:
        quota = limiter.name.removeprefix("tenant_")
        super().__init__(
            limiter.code,
            limiter.reason,
            f"tenant {tenant} may have {limit}; try again in {_seconds(wait)}",
            metadata=limiter.metadata(tenant=tenant, quota=quota, limit=limit),
            retry_after_s=wait,
        )
        self.empty = empty


class Quota:
    """How much of its limits one tenant has used. `share`: what other doors leave of them to this one; None: it counts alone."""

    def __init__(
        self, tenant: str, limits: QuotaSpec, clock: Callable[[], float], source: Source | None = None
    ) -> None:
        self.limits = limits
        self.in_flight = 0
        self._tenant = tenant
        self._clock = clock
        self._concurrency = limits.concurrency
        now = clock()
        self._rows = _bucket(limits.rows_per_s, limits.rows_burst, now)
        self._bytes = _bucket(limits.bytes_per_s, limits.bytes_burst, now)
        self._unlimited = self._rows is None and self._bytes is None
        buckets = self._rows, self._bytes
        self._share = None if source is None else source.share(tenant, limits, buckets)

    def acquire(self) -> None:
        """Counts a request that begins; `release` must follow. If it raises QuotaFault, nothing is counted."""
        share, most = self._share, self._concurrency
        if most is not None and self.in_flight >= (most if share is None else share.slots(most)):
            if share is not None:
                share.refuse()
            limit = f"{most} requests at once"
            raise QuotaFault(self._tenant, TENANT_CONCURRENCY, limit, wait=_RETRY_CONCURRENCY_S, empty=True)
        self.in_flight += 1
        if share is not None:
            share.begin(self.in_flight)

    def charge(self, rows: int, size_bytes: int) -> None:
        """Takes what a request costs. If it raises QuotaFault, nothing is taken.

        A request that costs more than a bucket can hold passes when the bucket is full, and leaves a debt.
        """
        if self._unlimited:
            return
        now, share = self._clock(), self._share
        if share is not None:
            share.update(now)
        by_rows, by_bytes = self._rows, self._bytes
        if by_rows is not None and (wait := by_rows.wait(now, rows)) > 0.0:
            limit = f"{_number(self.limits.rows_per_s)} rows per second"
            raise self._lacked(rows, size_bytes, TENANT_ROWS, limit, wait, empty=by_rows.empty)
        if by_bytes is not None and (wait := by_bytes.wait(now, size_bytes)) > 0.0:
            limit = f"{_number(self.limits.bytes_per_s)} bytes per second"
            raise self._lacked(rows, size_bytes, TENANT_BYTES, limit, wait, empty=by_bytes.empty)
        if by_rows is not None:
            by_rows.spend(rows)
        if by_bytes is not None:
            by_bytes.spend(size_bytes)
        if share is not None:
            share.take(rows, size_bytes)

    def release(self) -> None:
        """Ends a request that `acquire` counted."""
        self.in_flight -= 1
        if self._share is not None:
            self._share.end()

    def _lacked(
        self, rows: int, size_bytes: int, limiter: Limiter, limit: str, wait: float, *, empty: bool
    ) -> QuotaFault:
        if self._share is not None:
            self._share.lack(rows, size_bytes)
        return QuotaFault(self._tenant, limiter, limit, wait=wait, empty=empty)


class Quotas:
    """The quotas of all tenants. `clock`: monotonic seconds; `source`: where doors share them; None: this one counts alone."""

    def __init__(self, clock: Callable[[], float], source: Source | None = None) -> None:
        self._clock = clock
        self._source = source
        self._quotas: dict[str, Quota] = {}

    def acquire(self, tenant: Tenant) -> Quota:
        """Counts a request of `tenant`; call `charge` on the result when its size is known, and `release` when it has ended.

        Raises QuotaFault (RESOURCE_EXHAUSTED) with a retry hint.
        """
        quota = self._quotas.get(tenant.name)
        if quota is None or quota.limits is not tenant.limits:
            quota = self._renewed(quota, tenant)
        quota.acquire()
        return quota

    async def refresh(self) -> None:
        """Shares with the other doors. Called again and again, not in a request."""
        # Earlier use is forgotten if all begin anew, so a tenant may get one more burst.
        if self._source is not None and await self._source.refresh():
            self._quotas.clear()

    def _renewed(self, old: Quota | None, tenant: Tenant) -> Quota:
        if old is not None and old.limits == tenant.limits:
            old.limits = tenant.limits
            return old
        # Requests that began under the old quota are released on the old object. A changed limit begins with an empty count.
        quota = self._quotas[tenant.name] = Quota(tenant.name, tenant.limits, self._clock, self._source)
        return quota

    def keep_only(self, names: set[str]) -> None:
        """Forgets tenants that no longer exist."""
        for name in self._quotas.keys() - names:
            del self._quotas[name]
        if self._source is not None:
            self._source.keep_only(names)


def _bucket(rate: float | None, burst: float | None, now: float) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate, burst or rate, now)


def _number(value: float | None) -> str:
    return f"{value:.15g}"


def _seconds(wait: float) -> str:
    return f"{wait:.3f} s" if wait < 100 else str(timedelta(seconds=round(wait)))


def charge(rows: int, context: RequestContext, request: Message | None = None) -> None:
    """Holds slots and charges the tenant's quota for what a request costs. Raises Fault RESOURCE_EXHAUSTED.

    `request`: None if the protocol has measured the message.
    """
    if rows > 1 and context.admission is not None:
        tenant = context.caller.tenant
        slots = context.admission.widen(tenant.name, tenant.priority, rows)
        if slots is None:
            raise no_slot()
        context.slots += slots
    quota = context.quota
    if quota is None:
        return
    size = context.size_bytes
    if not size and request is not None and quota.limits.bytes_per_s is not None:
        size = request.ByteSize()  # this serializes it again
    quota.charge(rows, size)
