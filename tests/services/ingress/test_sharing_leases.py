"""Limits that doors share by a real Redis: what they let through together, whoever asks, comes, goes or is cut off."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from prometheus_client import CollectorRegistry
from redis import Redis

from headrace.hop.errors import Fault
from headrace.state.redis import RedisCalls
from services.ingress.admission.row_key import RowKey
from services.ingress.documents.catalog import Tenant
from services.ingress.sharing.exchange import FORMAT, Exchange, FormatError
from services.ingress.sharing.metrics import ShareMetrics
from services.ingress.sharing.quotas import EVERY_S, LeasedQuotas
from tests.libs.state.valkey import Valkey
from tests.services.ingress.test_ingress_sharing import tenant
from tests.services.monitoring.monitoring_outcomes import Log

RATE, LIMIT = 200.0, 40


class Sharer:
    """One machine's door, under a clock that all of a test share; Redis has the same time."""

    def __init__(
        self, url: str, name: str, now: list[float], timeout_s: float = 5.0, calls: RedisCalls | None = None
    ) -> None:
        self.registry, self.log = CollectorRegistry(), Log()
        self.now = now
        calls = calls or RedisCalls(url, timeout_s, lambda: now[0], pause_s=0.05)
        self.exchange = Exchange(calls, name, RowKey(None, print))
        self.leased = LeasedQuotas(self.exchange, lambda: now[0], ShareMetrics(self.registry), self.log)
        self.held: list[Any] = []

    async def look(self) -> None:
        self.exchange.now_ms = round(self.now[0] * 1000)
        await self.leased.look()

    def passes(self, who: Tenant, rows: int = 1) -> int:
        """The rows that were let through."""
        try:
            quota = self.leased.quotas.acquire(who)
        except Fault:
            return 0
        try:
            quota.charge(rows, 1)
        except Fault:
            return 0
        finally:
            quota.release()
        return rows

    def hold(self, who: Tenant) -> bool:
        try:
            self.held.append(self.leased.quotas.acquire(who))
        except Fault:
            return False
        return True

    def let_go(self) -> None:
        if self.held:
            self.held.pop().release()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
async def doors(server: Valkey) -> AsyncIterator[list[Sharer]]:
    Redis.from_url(server.url).flushall()
    now = [1_000.0]
    made = [Sharer(server.url, name, now) for name in ("one", "two")]
    for _ in range(2):
        for door in made:
            door.exchange.now_ms = round(now[0] * 1000)
            await door.leased.start()
    yield made
    for door in made:
        await door.exchange.close()


async def run(
    doors: list[Sharer], who: Tenant, seconds: float, offered: tuple[float, ...], rows: int = 1
) -> float:
    """Rows per second that were let through, of so many offered per second at each door."""
    let, now = 0, doors[0].now
    owed = [0.0] * len(doors)
    for step in range(round(seconds / 0.01)):
        now[0] += 0.01
        for i, door in enumerate(doors):
            owed[i] += offered[i] * 0.01
            while owed[i] >= rows:
                owed[i] -= rows
                let += door.passes(who, rows)
            # The doors do not look at the same moments.
            if (step + 3 * i) % round(EVERY_S / 0.01) == 0:
                await door.look()
    return let / seconds


@pytest.mark.parametrize(
    ("offered", "rows", "burst"),
    [
        ((1_000, 1_000), 1, RATE),
        ((1_900, 100), 1, RATE),
        ((2_000, 0), 1, RATE),
        ((1_000, 1_000), 16, 50),
        ((1_000, 1_000), 16, 20),  # a request is more than a door's part of the burst
        ((1_000, 1_000), 60, 200),
    ],
)
async def test_ten_times_the_limit_at_two_doors_gives_the_limit(
    doors: list[Sharer], offered: tuple[float, float], rows: int, burst: float
) -> None:
    who = tenant(rows_per_s=RATE, rows_burst=burst)
    await run(doors, who, 3, offered, rows)  # the burst, and what is lent by it
    assert await run(doors, who, 10, offered, rows) == pytest.approx(RATE, rel=0.02)


async def test_demand_that_moves_takes_the_limit_along(doors: list[Sharer]) -> None:
    who = tenant(rows_per_s=RATE)
    await run(doors, who, 5, (1_800, 10))
    assert doors[0].metric("headrace_quota_share_ratio", tenant="a") > 0.9
    await run(doors, who, 2, (10, 1_800))
    assert doors[1].metric("headrace_quota_share_ratio", tenant="a") > 0.9
    assert await run(doors, who, 5, (10, 180)) == pytest.approx(
        190, rel=0.02
    )  # below the limit nothing is refused


async def test_slots_at_two_doors_are_those_of_one(doors: list[Sharer]) -> None:
    who, (one, two) = tenant(concurrency=LIMIT), doors
    seen = []
    for step in range(400):
        one.now[0] += 0.01
        for i, door in enumerate(doors):
            while door.hold(who):
                pass
            if step % 3 == i:
                for _ in range(1 + step % 7):
                    door.let_go()
            if (step + 3 * i) % 10 == 0:
                await door.look()
        if step > 100:
            seen.append(len(one.held) + len(two.held))
    assert max(seen) <= LIMIT
    # Those that ended in this hundredth of a second are free.
    assert sum(seen) / len(seen) >= LIMIT * 0.98 - 4
    # One door stops: its slots are the other's as soon as its lease is over.
    while one.held:
        one.let_go()
    for _ in range(30):
        two.now[0] += EVERY_S
        while two.hold(who):
            pass
        await two.look()
    assert len(two.held) == LIMIT


async def test_without_redis_each_door_has_its_part_and_it_heals(doors: list[Sharer], server: Valkey) -> None:
    who = tenant(rows_per_s=RATE, concurrency=LIMIT)
    await run(doors, who, 3, (1_800, 10))
    server.kill()
    try:
        alone = await run(doors, who, 10, (1_000, 1_000))
        assert RATE * 0.95 < alone < 2 * RATE
        assert all(door.metric("headrace_quota_alone") == 1 for door in doors)
        while doors[0].hold(who):
            pass
        assert len(doors[0].held) == LIMIT / 2
        while doors[0].held:
            doors[0].let_go()
    finally:
        server.start()
    await run(doors, who, 3, (1_000, 1_000))
    assert all(door.metric("headrace_quota_alone") == 0 for door in doors)
    await run(doors, who, 2, (1_000, 1_000))
    assert await run(doors, who, 10, (1_000, 1_000)) == pytest.approx(RATE, rel=0.02)
    assert doors[0].log.events == [
        "limits of tenants are not shared: each door has its part of them",
        "limits of tenants are shared by the doors again",
    ]


async def test_a_door_that_is_killed_leaves_its_share(doors: list[Sharer]) -> None:
    who = tenant(rows_per_s=RATE)
    await run(doors, who, 3, (1_000, 1_000))
    await run(doors[:1], who, 4, (1_000,))
    assert await run(doors[:1], who, 10, (1_000,)) == pytest.approx(RATE, rel=0.02)
    assert doors[0].leased.doors == 1
    assert doors[0].metric("headrace_quota_share_ratio", tenant="a") == 1


async def test_a_redis_that_hangs_costs_no_request_anything(server: Valkey) -> None:
    Redis.from_url(server.url).flushall()
    now = [1_000.0]
    door = Sharer(server.url, "one", now, timeout_s=1.0)
    await door.leased.start()
    server.signal(signal.SIGSTOP)
    try:
        who = tenant(rows_per_s=RATE)
        looking = asyncio.create_task(door.look())
        await asyncio.sleep(0)
        assert door.passes(who, 10) == 10
        await looking
        now[0] += 2
        await door.look()
        assert door.passes(who, 10) == 10
        assert door.metric("headrace_quota_alone") == 1
    finally:
        server.signal(signal.SIGCONT)
        await door.exchange.close()


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda r: r.set("headrace:quotas:{doors}:format", "headrace quotas 99"), "another version"),
        (lambda r: r.lpush("headrace:quotas:{doors}:format", "x"), "a list"),
        (lambda r: r.set("headrace:quotas:{doors}:known", "x"), "can't be used"),
    ],
)
async def test_a_redis_that_holds_something_else_is_refused(
    doors: list[Sharer], server: Valkey, write: Any, why: str
) -> None:
    redis: Any = Redis.from_url(server.url)
    who = tenant(rows_per_s=RATE)
    await run(doors, who, 1, (50, 50))
    redis.delete("headrace:quotas:{doors}:format", "headrace:quotas:{doors}:known")
    write(redis)
    late = Sharer(server.url, "late", [1_000.0])
    with pytest.raises(FormatError, match=why) as caught:
        await late.leased.start()
    assert "sock" not in str(caught.value)
    assert "database" in str(caught.value)
    await late.exchange.close()
    # What served before goes on, with its part.
    assert await run(doors, who, 3, (50, 50)) == pytest.approx(100, rel=0.05)
    assert doors[0].metric("headrace_quota_alone") == 1
    redis.delete("headrace:quotas:{doors}:format", "headrace:quotas:{doors}:known")
    await run(doors, who, 2, (50, 50))
    assert doors[0].metric("headrace_quota_alone") == 0
    assert redis.get("headrace:quotas:{doors}:format") == FORMAT.encode()


async def test_rubbish_for_one_tenant_concerns_that_tenant_alone(doors: list[Sharer], server: Valkey) -> None:
    redis: Any = Redis.from_url(server.url)
    bad, good = tenant("bad", rows_per_s=RATE), tenant("good", rows_per_s=RATE)
    await run(doors, bad, 1, (50, 0))
    [key] = redis.keys("headrace:quotas:*limits")
    redis.delete(key)
    redis.set(key, "rubbish")
    assert await run(doors, good, 2, (50, 50)) == pytest.approx(100, rel=0.05)
    assert await run(doors, bad, 4, (50, 50)) == pytest.approx(100, rel=0.05)
    assert doors[0].metric("headrace_quota_refused_tenants") == 1
    assert doors[0].metric("headrace_quota_alone") == 0
    redis.delete(key)
    await run(doors, bad, 2, (50, 50))
    assert doors[0].metric("headrace_quota_refused_tenants") == 0
    # Fields that are no records are removed.
    redis.hset(key, mapping={"door:x": "no json", "door:y": "[1]", "rows": "many"})
    assert await run(doors, bad, 4, (50, 50)) == pytest.approx(100, rel=0.05)
    assert not redis.hexists(key, "door:x")
    assert not redis.hexists(key, "door:y")


class Leases(RuleBasedStateMachine):
    """Doors that ask, hold, look, stop and come back at any moments: what all let through never goes far beyond the limit."""

    redis: Any
    loop: asyncio.AbstractEventLoop
    calls: RedisCalls

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.now = [1_000.0]
        self.began, self.let = self.now[0], 0
        self.who = tenant(rows_per_s=100, rows_burst=50, concurrency=12)
        self.doors = [Sharer("", name, self.now, calls=self.calls) for name in "abc"]
        self.looked = [self.now[0]] * 3
        for _ in range(2):
            for door in self.doors:
                door.exchange.now_ms = round(self.now[0] * 1000)
                self.loop.run_until_complete(door.leased.start())

    @rule(door=st.integers(0, 2), rows=st.integers(1, 20), times=st.integers(1, 10))
    def ask(self, door: int, rows: int, times: int) -> None:
        self.let += sum(self.doors[door].passes(self.who, rows) for _ in range(times))

    @rule(door=st.integers(0, 2), count=st.integers(1, 20))
    def hold(self, door: int, count: int) -> None:
        for _ in range(count):
            self.doors[door].hold(self.who)

    @rule(door=st.integers(0, 2), count=st.integers(1, 20))
    def let_go(self, door: int, count: int) -> None:
        for _ in range(count):
            self.doors[door].let_go()

    @rule(passed=st.floats(0.0, 0.3))
    def wait(self, passed: float) -> None:
        """All doors look ten times a second, in turn."""
        end = self.now[0] + passed
        while self.now[0] < end:
            self.now[0] = min(self.now[0] + 0.05, end)
            for i, door in enumerate(self.doors):
                if self.now[0] - self.looked[i] >= EVERY_S:
                    self.looked[i] = self.now[0]
                    self.loop.run_until_complete(door.look())

    @invariant()
    def within_the_limits(self) -> None:
        if not hasattr(self, "doors"):
            return
        # The burst, what each door may take before the others hear of it (a share of one burst), and one request's debt each.
        most = 50 + 100 * (self.now[0] - self.began) + 3 * (50 + 20)
        assert self.let <= most
        # Slots of leases are given once; before a door has one it may begin half of its local part (2 of 4).
        assert sum(len(door.held) for door in self.doors) <= 12 + 3 * 2


def test_whatever_happens_the_limits_hold(server: Valkey) -> None:
    Leases.redis = Redis.from_url(server.url)
    Leases.loop = asyncio.new_event_loop()
    Leases.calls = RedisCalls(server.url, 5.0, lambda: 0.0)
    try:
        run_state_machine_as_test(
            Leases, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
        )
    finally:
        Leases.loop.run_until_complete(Leases.calls.close())
        Leases.loop.close()
