"""The stores of idempotency keys: one contract, and each of them passes it."""

import asyncio
import signal
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from headrace.state.redis import RedisCalls
from services.ingress.idempotency.redis import RedisKeys
from services.ingress.idempotency.settings import Idempotency
from services.ingress.idempotency.sqlite import SqliteKeys
from services.ingress.idempotency.store import Call, Claim, KeyStore, State, StoreUnreachableError
from tests.libs.state.valkey import Valkey
from tests.services.clock import Clock

RULES = Idempotency(kept_s=1000.0, lease_s=50.0, max_keys=5, max_bytes=1000)
F, G = b"f" * 32, b"g" * 32
CLAIMED, BUSY, OTHER, FULL = Claim(State.CLAIMED), Claim(State.BUSY), Claim(State.OTHER), Claim(State.FULL)


@dataclass
class Kind:
    """A store, and how a test lets time pass for it: `age(seconds)`."""

    store: KeyStore
    age: Callable[[float], Awaitable[None]]


@pytest.fixture
def redis(server: Valkey) -> Valkey:
    Redis.from_url(server.url).flushall()
    return server


@pytest.fixture(params=["memory", "file", "redis"])
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    clock = Clock()
    if request.param == "redis":
        made = redis_kind(request.getfixturevalue("redis").url, clock)
    else:
        path = tmp_path / "keys" / "keys.sqlite" if request.param == "file" else None
        made = sqlite_kind(path, clock)
    yield made
    await made.store.close()


def sqlite_kind(path: Path | None, clock: Clock) -> Kind:
    async def age(seconds: float) -> None:
        clock.now += seconds

    return Kind(SqliteKeys(path, RULES, clock), age)


def redis_kind(url: str, clock: Clock) -> Kind:
    calls = RedisCalls(url, 10.0, clock)

    async def age(seconds: float) -> None:
        """Redis has a clock of its own, so what is to come there is brought nearer instead."""
        clock.now += seconds
        ms = int(seconds * 1000)
        (names,) = await calls.ask([("KEYS", "*:key:*")])
        for name in names:
            (left,) = await calls.ask([("PTTL", name)])
            await calls.ask([("DEL", name) if left <= ms else ("PEXPIRE", name, left - ms)])

    return Kind(RedisKeys(calls, RULES, clock), age)


@pytest.fixture
def store(kind: Kind) -> KeyStore:
    return kind.store


async def test_a_key_is_claimed_by_one_and_answers_all(store: KeyStore, kind: Kind) -> None:
    assert await store.claim(Call("t", "k", F, "one")) == CLAIMED
    assert await store.claim(Call("t", "k", F, "two")) == BUSY
    assert await store.commit(Call("t", "k", F, "one"), b"\0out\xff", "{}")
    assert await store.claim(Call("t", "k", F, "two")) == Claim(State.KEPT, b"\0out\xff")
    await kind.age(999)
    assert await store.claim(Call("t", "k", F, "two")) == Claim(State.KEPT, b"\0out\xff")
    await kind.age(2)
    assert await store.claim(Call("t", "k", F, "two")) == CLAIMED


async def test_tenants_and_keys_have_nothing_in_common(store: KeyStore) -> None:
    for tenant, key in (("t", "k"), ("t", "k2"), ("u", "k"), ("t:k", "")):
        assert await store.claim(Call(tenant, key, F, "one")) == CLAIMED


async def test_an_abandoned_key_is_free_for_any_call(store: KeyStore) -> None:
    await store.claim(Call("t", "k", F, "one"))
    await store.abandon(Call("t", "k", F, "two"))
    assert await store.claim(Call("t", "k", F, "two")) == BUSY
    await store.abandon(Call("t", "k", F, "one"))
    assert await store.claim(Call("t", "k", G, "two")) == CLAIMED


async def test_what_is_kept_cannot_be_abandoned_or_committed_again(store: KeyStore) -> None:
    await store.claim(Call("t", "k", F, "one"))
    await store.commit(Call("t", "k", F, "one"), b"first", "{}")
    await store.abandon(Call("t", "k", F, "one"))
    assert not await store.commit(Call("t", "k", F, "one"), b"second", "{}")
    assert not await store.renew(Call("t", "k", F, "one"))
    assert await store.claim(Call("t", "k", F, "two")) == Claim(State.KEPT, b"first")


async def test_a_dead_owner_blocks_nobody_and_a_late_one_changes_nothing(store: KeyStore, kind: Kind) -> None:
    await store.claim(Call("t", "k", F, "dead"))
    await kind.age(51)
    assert not await store.renew(Call("t", "k", F, "dead"))
    assert not await store.commit(Call("t", "k", F, "dead"), b"late", "{}")
    assert await store.claim(Call("t", "k", F, "next")) == CLAIMED
    assert not await store.commit(Call("t", "k", F, "dead"), b"late", "{}")
    await store.abandon(Call("t", "k", F, "dead"))
    assert await store.commit(Call("t", "k", F, "next"), b"good", "{}")
    assert await store.claim(Call("t", "k", F, "two")) == Claim(State.KEPT, b"good")


async def test_a_renewed_lease_goes_on(store: KeyStore, kind: Kind) -> None:
    await store.claim(Call("t", "k", F, "one"))
    for _ in range(3):
        await kind.age(40)
        assert await store.renew(Call("t", "k", F, "one"))
    assert await store.claim(Call("t", "k", F, "two")) == BUSY
    assert not await store.renew(Call("t", "k", F, "two"))
    assert await store.commit(Call("t", "k", F, "one"), b"", "{}")


async def test_a_tenant_has_only_so_many_keys_and_no_other_feels_it(store: KeyStore, kind: Kind) -> None:
    for i in range(5):
        assert await store.claim(Call("t", f"k{i}", F, "one")) == CLAIMED
    assert await store.claim(Call("t", "more", F, "one")) == FULL
    assert await store.claim(Call("u", "more", F, "one")) == CLAIMED
    assert await store.claim(Call("t", "k1", F, "two")) == BUSY
    await store.abandon(Call("t", "k1", F, "one"))
    assert await store.claim(Call("t", "more", F, "one")) == CLAIMED
    await kind.age(51)
    await store.purge()
    assert await store.claim(Call("t", "again", F, "one")) == CLAIMED


async def test_a_tenant_has_only_so_many_bytes_until_their_time_is_over(store: KeyStore, kind: Kind) -> None:
    for key, size in (("a", 600), ("b", 400)):
        assert await store.claim(Call("t", key, F, "one")) == CLAIMED
        assert await store.commit(Call("t", key, F, "one"), b"x" * size, "{}")
        await kind.age(500)
    # The time of the first is over, that of the second is not.
    await kind.age(1)
    assert await store.claim(Call("t", "c", F, "one")) == CLAIMED
    assert await store.commit(Call("t", "c", F, "one"), b"x" * 599, "{}")
    assert await store.claim(Call("t", "d", F, "one")) == CLAIMED
    assert await store.commit(Call("t", "d", F, "one"), b"x", "{}")
    assert await store.claim(Call("t", "e", F, "one")) == FULL
    assert await store.claim(Call("u", "e", F, "one")) == CLAIMED


async def test_of_many_that_claim_at_once_one_gets_it(kind: Kind) -> None:
    claims = await asyncio.gather(*(kind.store.claim(Call("t", "k", F, f"token {i}")) for i in range(30)))
    assert [claim.state for claim in claims].count(State.CLAIMED) == 1


async def test_the_record_of_a_key_can_be_read_by_people_and_the_file_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.sqlite"
    store = SqliteKeys(path, RULES, Clock())
    await store.claim(Call("t", "k", F, "one"))
    await store.commit(Call("t", "k", F, "one"), b"", '{"request_id": "r-1"}')
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT tenant, key, json_extract(note, '$.request_id') FROM keys").fetchall()
    db.close()
    assert found == [("t", "k", "r-1")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    await store.close()


async def test_a_file_that_cannot_be_used_is_said_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    path.write_bytes(b"this is no database" * 100)
    store = SqliteKeys(path, RULES, Clock())
    with pytest.raises(StoreUnreachableError, match=r"keys\.sqlite"):
        await store.claim(Call("t", "k", F, "one"))
    path.unlink()
    assert await store.claim(Call("t", "k", F, "one")) == CLAIMED
    await store.close()


async def test_a_redis_that_is_gone_is_said(redis: Valkey) -> None:
    clock = Clock()
    store = RedisKeys(RedisCalls(redis.url, 10.0, clock), RULES, clock)
    await store.claim(Call("t", "k", F, "one"))
    redis.kill()
    for method in (store.claim(Call("t", "k", F, "one")), store.commit(Call("t", "k", F, "one"), b"", "{}")):
        with pytest.raises(StoreUnreachableError):
            await method
    redis.start()
    clock.now += 2
    # What Redis acknowledged is still there: it was told to keep it.
    assert await store.commit(Call("t", "k", F, "one"), b"done", "{}")
    await store.close()


async def test_a_full_redis_refuses_new_keys_and_answers_known_ones(redis: Valkey) -> None:
    clock = Clock()
    store = redis_kind(redis.url, clock).store
    await store.claim(Call("t", "k", F, "one"))
    await store.commit(Call("t", "k", F, "one"), b"done", "{}")
    await store.claim(Call("t", "running", F, "one"))
    with Redis.from_url(redis.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnreachableError, match="Redis refuses"):
            await store.claim(Call("t", "new", F, "one"))
        with pytest.raises(StoreUnreachableError, match="Redis refuses"):
            await store.commit(Call("t", "running", F, "one"), b"", "{}")
        assert await store.claim(Call("t", "k", F, "two")) == Claim(State.KEPT, b"done")
        client.config_set("maxmemory", 0)
    assert await store.commit(Call("t", "running", F, "one"), b"", "{}")
    assert await store.claim(Call("t", "new", F, "one")) == CLAIMED
    await store.close()


async def test_a_redis_that_hangs_or_holds_something_else_refuses_these_keys_and_changes_nothing(
    redis: Valkey,
) -> None:
    """To run the call without the store could run it twice: whoever sends a key wants to be refused rather."""
    clock = Clock()
    calls = RedisCalls(redis.url, 10.0, clock, pause_s=1.0)
    store = RedisKeys(calls, RULES, clock)
    await store.claim(Call("t", "k", F, "one"))
    (names,) = await calls.ask([("KEYS", "*:key:*")])
    await calls.ask([("DEL", names[0]), ("RPUSH", names[0], "somebody else's")])
    for method in (
        store.claim(Call("t", "k", F, "two")),
        store.renew(Call("t", "k", F, "one")),
        store.commit(Call("t", "k", F, "one"), b"", "{}"),
    ):
        with pytest.raises(StoreUnreachableError, match="Redis refuses: WRONGTYPE"):
            await method
    assert await calls.ask([("LRANGE", names[0], 0, -1)]) == [[b"somebody else's"]]
    assert await store.claim(Call("t", "another", F, "one")) == CLAIMED
    hurried = RedisKeys(RedisCalls(redis.url, 1.0, clock), RULES, clock)
    redis.signal(signal.SIGSTOP)
    for told in ("TimeoutError", "failed a moment ago"):
        with pytest.raises(StoreUnreachableError, match=told):
            await hurried.claim(Call("t", "new", F, "one"))
    redis.signal(signal.SIGCONT)
    clock.now += 2
    assert await hurried.claim(Call("t", "new", F, "one")) in (CLAIMED, BUSY)
    for one in (store, hurried):
        await one.close()
