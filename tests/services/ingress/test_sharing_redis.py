"""Doors that share by a real Redis: it is killed, hangs, is full or emptied, or holds something else; doors write at one time."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis

from headrace.hop.config import ConfigError
from headrace.state.redis import RedisCalls
from services.ingress.sharing.books import FORMAT
from tests.libs.state.valkey import Valkey
from tests.services.ingress.sharing_doors import Sharer, introduce, run, tenant

RATE, LIMIT = 200.0, 40
DOORS_KEY = "headrace:quotas:{doors}:format"


def sharer(server: Valkey, now: list[float], name: str, timeout_s: float = 5.0) -> Sharer:
    return Sharer(RedisCalls(server.url, timeout_s, lambda: now[0], pause_s=0.05), now, name)


@pytest.fixture
async def doors(server: Valkey) -> AsyncIterator[list[Sharer]]:
    Redis.from_url(server.url).flushall()
    now = [1_000.0]
    made = [sharer(server, now, name) for name in ("one", "two")]
    await introduce(made)
    yield made
    for door in made:
        await door.source.close()


def alone(doors: list[Sharer]) -> list[float | None]:
    return [door.metric("headrace_quota_alone") for door in doors]


async def test_without_redis_each_door_has_its_part_and_it_heals(doors: list[Sharer], server: Valkey) -> None:
    who = tenant(rows_per_s=RATE, concurrency=LIMIT)
    await run(doors, who, 3, (1_800, 10))
    server.kill()
    try:
        let = await run(doors, who, 10, (1_000, 1_000))
        assert RATE * 0.95 < let < 2 * RATE
        assert alone(doors) == [1, 1]
        while doors[0].hold(who):
            pass
        assert len(doors[0].held) == LIMIT / 2
        while doors[0].held:
            doors[0].let_go()
    finally:
        server.start()
    await run(doors, who, 5, (1_000, 1_000))
    assert alone(doors) == [0, 0]
    assert await run(doors, who, 10, (1_000, 1_000)) == pytest.approx(RATE, rel=0.02)
    assert doors[0].log.events == [
        "limits of tenants are not shared: each door has its part of them",
        "limits of tenants are shared by the doors again",
    ]


async def test_a_redis_that_loses_its_data_gives_one_burst_more(doors: list[Sharer], server: Valkey) -> None:
    who = tenant(rows_per_s=RATE)
    await run(doors, who, 5, (1_000, 1_000))
    Redis.from_url(server.url).flushall()
    assert await run(doors, who, 10, (1_000, 1_000)) <= RATE * 1.12
    assert alone(doors) == [0, 0]
    assert doors[0].metric("headrace_quota_doors") == 2


async def test_a_full_redis_is_as_one_that_is_away(doors: list[Sharer], server: Valkey) -> None:
    redis: Any = Redis.from_url(server.url)
    who = tenant(rows_per_s=RATE)
    await run(doors, who, 2, (50, 50))
    redis.config_set("maxmemory", 1)
    try:
        assert await run(doors, who, 4, (50, 50)) == pytest.approx(100, rel=0.05)
        assert alone(doors) == [1, 1]
        late = sharer(server, [1_000.0], "late")
        await late.source.start()  # it serves all the same
        assert alone([late]) == [1]
        await late.source.close()
    finally:
        redis.config_set("maxmemory", 0)
    await run(doors, who, 2, (50, 50))
    assert alone(doors) == [0, 0]


async def test_a_redis_that_hangs_costs_no_request_anything(server: Valkey) -> None:
    Redis.from_url(server.url).flushall()
    now = [1_000.0]
    door = sharer(server, now, "one", timeout_s=1.0)
    await door.source.start()
    server.signal(signal.SIGSTOP)
    try:
        who = tenant(rows_per_s=RATE)
        looking = asyncio.create_task(door.refresh())
        await asyncio.sleep(0)
        assert door.passes(who, 10) == 10
        await looking
        now[0] += 2
        await door.refresh()
        assert door.passes(who, 10) == 10
        assert alone([door]) == [1]
    finally:
        server.signal(signal.SIGCONT)
        await door.source.close()


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda r: r.set(DOORS_KEY, "headrace quotas 99"), "says 'headrace quotas 99'.*another version"),
        # What the version before wrote, with its Lua.
        (lambda r: r.set(DOORS_KEY, "headrace quotas 1"), "another version"),
        (lambda r: r.lpush(DOORS_KEY, "x"), "can't be used"),
    ],
)
async def test_a_redis_that_holds_something_else_is_refused(
    doors: list[Sharer], server: Valkey, write: Any, why: str
) -> None:
    redis: Any = Redis.from_url(server.url)
    who = tenant(rows_per_s=RATE)
    await run(doors, who, 1, (50, 50))
    redis.delete(DOORS_KEY)
    write(redis)
    late = sharer(server, [1_000.0], "late")
    with pytest.raises(ConfigError, match=why) as caught:
        await late.source.start()
    assert "sock" not in str(caught.value)
    assert "database" in str(caught.value)
    await late.source.close()
    # What served before goes on, with its part.
    assert await run(doors, who, 3, (50, 50)) == pytest.approx(100, rel=0.05)
    assert alone(doors) == [1, 1]
    redis.delete(DOORS_KEY)
    await run(doors, who, 2, (50, 50))
    assert alone(doors) == [0, 0]
    assert redis.get(DOORS_KEY).startswith(FORMAT.encode())


async def test_rubbish_for_one_tenant_concerns_that_tenant_alone(doors: list[Sharer], server: Valkey) -> None:
    redis: Any = Redis.from_url(server.url)
    bad, good = tenant("bad", rows_per_s=RATE), tenant("good", rows_per_s=RATE)
    await run(doors, bad, 1, (50, 0))
    [key] = redis.keys("headrace:quotas:*limits")
    for write in (redis.set, redis.lpush):
        redis.delete(key)
        write(key, "rubbish")
        assert await run(doors, good, 2, (50, 50)) == pytest.approx(100, rel=0.05)
        assert await run(doors, bad, 4, (50, 50)) == pytest.approx(100, rel=0.05)
        assert doors[0].metric("headrace_quota_refused_tenants") == 1
        assert alone(doors) == [0, 0]
        redis.delete(key)
        await run(doors, bad, 2, (50, 50))
        assert doors[0].metric("headrace_quota_refused_tenants") == 0


async def test_doors_that_write_at_the_same_moment_lose_nothing(server: Valkey) -> None:
    """Twenty doors look at once, each with rows to tell: all of them are taken from the one bucket."""
    redis: Any = Redis.from_url(server.url)
    redis.flushall()
    now, who = [1_000.0], tenant(rows_per_s=0.001, rows_burst=1_000)
    made = [sharer(server, now, f"door{i}", timeout_s=60.0) for i in range(20)]
    await introduce(made)
    took = 0
    for _ in range(12):
        took += sum(door.passes(who) for door in made)
        await asyncio.gather(*(door.refresh() for door in made))
        now[0] += 0.1
    took += sum(door.passes(who) for door in made)
    for _ in range(8):  # whoever was beaten four times tells it at the next look
        await asyncio.gather(*(door.refresh() for door in made))
        now[0] += 0.1
    # At least the first of each. How many more depends on who is beaten how often: what one was granted, another must wait for.
    assert took >= 20
    assert not any(alone(made))
    assert tokens(redis) == pytest.approx(1_000 - took, abs=0.1)
    for door in made:
        await door.source.close()


def tokens(redis: Any) -> float:
    [key] = redis.keys("headrace:quotas:*limits")
    return float(json.loads(redis.get(key))["levels"][0][0])
