"""What one door may use of a tenant's limits until its next exchange with Redis, and what it used since the last. Pure."""

from __future__ import annotations

from headrace.access.specs import QuotaSpec
from services.ingress.sharing.division import Grant, Limits, Use
from services.ingress.sharing.share import Buckets

# How much of a changed demand is believed at once: one exchange is a tenth of a second, in which few requests may come.
_BELIEVED = 0.5
# A door that holds no lease of a tenant lets this part of its local share of requests begin: the others learn of them at the
# next exchange. More would go beyond the limit each time that a tenant comes back, less would refuse an ordinary burst.
_UNLEASED = 0.5
# For how long after it told its use a door may use the tokens that it got for it. A door that was quiet for longer has its local
# part of them, so that the others may have what it does not use.
GRANTED_S = 0.25
_NEVER = float("inf")


class Lease:
    """A `Share`. Not for several threads. Times: monotonic seconds."""

    def __init__(self, limits: QuotaSpec, buckets: Buckets) -> None:
        self._limits = limits
        self._buckets = buckets
        self._rates = limits.rows_per_s or 0.0, limits.bytes_per_s or 0.0
        # One second's worth is the burst that nobody gave.
        bursts = limits.rows_burst or self._rates[0], limits.bytes_burst or self._rates[1]
        self._bursts = max(bursts[0], 1.0), max(bursts[1], 1.0)
        # When it last told, and last got something; None: that is over.
        self.told_at = -_NEVER
        self.granted_at: float | None = None
        self._slots, self._doors, self._until = 0, 1, _NEVER
        # Since the last exchange: taken, and refused.
        self._rows = self._bytes = self._lacked_rows = self._lacked_bytes = 0.0
        self._in_flight = self._refused = self._peak = 0
        self._demands = (0.0, 0.0)

    def slots(self, limit: int) -> int:  # noqa: ARG002 - the other doors' part of it is in the lease
        return self._slots

    def begin(self, in_flight: int) -> None:
        self._in_flight = in_flight
        if in_flight > self._peak:
            self._peak = in_flight

    def refuse(self) -> None:
        self._refused += 1

    def end(self) -> None:
        self._in_flight -= 1

    def update(self, now: float) -> None:
        if now >= self._until:
            self._use_local_part(self._doors, now)

    def lack(self, rows: int, size_bytes: int) -> None:
        self._lacked_rows += rows
        self._lacked_bytes += size_bytes

    def take(self, rows: int, size_bytes: int) -> None:
        self._rows += rows
        self._bytes += size_bytes

    @property
    def due(self) -> bool:
        """Whether there is something to tell to the other doors."""
        return bool(self._peak or self._refused or self._rows or self._bytes) or self._in_flight > 0

    def report_usage(self, now: float, every_s: float) -> Use:
        """What to tell Redis; counting begins anew. `every_s`: how long ago the last time was, if it was the first.

        If the answer gets lost, what was taken is forgotten: it would be taken twice if Redis had heard of it.
        """
        passed = max(now - self.told_at, 1e-3) if self.told_at > -_NEVER else every_s
        self.told_at = now
        old_rows, old_bytes = self._demands
        rows = old_rows + _BELIEVED * ((self._rows + self._lacked_rows) / passed - old_rows)
        size = old_bytes + _BELIEVED * ((self._bytes + self._lacked_bytes) / passed - old_bytes)
        self._demands = rows, size
        # Beyond the limit there is nothing to want.
        wanted = min(max(self._peak, self._in_flight) + self._refused, self._limits.concurrency or 0)
        told = Use((self._rows, self._bytes), (rows, size), self._in_flight, wanted)
        self._rows = self._bytes = self._lacked_rows = self._lacked_bytes = 0.0
        self._refused = self._peak = 0
        return told

    def restore_usage(self, use: Use) -> None:
        """Nobody has heard what was told last, so that it is told again."""
        self._rows += use.taken[0]
        self._bytes += use.taken[1]

    def limits(self, doors: int) -> Limits:
        """For the exchange, at one of `doors`."""
        # One that has heard of no other door may be the first that greets a Redis that lost its data. Alone it gets its slots by
        # what it wants; all of them would leave the next door without any until this one asks again.
        slots = self._limits.concurrency or 0
        return Limits(self._rates, self._bursts, slots, unleased_slots(slots, max(doors, 2)))

    def apply_grant(self, grant: Grant, doors: int, now: float) -> None:
        """This door has a part of the limits until its next exchange, for what it told last."""
        self._slots, self._doors, self.granted_at = grant.slots, doors, now
        self._until = self.told_at + GRANTED_S
        # What was taken since it was told is not in the tokens yet.
        untold = self._rows, self._bytes
        for i, bucket in enumerate(self._buckets):
            if bucket is not None:
                tokens = grant.tokens[i] - untold[i]
                bucket.lease(self._rates[i], self._bursts[i], tokens, grant.shares[i], now)

    def fall_back_to_local(self, doors: int, now: float, *, disconnected: bool) -> None:
        """This door has no lease. `disconnected`: nor can it get one, so it has its part of what `doors` may do; else it is the
        first time that the tenant comes, or the first time in a while."""
        self.granted_at = None
        if (limit := self._limits.concurrency) is not None:
            self._slots = (local_slots if disconnected else unleased_slots)(limit, doors)
        self._use_local_part(doors, now)

    def _use_local_part(self, doors: int, now: float) -> None:
        """This door has no tokens of its own, but its part of what `doors` may take."""
        self._until = _NEVER
        for bucket, rate, burst in zip(self._buckets, self._rates, self._bursts, strict=True):
            if bucket is not None:
                bucket.resize(rate / doors, burst / doors, now)


def local_slots(limit: int, doors: int) -> int:
    """Requests in flight at one of several doors that can't ask Redis: at least one, so that no tenant is locked out."""
    return max(limit // doors, 1)


def unleased_slots(limit: int, doors: int) -> int:
    """Requests that a door may begin for a tenant before it has a lease."""
    return limit if doors == 1 else max(int(limit // doors * _UNLEASED), 1)
