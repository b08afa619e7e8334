"""A store that dies, hangs and comes back: last-known values, then defaults, then the store's again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

from headrace.hop.testing import served
from services.features.wiring import SERVICE
from tests.services.features.calling import Features, get
from tests.services.features.conftest import RedisServer

KNOWN: dict[str, Sequence[object]] = {"tail": ["p1", "p2"], "airport": [1, 3], "carrier": ["UA", "DL"]}
UNSEEN: dict[str, Sequence[object]] = {"tail": ["p3"], "airport": [2], "carrier": ["UA"]}
BREAKER = {"window_s": 2.0, "min_calls": 2, "open_s": 0.05, "max_open_s": 0.2, "probes": 1}


async def eventually(ask: Callable[[], Awaitable[Features]], sources: list[str]) -> Features:
    deadline = time.monotonic() + 20
    while True:
        found = await ask()
        if found.sources("planes") == sources:
            return found
        assert time.monotonic() < deadline, f"still {found.sources('planes')}, not {sources}"
        await asyncio.sleep(0.02)


async def test_a_killed_store_leaves_last_known_values_then_defaults_and_recovers(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    settings = {"repo": redis_repo, "store_timeout_s": 0.2, "breaker": BREAKER}
    async with served(SERVICE, settings) as harness:
        before = await get(harness, KNOWN)
        assert before.sources("planes") == ["PRESENT", "PRESENT"]
        redis.kill()
        for _ in range(10):
            stale = await get(harness, KNOWN)
            assert stale.sources("planes") == ["STALE", "STALE"]
            assert stale.values["seats"] == before.values["seats"]
            assert stale.sources("airports") == ["STALE", "STALE"]
        nothing = await get(harness, UNSEEN)
        assert nothing.sources("planes") == ["DEFAULT"]
        assert nothing.values["seats"] == [None]
        assert nothing.ages_s("planes")[0] < 0
        redis.start()
        await eventually(lambda: get(harness, KNOWN), ["PRESENT", "PRESENT"])
        assert (await get(harness, UNSEEN)).values["seats"] == [103]


async def test_a_hanging_store_is_given_up_within_its_time_and_recovers(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    # Without a cache: what was read just now would be served without asking.
    settings = {"repo": redis_repo, "store_timeout_s": 0.2, "cache_s": 0, "breaker": BREAKER}
    async with served(SERVICE, settings) as harness:
        await get(harness, KNOWN)
        redis.signal(signal.SIGSTOP)
        try:
            for _ in range(5):
                assert (await get(harness, KNOWN)).sources("planes") == ["STALE", "STALE"]
        finally:
            redis.signal(signal.SIGCONT)
        await eventually(lambda: get(harness, KNOWN), ["PRESENT", "PRESENT"])


async def test_what_is_remembered_is_not_served_beyond_its_time_to_live(
    redis: RedisServer, redis_repo: Path, now: datetime
) -> None:
    async with served(SERVICE, {"repo": redis_repo, "breaker": BREAKER}) as harness:
        old: dict[str, Sequence[object]] = {"tail": ["p5"], "airport": [1], "carrier": ["UA"]}
        assert (await get(harness, old)).sources("planes") == ["OUTSIDE_MAX_AGE"]
        redis.kill()
        assert (await get(harness, old)).sources("planes") == ["DEFAULT"]


async def test_redis_tells_absent_entities_from_present_ones(redis_repo: Path, now: datetime) -> None:
    async with served(SERVICE, {"repo": redis_repo}) as harness:
        found = await get(harness, {"tail": ["p1", "nobody"], "airport": [1, 9], "carrier": ["UA", "UA"]})
    assert found.sources("planes") == ["PRESENT", "NOT_FOUND"]
    assert found.sources("airports") == ["PRESENT", "NOT_FOUND"]


async def test_it_starts_while_the_store_is_down(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    redis.kill()
    async with served(SERVICE, {"repo": redis_repo, "breaker": BREAKER}) as harness:
        assert (await get(harness, KNOWN)).sources("planes") == ["DEFAULT", "DEFAULT"]
        redis.start()
        await eventually(lambda: get(harness, KNOWN), ["PRESENT", "PRESENT"])
