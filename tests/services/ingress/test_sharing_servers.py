"""Limits and keys of calls on a Redis of several servers: real Sentinels that choose a new master, and a real cluster."""

import time
from functools import partial
from pathlib import Path

import pytest

from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.idempotency.redis import RedisKeys
from services.ingress.idempotency.settings import Idempotency
from services.ingress.idempotency.store import Call, Claim, State
from services.ingress.sharing.leases import LeaseSource
from tests.libs.state.redis_servers import client, cluster, watched
from tests.services.ingress.sharing_doors import Sharer, introduce, tenant
from tests.services.waiting import until

pytestmark = pytest.mark.slow
WHO = [tenant(f"t{i}", rows_per_s=10, concurrency=4) for i in range(20)]
RULES = Idempotency(kept_s=1000.0, lease_s=50.0, max_keys=100, max_bytes=10_000)


async def two_doors(url: str) -> tuple[RedisCalls, list[Sharer]]:
    """The calls of the first, and both, which know each other."""
    calls, now = [RedisCalls(url, 1.0, time.monotonic, pause_s=0.05) for _ in range(2)], [time.monotonic()]
    doors = [Sharer(each, now, f"door{i}") for i, each in enumerate(calls)]
    await introduce(doors)
    assert doors[0].metric("headrace_quota_doors") == 2
    return calls[0], doors


async def leases(door: Sharer) -> int:
    """Asks for all tenants; how many got a lease."""
    door.now[0] = time.monotonic()
    for who in WHO:
        door.hold(who)
    await door.refresh()
    while door.held:
        door.let_go()
    assert isinstance(door.source, LeaseSource)
    return sum(lease.granted_at is not None for lease in door.source._leases.values())


async def healed(door: Sharer) -> bool:
    return await leases(door) == len(WHO) and door.metric("headrace_quota_alone") == 0


async def test_a_new_master_is_followed(tmp_path: Path) -> None:
    with watched(tmp_path) as (servers, master, url):
        calls, doors = await two_doors(url)
        assert [await leases(door) for door in doors] == [len(WHO)] * 2
        keys = RedisKeys(calls, RULES, time.time)
        assert await keys.claim(Call("t", "k", b"f", "token")) == Claim(State.CLAIMED)
        servers.kill(master)
        with pytest.raises(RedisDownError):
            await calls.ask([("PING",)], insist=True)
        for door in doors:
            await until(partial(healed, door))
        # The replica had it.
        assert (await keys.claim(Call("t", "k", b"f", "other"))).state is State.BUSY
        for door in doors:
            await door.source.close()


async def test_a_cluster_has_tenants_on_all_its_servers(tmp_path: Path) -> None:
    with cluster(tmp_path) as (_, ports, url):
        calls, doors = await two_doors(url)
        assert [await leases(door) for door in doors] == [len(WHO)] * 2
        assert all(client(port).dbsize() > 1 for port in ports)
        keys = RedisKeys(calls, RULES, time.time)
        assert await keys.claim(Call("t", "k", b"f", "token")) == Claim(State.CLAIMED)
        for door in doors:
            await door.source.close()
