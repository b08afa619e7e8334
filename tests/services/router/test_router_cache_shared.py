"""The cache in running routers. Several with one real Redis answer for each other, and nobody notices when it is gone; many
ask while versions are exchanged, and no answer is that of another version than the one that it names."""

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from headrace.api.router.v1 import router_pb2
from headrace.columns import DType
from headrace.hop.config import ConfigError
from headrace.hop.errors import Code
from headrace.pipeline import ModelUse
from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.clients import LOAD
from services.router.cache.clients import CacheSettings, SharedAnswers, dump, load, shared_answers
from services.router.cache.meter import CacheMetrics
from services.router.cache.rows import Answer, Field
from tests.libs.state.valkey import Valkey
from tests.services.router.cache_world import DOCUMENT, DOWN, STALE, Served, World, ages, loaded, values
from tests.services.router.router_leaves import SCORED, batch_of, suite

CACHED = SCORED.replace("deadline_ms: 5000", "deadline_ms: 5000\ncache: {ttl: 1h}").replace(
    "    name: adder\n", '    name: adder\n    version: "7"\n'
)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path) as server:
        yield server


@dataclass
class Pair:
    """What `one` computed, `other` may answer. `age`: lets time pass for what is kept."""

    world: World
    one: Served
    other: Served
    age: Callable[[float], Awaitable[None]]
    calls: list[RedisCalls] = field(default_factory=list)

    async def meet(self) -> None:
        """Each has asked, so that it knows which model runs."""
        for served in (self.one, self.other):
            await served.ask([-1.0])


def redis_pair(redis: Valkey, document: str = DOCUMENT) -> Pair:
    """Two routers, each with a connection of its own."""
    world, both, calls = World(), list[Served](), list[RedisCalls]()
    for _ in range(2):
        calls.append(RedisCalls(redis.url, 5.0, world.clock))
        shared = SharedAnswers(calls[-1], CacheMetrics(CollectorRegistry()))
        both.append(Served(world, document, shared))

    async def age(seconds: float) -> None:
        """Redis' own clock tells the age: what is left is shortened."""
        world.now += seconds
        for key in (await calls[0].ask([("KEYS", "headrace:answer:*")]))[0]:
            (left,) = await calls[0].ask([("PTTL", key)])
            await calls[0].ask([("PEXPIRE", key, left - int(seconds * 1000))])

    return Pair(world, both[0], both[1], age, calls)


def memory_pair(document: str = DOCUMENT) -> Pair:
    """One router with itself."""
    served = Served(World(), document)

    async def age(seconds: float) -> None:
        served.world.now += seconds

    return Pair(served.world, served, served, age)


@pytest.fixture
async def routers(redis: Valkey) -> AsyncIterator[Pair]:
    found = redis_pair(redis)
    yield found
    for calls in found.calls:
        await calls.close()


@pytest.fixture(params=["memory", "redis"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    found = (
        memory_pair(STALE)
        if request.param == "memory"
        else redis_pair(request.getfixturevalue("redis"), STALE)
    )
    await found.meet()
    yield found
    for calls in found.calls:
        await calls.close()


async def test_an_answer_is_kept_as_it_was(pair: Pair) -> None:
    await pair.one.ask([1.0, 2.0], words=["a", None])
    ran = pair.world.calls["times"]
    there = await pair.other.ask([1.0, 2.0, 3.0], words=["a", None, "c"])
    assert (values(there), values(there, "said")) == ([1.0, 2.0, 3.0], ["a", "", "c"])
    assert [age >= 0 for age in ages(there)] == [True, True, False]
    assert pair.world.calls["times"] == ran + 1
    assert there.decisions[0].models[0].sha256 == "a"


async def test_another_model_answers_itself(pair: Pair) -> None:
    await pair.one.ask([1.0])
    loaded(pair.world, 5.0, "b")
    await pair.other.ask([0.0])
    assert values(await pair.other.ask([1.0])) == [5.0]


@pytest.mark.parametrize("what", ["score", "word", "null", "tenant"])
async def test_another_value_or_tenant_is_another_key(pair: Pair, what: str) -> None:
    await pair.one.ask([1.0])
    if what == "score":
        pair.world.score = 5.0
    word = {"word": "W", "null": None}.get(what, "w")
    again = await pair.other.ask([1.0], words=[word], tenant="u" if what == "tenant" else "t")
    assert ages(again) == [-1]
    assert values(again) == [6.0 if what == "score" else 1.0]


async def test_failures_are_not_kept(pair: Pair) -> None:
    pair.world.fault = DOWN
    failed = await pair.one.ask([1.0])
    assert failed.batch.errors[0].code is Code.UNAVAILABLE
    pair.world.fault = None
    again = await pair.other.ask([1.0])
    assert (ages(again), values(again), again.batch.errors) == ([-1], [1.0], {})


async def test_fallbacks_are_not_kept(pair: Pair) -> None:
    pair.world.standby = True
    await pair.one.ask([1.0, 2.0], keys=["?", "k"])
    pair.world.standby = False
    again = await pair.other.ask([1.0, 2.0], keys=["?", "k"])
    assert ages(again) == [-1, -1]
    assert list(again.fallbacks) == ["features/user:not_found"]
    third = await pair.one.ask([1.0, 2.0], keys=["?", "k"])
    assert [age >= 0 for age in ages(third)] == [False, True]
    assert pair.one.counted("bypass") >= 2


async def test_an_old_answer_takes_the_place_of_one_that_cannot_be_computed(pair: Pair) -> None:
    await pair.one.ask([1.0])
    await pair.age(50)
    pair.world.fault = DOWN
    answer = await pair.other.ask([1.0, 2.0])
    assert values(answer)[0] == 1.0
    assert set(answer.batch.errors) == {1}
    assert list(answer.fallbacks) == ["cache:stale"]
    assert values(answer, "@fallbacks") == [1, 0]
    assert 50_000_000 <= ages(answer)[0] < 60_000_000
    assert ages(answer)[1] == -1
    assert pair.other.counted("stale") == 1
    await pair.age(11)
    assert set((await pair.other.ask([1.0])).batch.errors) == {0}


async def test_while_redis_hangs_has_something_else_or_is_gone_models_answer(
    routers: Pair, redis: Valkey
) -> None:
    one, other = routers.one, routers.other
    await one.ask([1.0, 3.0])
    ask = routers.calls[0].ask
    ((first, second),) = await ask([("KEYS", "headrace:answer:*")])
    await ask([("DEL", first), ("RPUSH", first, "somebody else's")])
    await ask([("SET", second, b"hra2garbage", "PX", 60_000)])
    await other.ask([0.0])
    assert ages(await other.ask([1.0, 3.0])) == [-1, -1]
    routers.calls[1]._timeout_s = 0.05
    redis.signal(signal.SIGSTOP)
    assert values(await other.ask([7.0])) == [7.0]
    # For a second nobody asks again.
    with pytest.raises(RedisDownError) as refused:
        await routers.calls[1].ask([("GET", "a")])
    assert not refused.value.asked
    redis.signal(signal.SIGCONT)
    redis.kill()
    assert values(await one.ask([2.0])) == [2.0]
    assert ages(await one.ask([1.0, 2.0])) == [0, 0]


def mutilated(start: int, stop: int, by: bytes) -> bytes:
    """An answer in which some bytes are others."""
    fields = (
        Field("y", DType.FLOAT32, ()),
        Field("said", DType.BYTES, (2,)),
        Field("@age_us", DType.INT64, ()),
    )
    whole = dump(Answer(fields, (b"1234", (b"a", b"bc"), None), (ModelUse("s", "m", "7", "ab", "onnx"),)))
    start, stop = sorted((start % len(whole), stop % len(whole)))
    return whole[:start] + by + whole[stop:]


@given(
    st.binary(max_size=80)
    | st.binary(max_size=80).map(lambda rest: b"hra2" + rest)
    | st.builds(mutilated, st.integers(0, 10_000), st.integers(0, 10_000), st.binary(max_size=3))
)
def test_whatever_is_there_is_an_answer_or_none(data: bytes) -> None:
    found = load(data)
    assert found is None or load(dump(found)) == found


def test_what_another_version_wrote_is_none() -> None:
    assert load(b"hra1" + mutilated(0, 0, b"")[4:]) is None


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'headrace\[redis\]'"):
        RedisCalls("redis://host", 1.0, float)


def test_a_wrong_address_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="redis"):
        shared_answers(CacheSettings(redis="http://nowhere"), CacheMetrics(CollectorRegistry()), float)
    assert shared_answers(CacheSettings(), CacheMetrics(CollectorRegistry()), float) is None


async def test_a_repeated_row_is_answered_after_its_features_alone(tmp_path: Path) -> None:
    assert "cache:" in CACHED
    assert "version:" in CACHED
    async with suite(tmp_path, {"scored": CACHED}) as running:
        first = await running.ask("scored", batch_of(["ab", "abc"], [1.0, 2.0]))
        again = await running.ask("scored", batch_of(["abc", "ab", "a"], [2.0, 1.0, 0.0]))
        assert first.batch.columns["y"].array.tolist() == [3.0, 5.0]
        assert again.batch.columns["y"].array.tolist() == [5.0, 3.0, 1.0]
        assert again.batch.columns["positive"].array.tolist() == [True, True, True]
        assert "@cached_us" not in first.batch.columns
        assert [age >= 0 for age in again.batch.columns["@cached_us"].array.tolist()] == [True, True, False]
        leaves = (running.features, running.preprocessing, running.executor, running.postprocessing)
        assert [leaf.calls for leaf in leaves] == [[2, 3], [2, 1], [2, 1], [2, 1]]
        # What the features service says of ages is of now.
        assert again.batch.columns["@age_us/user"].array.tolist() == [1000, 1000, 1000]
        assert running.sample("router_cache_rows_total", pipeline="scored", outcome="hit") == 2
        assert running.sample("router_cache_rows_total", pipeline="scored", outcome="miss") == 3
        named = [[m.sha256 for d in r.response.decisions for m in d.models] for r in (first, again)]
        assert named == [["ab" * 32]] * 2
        assert running.sample("router_rows_total", pipeline="scored", code="OK") == 5
        stages = {t.stage: t for t in again.batch.timings}
        assert stages["cache"].attributes == {"saved": "prepare sum finish", "rows": "2"}


async def test_an_operators_load_through_the_router_forgets(tmp_path: Path) -> None:
    async with suite(tmp_path, {"scored": CACHED}) as running:
        batch = batch_of(["ab"], [1.0])
        await running.ask("scored", batch)
        deadline = batch.rows.deadlines[0]
        await running.router.client().unary(LOAD)(
            router_pb2.LoadModelRequest(model="adder", version="7"), deadline=deadline
        )
        assert "@cached_us" not in (await running.ask("scored", batch)).batch.columns
        assert "@cached_us" in (await running.ask("scored", batch)).batch.columns
