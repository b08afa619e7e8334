"""Where the doors of one installation count a tenant's use together: on one machine by files, on several by a Redis."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

from headrace.access.specs import QuotaSpec
from headrace.hop.resilience.limiter import TokenBucket

Buckets = tuple[TokenBucket | None, TokenBucket | None]
"""Of rows and of bytes, at this door; None: there is no limit."""


class Share(Protocol):
    """What the other doors leave of one tenant's limits to this one. Called in requests, so nothing here waits."""

    def slots(self, limit: int) -> int:
        """How many requests may be in flight at this door, of so many at all."""
        ...

    def begin(self, in_flight: int) -> None:
        """A request has begun; so many are in flight at this door with it."""
        ...

    def refuse(self) -> None:
        """A request got no slot."""
        ...

    def end(self) -> None:
        """A request has ended."""
        ...

    def update(self, now: float) -> None:
        """Brings the buckets up to date, before a request is charged."""
        ...

    def lack(self, rows: int, size_bytes: int) -> None:
        """So much was asked for, and refused."""
        ...

    def take(self, rows: int, size_bytes: int) -> None:
        """So much was charged."""
        ...


class Source(Protocol):
    """All tenants' shares."""

    def share(self, tenant: str, limits: QuotaSpec, buckets: Buckets) -> Share | None:
        """Begins to share a tenant's limits; None: this door counts alone. The buckets are full."""
        ...

    async def start(self) -> None:
        """Raises ConfigError if it can't be shared with what is there."""
        ...

    async def refresh(self) -> bool:
        """Tells the other doors, and hears of them; called again and again, by no request. True: all shares must begin anew."""
        ...

    def keep_only(self, names: AbstractSet[str]) -> None:
        """Forgets all other tenants."""
        ...

    async def close(self) -> None:
        """The other doors need not wait until this one is forgotten."""
        ...
