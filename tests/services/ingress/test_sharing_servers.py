"""Limits and keys of calls on a Redis of several servers: real Sentinels that choose a new master, and a real cluster."""

import asyncio
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.access.specs import QuotaSpec
from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.admission.quotas import Quotas
from services.ingress.admission.row_key import RowKey
from services.ingress.documents.catalog import Tenant
from services.ingress.idempotency.redis import RedisKeys
from services.ingress.idempotency.settings import Idempotency
from services.ingress.idempotency.store import Call, Claim, State
from services.ingress.sharing.books import Books
from services.ingress.sharing.leases import LeaseSource
from services.ingress.sharing.metrics import ShareMetrics
from tests.libs.state.redis_servers import client, cluster, watched
from tests.services.monitoring.monitoring_outcomes import Log

pytestmark = pytest.mark.slow
WHO = [Tenant(f"t{i}", frozenset("*"), QuotaSpec(rows_per_s=10, concurrency=4), 1) for i in range(20)]


class Part:
    """A door with a real clock."""

    def __init__(self, url: str, name: str) -> None:
        self.calls = RedisCalls(url, 1.0, time.monotonic, pause_s=0.05)
        self.registry, self.log = CollectorRegistry(), Log()
        books = Books(self.calls, name, RowKey(None, print))
        self.leased = LeaseSource(books, time.monotonic, ShareMetrics(self.registry), self.log)
        self.quotas = Quotas(time.monotonic, self.leased)

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)

    async def leases(self) -> int:
        """Asks for all tenants; how many got a lease."""
        held = [self.quotas.acquire(who) for who in WHO]
        await self.leased.refresh()
        for quota in held:
            quota.release()
        return sum(lease.granted_at is not None for lease in self.leased._leases.values())


async def healed(part: Part) -> None:
    async with asyncio.timeout(60):
        while await part.leases() < len(WHO) or part.value("headrace_quota_alone") != 0:
            await asyncio.sleep(0.1)


async def test_a_new_master_is_followed(tmp_path: Path) -> None:
    with watched(tmp_path) as (servers, master, url):
        one, two = Part(url, "one"), Part(url, "two")
        for part in (one, two, one):
            await part.leased.start()
        assert await one.leases() == await two.leases() == len(WHO)
        assert one.leased.doors == 2
        keys = RedisKeys(
            one.calls, Idempotency(kept_s=1000.0, lease_s=50.0, max_keys=100, max_bytes=10_000), time.time
        )
        assert await keys.claim(Call("t", "k", b"f", "token")) == Claim(State.CLAIMED)
        servers.kill(master)
        with pytest.raises(RedisDownError):
            await one.calls.ask([("PING",)], insist=True)
        for part in (one, two):
            await healed(part)
        # The replica had it.
        assert (await keys.claim(Call("t", "k", b"f", "other"))).state is State.BUSY
        for part in (one, two):
            await part.calls.close()


async def test_a_cluster_has_tenants_on_all_its_servers(tmp_path: Path) -> None:
    with cluster(tmp_path) as (_, ports, url):
        one, two = Part(url, "one"), Part(url, "two")
        for part in (one, two, one):
            await part.leased.start()
        assert one.leased.doors == 2
        assert await one.leases() == await two.leases() == len(WHO)
        assert all(client(port).dbsize() > 1 for port in ports)
        keys = RedisKeys(
            one.calls, Idempotency(kept_s=1000.0, lease_s=50.0, max_keys=100, max_bytes=10_000), time.time
        )
        assert await keys.claim(Call("t", "k", b"f", "token")) == Claim(State.CLAIMED)
        for part in (one, two):
            await part.calls.close()
