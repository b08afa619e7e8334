"""How much each tenant may use: rows and bytes per second by token buckets, and a count of its requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from google.protobuf.message import Message

from headrace.access.specs import QuotaSpec
from headrace.hop.errors import Fault
from headrace.hop.limiters import TENANT_BYTES, TENANT_CONCURRENCY, TENANT_ROWS, Limiter
from headrace.hop.resilience.token_bucket import TokenBucket
from services.ingress.admission.admission_control import no_slot
from services.ingress.admission.shared_counters import BYTES, ROWS, SharedCounters, TenantCounters
from services.ingress.documents.catalog import Tenant
from services.ingress.ports import Log
from services.ingress.request_context import RequestContext
from services.ingress.sharing.lease import GRANTED_S, Grant, Lease, Use, local_slots, unleased_slots

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
    """How much of its limits one tenant has used. `counters`: its use in other processes; `lease`: what this door may use, if
    doors of several machines share the limits."""

    def __init__(
        self,
        tenant: str,
        limits: QuotaSpec,
        clock: Callable[[], float],
        counters: TenantCounters | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.limits = limits
        self.in_flight = 0
        self._tenant = tenant
        self._clock = clock
        self._concurrency = limits.concurrency
        self._rows = _bucket(limits.rows_per_s, limits.rows_burst, clock())
        self._bytes = _bucket(limits.bytes_per_s, limits.bytes_burst, clock())
        self._unlimited = self._rows is None and self._bytes is None
        self._counters = counters
        self._lease = lease

    def acquire(self) -> None:
        """Counts a request that begins; `release` must follow. If it raises QuotaFault, nothing is counted."""
        counters, lease = self._counters, self._lease
        if self._concurrency is not None:
            elsewhere = 0 if counters is None or lease is not None else counters.in_flight_elsewhere()
            if self.in_flight + elsewhere >= (self._concurrency if lease is None else lease.slots):
                if lease is not None:
                    lease.refuse()
                limit = f"{self._concurrency} requests at once"
                raise QuotaFault(
                    self._tenant, TENANT_CONCURRENCY, limit, wait=_RETRY_CONCURRENCY_S, empty=True
                )
        self.in_flight += 1
        if counters is not None:
            counters.begin()
        if lease is not None:
            lease.begin(self.in_flight)

    def charge(self, rows: int, size_bytes: int) -> None:
        """Takes what a request costs. If it raises QuotaFault, nothing is taken.

        A request that costs more than a bucket can hold passes when the bucket is full, and leaves a debt.
        """
        if self._unlimited:
            return
        now, counters, lease = self._clock(), self._counters, self._lease
        if counters is not None and counters.others:
            self._look(now, counters)
        if lease is not None:
            lease.asked_rows += rows
            lease.asked_bytes += size_bytes
            if now >= lease.until:
                self._take_part(lease.doors)
        by_rows, by_bytes = self._rows, self._bytes
        if by_rows is not None and (wait := by_rows.wait(now, rows)) > 0.0:
            limit = f"{_number(self.limits.rows_per_s)} rows per second"
            raise QuotaFault(self._tenant, TENANT_ROWS, limit, wait=wait, empty=by_rows.empty)
        if by_bytes is not None and (wait := by_bytes.wait(now, size_bytes)) > 0.0:
            limit = f"{_number(self.limits.bytes_per_s)} bytes per second"
            raise QuotaFault(self._tenant, TENANT_BYTES, limit, wait=wait, empty=by_bytes.empty)
        if by_rows is not None:
            by_rows.spend(rows)
            if counters is not None:
                counters.take(ROWS, rows)
        if by_bytes is not None:
            by_bytes.spend(size_bytes)
            if counters is not None:
                counters.take(BYTES, size_bytes)
        if lease is not None:
            lease.rows += rows
            lease.bytes += size_bytes

    def release(self) -> None:
        """Ends a request that `acquire` counted."""
        self.in_flight -= 1
        if self._counters is not None:
            self._counters.end()

    def look(self) -> None:
        """Accounts for what was taken in other processes."""
        if self._counters is not None:
            self._look(self._clock(), self._counters)

    @property
    def leasing(self) -> bool:
        """Whether there is something to tell to the other doors."""
        return self._lease is not None and (self._lease.used or self.in_flight > 0)

    def tell(self, passed_s: float) -> Use:
        """What this door used since it told it last, `passed_s` ago."""
        assert self._lease is not None, "only quotas that doors share are told"
        return self._lease.tell(self.in_flight, passed_s, self._concurrency or 0)

    def granted(self, grant: Grant, told_at: float, doors: int) -> None:
        """This door has a part of the limits until its next exchange, for what it told at `told_at`; `doors` share them."""
        lease, limits, now = self._lease, self.limits, self._clock()
        assert lease is not None, "only quotas that doors share are granted"
        lease.slots, lease.doors, lease.until = grant.slots, doors, told_at + GRANTED_S
        # What was taken since it was told is not in the tokens yet.
        if self._rows is not None and limits.rows_per_s is not None:
            rate, burst = limits.rows_per_s, limits.rows_burst or limits.rows_per_s
            self._rows.lease(rate, burst, grant.rows_tokens - lease.rows, grant.rows_share, now)
        if self._bytes is not None and limits.bytes_per_s is not None:
            rate, burst = limits.bytes_per_s, limits.bytes_burst or limits.bytes_per_s
            self._bytes.lease(rate, burst, grant.bytes_tokens - lease.bytes, grant.bytes_share, now)

    def alone(self, doors: int, *, away: bool) -> None:
        """This door has no lease. `away`: nor can it get one, so it has its part of what `doors` may do; else it is the first
        time that the tenant comes, or the first time in a while."""
        assert self._lease is not None, "only quotas that doors share are granted"
        if self._concurrency is not None:
            self._lease.slots = (local_slots if away else unleased_slots)(self._concurrency, doors)
        self._take_part(doors)

    def _take_part(self, doors: int) -> None:
        """This door has no tokens of its own, but its part of what `doors` may take."""
        limits, now = self.limits, self._clock()
        if self._lease is not None:
            self._lease.until = float("inf")
        if self._rows is not None and limits.rows_per_s is not None:
            self._rows.resize(
                limits.rows_per_s / doors, (limits.rows_burst or limits.rows_per_s) / doors, now
            )
        if self._bytes is not None and limits.bytes_per_s is not None:
            burst = limits.bytes_burst or limits.bytes_per_s
            self._bytes.resize(limits.bytes_per_s / doors, burst / doors, now)

    def _look(self, now: float, counters: TenantCounters) -> None:
        for place, bucket in ((ROWS, self._rows), (BYTES, self._bytes)):
            if bucket is not None:
                taken, largest = counters.taken_elsewhere(place)
                if taken:
                    bucket.spent_elsewhere(now, taken, largest)


class Quotas:
    """The quotas of all tenants. `clock`: monotonic seconds; `shared`: counters shared with other processes; `began`: told each
    quota that begins, if doors of several machines lease parts of it."""

    def __init__(
        self,
        clock: Callable[[], float],
        shared: SharedCounters | None = None,
        began: Callable[[str, Quota], None] | None = None,
    ) -> None:
        self._clock = clock
        self._shared = shared
        self._began = began
        self._quotas: dict[str, Quota] = {}

    @property
    def current(self) -> Mapping[str, Quota]:
        """The quotas of tenants that came, by name."""
        return self._quotas

    def acquire(self, tenant: Tenant) -> Quota:
        """Counts a request of `tenant`; call `charge` on the result when its size is known, and `release` when it has ended.

        Raises QuotaFault (RESOURCE_EXHAUSTED) with a retry hint.
        """
        quota = self._quotas.get(tenant.name)
        if quota is None or quota.limits is not tenant.limits:
            quota = self._renewed(quota, tenant)
        quota.acquire()
        return quota

    def share(self, shared: SharedCounters) -> None:
        """Counts together with other processes from now on. Earlier use is forgotten, so a tenant may get one more burst."""
        self._shared = shared
        self._quotas.clear()

    def look(self) -> None:
        """Finds out which processes started or ended, and what they took. Called periodically, not in a request."""
        if self._shared is not None:
            self._shared.refresh()
            for quota in self._quotas.values():
                quota.look()

    def _renewed(self, old: Quota | None, tenant: Tenant) -> Quota:
        if old is not None and old.limits == tenant.limits:
            old.limits = tenant.limits
            return old
        # Requests that began under the old quota are released on the old object. A changed limit begins with an empty count.
        counters = self._shared.counters(tenant.name) if self._shared is not None else None
        if counters is not None:
            for place in (ROWS, BYTES):
                counters.taken_elsewhere(place)  # before these buckets began
        lease = Lease() if self._began is not None else None
        quota = Quota(tenant.name, tenant.limits, self._clock, counters, lease)
        self._quotas[tenant.name] = quota
        if self._began is not None:
            self._began(tenant.name, quota)
        return quota

    def keep_only(self, names: set[str]) -> None:
        """Forgets tenants that no longer exist."""
        for name in self._quotas.keys() - names:
            del self._quotas[name]


class SharedQuotas:
    """Quotas that count with the other processes of the machine, as soon as their folder can be used."""

    def __init__(self, folder: Path | None, quotas: Quotas, log: Log) -> None:
        self.quotas = quotas
        self._folder = folder
        self._log = log
        self._shared: SharedCounters | None = None
        self._complained = False

    async def look(self) -> None:
        if self._shared is None and self._folder is not None:
            try:
                self._shared = SharedCounters(self._folder)
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    self._log.error("quotas are counted by each process alone", error=str(error))
                return
            self.quotas.share(self._shared)
            if self._complained:
                self._log.info("quotas are counted together again")
        self.quotas.look()

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()


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
