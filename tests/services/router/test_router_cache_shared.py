"""Several routers with one real Redis: they answer for each other, and nobody notices when it is gone."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault, Reason
from headrace.state.redis import RedisCalls, RedisDownError
from services.router.cache.meter import CacheMetrics
from services.router.cache.shared import CacheSettings, SharedAnswers, dump, load, shared_answers
from tests.libs.state.valkey import Valkey
from tests.services.router.cache_world import DOCUMENT, Served, World, ages, loaded, values

# JSON that is almost the head of an answer: fields, models, sizes.
_SOME = st.none() | st.integers(-3, 14) | st.text(max_size=2)
_LISTS = st.lists(_SOME | st.lists(_SOME | st.lists(_SOME, max_size=2), max_size=5), max_size=2)
JUNK = (st.lists(_LISTS, min_size=3, max_size=3) | _LISTS | st.dictionaries(st.text(max_size=2), _SOME)).map(
    lambda value: json.dumps(value).encode()
)
STALE = DOCUMENT.replace("ttl: 10s", "ttl: 10s, stale_on_failure: 60s")


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.kill()


class Routers:
    """Two routers, each with a connection of its own."""

    def __init__(self, redis: Valkey) -> None:
        self.world = World()
        self.both: list[Served] = []
        self.calls = []
        for _ in range(2):
            calls = RedisCalls(redis.url, 5.0, self.world.clock)
            self.calls.append(calls)
            shared = SharedAnswers(calls, CacheMetrics(CollectorRegistry()))
            self.both.append(Served(self.world, shared=shared))


@pytest.fixture
async def routers(redis: Valkey) -> AsyncIterator[Routers]:
    found = Routers(redis)
    yield found
    for calls in found.calls:
        await calls.close()


async def test_one_router_answers_with_what_the_other_computed(routers: Routers) -> None:
    one, other = routers.both
    await one.ask([1.0, 2.0], words=["a", None])
    await other.ask([0.0])  # so that it knows which model runs
    ran = routers.world.calls["times"]
    there = await other.ask([1.0, 2.0, 3.0], words=["a", None, "c"])
    assert (values(there), values(there, "said")) == ([1.0, 2.0, 3.0], ["a", "", "c"])
    assert [age >= 0 for age in ages(there)] == [True, True, False]
    assert routers.world.calls["times"] == ran + 1
    assert there.decisions[0].models[0].sha256 == "a"


async def test_another_model_answers_itself(routers: Routers) -> None:
    one, other = routers.both
    await one.ask([1.0])
    loaded(routers.world, 5.0, "b")
    await other.ask([0.0])
    assert values(await other.ask([1.0])) == [5.0]


async def test_while_redis_is_gone_the_models_answer(routers: Routers, redis: Valkey) -> None:
    one, _ = routers.both
    await one.ask([1.0])
    redis.kill()
    assert values(await one.ask([2.0])) == [2.0]
    assert ages(await one.ask([1.0, 2.0])) == [0, 0]


async def test_redis_that_failed_is_not_asked_again_for_a_moment(redis: Valkey) -> None:
    world = World()
    calls = RedisCalls(redis.url, 5.0, world.clock)
    assert await calls.ask([("SET", "a", "1"), ("GET", "a"), ("NONSENSE",)])
    redis.kill()
    with pytest.raises(RedisDownError) as first:
        await calls.ask([("GET", "a")])
    with pytest.raises(RedisDownError) as second:
        await calls.ask([("GET", "a")])
    assert (first.value.asked, second.value.asked) == (True, False)
    redis.start()
    world.now += 1.5
    assert await calls.ask([("GET", "a")]) == [b"1"]
    await calls.close()


async def test_many_that_ask_at_once_wait_for_a_connection(redis: Valkey) -> None:
    calls = RedisCalls(redis.url, 20.0, World().clock)
    replies = await asyncio.gather(*(calls.ask([("INCR", "n")]) for _ in range(300)))
    assert sorted(n for (n,) in replies) == list(range(1, 301))
    await calls.close()


async def test_garbage_in_redis_is_not_served(routers: Routers) -> None:
    one, other = routers.both
    await one.ask([1.0])
    (name,) = await routers.calls[0].ask([("KEYS", "headrace:answer:*")])
    await routers.calls[0].ask([("SET", name[0], b"hra1garbage", "PX", 60_000)])
    await other.ask([0.0])
    assert ages(await other.ask([1.0])) == [-1]


async def test_an_old_answer_of_another_router_takes_the_place_of_a_failure(routers: Routers) -> None:
    for router in routers.both:
        router.deploy(STALE)
    one, other = routers.both
    await one.ask([1.0])
    await other.ask([0.0])
    # Redis' own clock tells the age, so it is young there; the ttl is shown to have passed by shortening what is left.
    for key in (await routers.calls[0].ask([("KEYS", "headrace:answer:*")]))[0]:
        await routers.calls[0].ask([("PEXPIRE", key, 30_000)])
    routers.world.fault = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "down")
    answer = await other.ask([1.0])
    assert list(answer.fallbacks) == ["cache:stale"]
    assert 29_000_000 < ages(answer)[0] < 60_000_000


async def test_while_redis_hangs_or_has_something_else_models_answer(routers: Routers, redis: Valkey) -> None:
    one, other = routers.both
    await one.ask([1.0])
    await other.ask([0.0])
    ask = routers.calls[0].ask
    (names,) = await ask([("KEYS", "headrace:answer:*")])
    for name in names:
        await ask([("DEL", name), ("RPUSH", name, "somebody else's")])
    assert ages(await other.ask([1.0])) == [-1]
    routers.calls[1]._timeout_s = 0.05
    redis.signal(signal.SIGSTOP)
    assert values(await other.ask([7.0])) == [7.0]
    # For a second nobody asks again.
    with pytest.raises(RedisDownError) as refused:
        await routers.calls[1].ask([("GET", "a")])
    assert not refused.value.asked
    redis.signal(signal.SIGCONT)


@given(
    st.binary(max_size=80)
    | st.builds(lambda t, rest: struct.pack("<4sI", b"hra1", len(t)) + t + rest, JUNK, st.binary(max_size=9))
)
def test_whatever_is_there_is_an_answer_or_none(data: bytes) -> None:
    found = load(data)
    assert found is None or load(dump(found)) == found


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'headrace\[redis\]'"):
        RedisCalls("redis://host", 1.0, float)


def test_a_wrong_address_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="redis"):
        shared_answers(CacheSettings(redis="http://nowhere"), CacheMetrics(CollectorRegistry()), float)
    assert shared_answers(CacheSettings(), CacheMetrics(CollectorRegistry()), float) is None
