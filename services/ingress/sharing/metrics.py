"""What is told of limits that doors share. Tenants are those of control."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Gauge

from services.ingress.sharing.division import Grant


class ShareMetrics:
    """Instruments in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alone = Gauge(
            "headrace_quota_alone",
            "1 while this door can't share limits of tenants with the others, so that it has its part of each; else 0.",
            registry=registry,
        )
        self.refused = Gauge(
            "headrace_quota_refused_tenants",
            "Tenants whose limits alone can't be shared, as Redis holds something else for them.",
            registry=registry,
        )
        self.doors = Gauge(
            "headrace_quota_doors",
            "Doors that share limits, as last heard, this one included.",
            registry=registry,
        )
        self._shares = Gauge(
            "headrace_quota_share_ratio",
            "The part of a tenant's rows per second that this door may use now.",
            ["tenant"],
            registry=registry,
        )

    def share(self, tenant: str, grant: Grant) -> None:
        """Tells of a lease."""
        self._shares.labels(tenant).set(grant.shares[0])

    def unleased(self, tenant: str, doors: int) -> None:
        """A lease is over: this door has the part of one of `doors`."""
        self._shares.labels(tenant).set(1 / doors)

    def forget(self, tenant: str) -> None:
        """A tenant is gone."""
        with suppress(KeyError):
            self._shares.remove(tenant)
