"""The stores of idempotency keys: one contract, and each of them passes it."""

import asyncio
import json
import signal
import sqlite3
import stat
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from headrace.hop.errors import Code, Fault, Reason
from headrace.state.redis import RedisCalls
from services.ingress.idempotency.memory import KeyTable, MemoryKeys
from services.ingress.idempotency.outcome import Outcome
from services.ingress.idempotency.redis import RedisKeys
from services.ingress.idempotency.sqlite import SqliteKeys
from services.ingress.idempotency.store import Claim, KeyStore, State, StoreRules, StoreUnreachableError
from tests.libs.state.valkey import Valkey
from tests.services.clock import Clock
from tests.services.ingress.test_ingress_idempotency import Door

RULES = StoreRules(kept_s=1000.0, lease_s=50.0, max_keys=5, max_bytes=1000)
F, G = b"f" * 32, b"g" * 32
# JSON of anything but a text at `request_id`.
_VALUES = st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=2)
JUNK = (_VALUES | st.dictionaries(st.sampled_from(["code", "reason", "request_id"]), _VALUES)).map(
    lambda value: json.dumps(value).encode()
)
CLAIMED, BUSY, OTHER, FULL = Claim(State.CLAIMED), Claim(State.BUSY), Claim(State.OTHER), Claim(State.FULL)


@dataclass
class Kind:
    """A store, and how a test lets time pass for it: `age(seconds)`."""

    store: KeyStore
    age: Callable[[float], Awaitable[None]]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path) as made:
        yield made


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    clock = Clock()

    async def later(seconds: float) -> None:
        clock.now += seconds

    if request.param != "redis":
        store: KeyStore = MemoryKeys(RULES, clock)
        if request.param == "sqlite":
            store = SqliteKeys(tmp_path / "keys" / "keys.sqlite", RULES, clock)
        yield Kind(store, later)
        await store.close()
        return
    calls = RedisCalls(request.getfixturevalue("redis").url, 10.0, clock)
    yield Kind(RedisKeys(calls, RULES), lambda seconds: _aged(calls, seconds))
    await calls.close()


@pytest.fixture
def store(kind: Kind) -> KeyStore:
    return kind.store


async def _aged(calls: RedisCalls, seconds: float) -> None:
    """Redis has a clock of its own, so what is to come there is brought nearer instead."""
    ms = int(seconds * 1000)
    (names,) = await calls.ask([("KEYS", "*")])
    for name in names:
        (left, kind) = await calls.ask([("PTTL", name), ("TYPE", name)])
        if kind == b"zset":
            (members,) = await calls.ask([("ZRANGE", name, 0, -1)])
            await calls.ask([("ZINCRBY", name, -ms, member) for member in members])
        elif left >= 0 and b":key:" in name:
            await calls.ask([("DEL", name) if left <= ms else ("PEXPIRE", name, left - ms)])


async def test_a_key_is_claimed_by_one_and_answers_all(store: KeyStore, kind: Kind) -> None:
    assert await store.claim("t", "k", F, "one") == CLAIMED
    assert await store.claim("t", "k", F, "two") == BUSY
    assert await store.commit("t", "k", "one", b"\0out\xff", "{}")
    assert await store.claim("t", "k", F, "two") == Claim(State.KEPT, b"\0out\xff")
    await kind.age(999)
    assert await store.claim("t", "k", F, "two") == Claim(State.KEPT, b"\0out\xff")
    await kind.age(2)
    assert await store.claim("t", "k", F, "two") == CLAIMED


async def test_other_parameters_are_told_whether_the_first_call_has_ended_or_not(store: KeyStore) -> None:
    await store.claim("t", "k", F, "one")
    assert await store.claim("t", "k", G, "two") == OTHER
    await store.commit("t", "k", "one", b"", "{}")
    assert await store.claim("t", "k", G, "two") == OTHER
    assert await store.claim("t", "k", F, "two") == Claim(State.KEPT, b"")


async def test_tenants_and_keys_have_nothing_in_common(store: KeyStore) -> None:
    for tenant, key in (("t", "k"), ("t", "k2"), ("u", "k"), ("t:k", "")):
        assert await store.claim(tenant, key, F, "one") == CLAIMED


async def test_an_abandoned_key_is_free_for_any_call(store: KeyStore) -> None:
    await store.claim("t", "k", F, "one")
    await store.abandon("t", "k", "two")
    assert await store.claim("t", "k", F, "two") == BUSY
    await store.abandon("t", "k", "one")
    assert await store.claim("t", "k", G, "two") == CLAIMED


async def test_what_is_kept_cannot_be_abandoned_or_committed_again(store: KeyStore) -> None:
    await store.claim("t", "k", F, "one")
    await store.commit("t", "k", "one", b"first", "{}")
    await store.abandon("t", "k", "one")
    assert not await store.commit("t", "k", "one", b"second", "{}")
    assert not await store.renew("t", "k", "one")
    assert await store.claim("t", "k", F, "two") == Claim(State.KEPT, b"first")


async def test_a_dead_owner_blocks_nobody_and_a_late_one_changes_nothing(store: KeyStore, kind: Kind) -> None:
    await store.claim("t", "k", F, "dead")
    await kind.age(51)
    assert not await store.renew("t", "k", "dead")
    assert not await store.commit("t", "k", "dead", b"late", "{}")
    assert await store.claim("t", "k", F, "next") == CLAIMED
    assert not await store.commit("t", "k", "dead", b"late", "{}")
    await store.abandon("t", "k", "dead")
    assert await store.commit("t", "k", "next", b"good", "{}")
    assert await store.claim("t", "k", F, "two") == Claim(State.KEPT, b"good")


async def test_a_renewed_lease_goes_on(store: KeyStore, kind: Kind) -> None:
    await store.claim("t", "k", F, "one")
    for _ in range(3):
        await kind.age(40)
        assert await store.renew("t", "k", "one")
    assert await store.claim("t", "k", F, "two") == BUSY
    assert not await store.renew("t", "k", "two")
    assert await store.commit("t", "k", "one", b"", "{}")


async def test_a_tenant_has_only_so_many_keys_and_no_other_feels_it(store: KeyStore, kind: Kind) -> None:
    for i in range(5):
        assert await store.claim("t", f"k{i}", F, "one") == CLAIMED
    assert await store.claim("t", "more", F, "one") == FULL
    assert await store.claim("u", "more", F, "one") == CLAIMED
    assert await store.claim("t", "k1", F, "two") == BUSY
    await store.abandon("t", "k1", "one")
    assert await store.claim("t", "more", F, "one") == CLAIMED
    await kind.age(51)
    await store.purge()
    assert await store.claim("t", "again", F, "one") == CLAIMED


async def test_a_tenant_has_only_so_many_bytes_until_their_time_is_over(store: KeyStore, kind: Kind) -> None:
    for key, size in (("a", 600), ("b", 400)):
        assert await store.claim("t", key, F, "one") == CLAIMED
        assert await store.commit("t", key, "one", b"x" * size, "{}")
        await kind.age(500)
    # The time of the first is over, that of the second is not.
    await kind.age(1)
    assert await store.claim("t", "c", F, "one") == CLAIMED
    assert await store.commit("t", "c", "one", b"x" * 599, "{}")
    assert await store.claim("t", "d", F, "one") == CLAIMED
    assert await store.commit("t", "d", "one", b"x", "{}")
    assert await store.claim("t", "e", F, "one") == FULL
    assert await store.claim("u", "e", F, "one") == CLAIMED


async def test_of_many_that_claim_at_once_one_gets_it(kind: Kind) -> None:
    claims = await asyncio.gather(*(kind.store.claim("t", "k", F, f"token {i}") for i in range(30)))
    assert [claim.state for claim in claims].count(State.CLAIMED) == 1


class Compared(RuleBasedStateMachine):
    """SQLite does exactly what the plain table does, whatever comes."""

    KEYS, TENANTS = st.sampled_from("abcdefg"), st.sampled_from("tu")
    TOKENS, PRINTS = st.sampled_from(["1", "2"]), st.sampled_from([F, G])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop, self.clock = asyncio.new_event_loop(), Clock()
        self.table = KeyTable(RULES)
        self.path = Path(self.folder.name) / "keys.sqlite"
        self.file = SqliteKeys(self.path, RULES, self.clock)

    def run(self, result: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(result)

    @rule(tenant=TENANTS, key=KEYS, fingerprint=PRINTS, token=TOKENS)
    def claim(self, tenant: str, key: str, fingerprint: bytes, token: str) -> None:
        expected = self.table.claim(tenant, key, fingerprint, token, self.clock.now)
        assert self.run(self.file.claim(tenant, key, fingerprint, token)) == expected

    @rule(tenant=TENANTS, key=KEYS, token=TOKENS, size=st.sampled_from([0, 10, 700]))
    def commit(self, tenant: str, key: str, token: str, size: int) -> None:
        expected = self.table.commit(tenant, key, token, b"x" * size, self.clock.now)
        assert self.run(self.file.commit(tenant, key, token, b"x" * size, "{}")) == expected

    @rule(tenant=TENANTS, key=KEYS, token=TOKENS)
    def abandon(self, tenant: str, key: str, token: str) -> None:
        self.table.abandon(tenant, key, token, self.clock.now)
        self.run(self.file.abandon(tenant, key, token))

    @rule(tenant=TENANTS, key=KEYS, token=TOKENS)
    def renew(self, tenant: str, key: str, token: str) -> None:
        expected = self.table.renew(tenant, key, token, self.clock.now)
        assert self.run(self.file.renew(tenant, key, token)) == expected

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0, 600.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def restart(self) -> None:
        """Another process goes on with the file."""
        self.run(self.file.close())
        self.file = SqliteKeys(self.path, RULES, self.clock)

    def teardown(self) -> None:
        self.run(self.file.close())
        self.loop.close()
        self.folder.cleanup()


def test_the_file_does_what_the_table_does() -> None:
    rules = settings(max_examples=40, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Compared, settings=rules)


async def test_the_record_of_a_key_can_be_read_by_people_and_the_file_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.sqlite"
    store = SqliteKeys(path, RULES, Clock())
    await store.claim("t", "k", F, "one")
    await store.commit("t", "k", "one", b"", '{"request_id": "r-1"}')
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
        await store.claim("t", "k", F, "one")
    path.unlink()
    assert await store.claim("t", "k", F, "one") == CLAIMED
    await store.close()


async def test_a_redis_that_is_gone_is_said(redis: Valkey) -> None:
    clock = Clock()
    store = RedisKeys(RedisCalls(redis.url, 10.0, clock), RULES)
    await store.claim("t", "k", F, "one")
    redis.kill()
    for method in (store.claim("t", "k", F, "one"), store.commit("t", "k", "one", b"", "{}")):
        with pytest.raises(StoreUnreachableError):
            await method
    redis.start()
    clock.now += 2
    # What Redis acknowledged is still there: it was told to keep it.
    assert await store.commit("t", "k", "one", b"done", "{}")
    await store.close()


async def test_a_redis_that_hangs_or_holds_something_else_refuses_these_keys_and_changes_nothing(
    redis: Valkey,
) -> None:
    """To run the call without the store could run it twice: whoever sends a key wants to be refused rather."""
    clock = Clock()
    calls = RedisCalls(redis.url, 10.0, clock, pause_s=1.0)
    store = RedisKeys(calls, RULES)
    await store.claim("t", "k", F, "one")
    (names,) = await calls.ask([("KEYS", "*:key:*")])
    await calls.ask([("DEL", names[0]), ("RPUSH", names[0], "somebody else's")])
    for method in (
        store.claim("t", "k", F, "two"),
        store.renew("t", "k", "one"),
        store.commit("t", "k", "one", b"", "{}"),
    ):
        with pytest.raises(StoreUnreachableError, match="Redis refuses: WRONGTYPE"):
            await method
    assert await calls.ask([("LRANGE", names[0], 0, -1)]) == [[b"somebody else's"]]
    assert await store.claim("t", "another", F, "one") == CLAIMED
    hurried = RedisKeys(RedisCalls(redis.url, 1.0, clock), RULES)
    redis.signal(signal.SIGSTOP)
    for told in ("TimeoutError", "failed a moment ago"):
        with pytest.raises(StoreUnreachableError, match=told):
            await hurried.claim("t", "new", F, "one")
    redis.signal(signal.SIGCONT)
    clock.now += 2
    assert await hurried.claim("t", "new", F, "one") in (CLAIMED, BUSY)
    for one in (store, hurried):
        await one.close()


@given(st.binary(max_size=60) | st.builds(lambda t: struct.pack("<I", len(t)) + t, JUNK))
@example(b"")
@example(b"\x05\0\0\0{}")
@example(b"\x02\0\0\0{}")
def test_what_is_no_outcome_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Outcome.of_bytes(data)


async def test_an_outcome_that_cannot_be_read_is_refused_and_never_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = Door()
    monkeypatch.setattr(Outcome, "to_bytes", lambda _: b"of a later version")
    await door.predict("first")
    for _ in range(2):
        with pytest.raises(Fault, match="can't be read, so nothing was done") as refused:
            await door.predict("again")
        assert (refused.value.code, refused.value.reason) == (
            Code.UNAVAILABLE,
            Reason.REASON_IDEMPOTENCY_UNAVAILABLE,
        )
    assert (door.ran, door.meter.counts["unreadable"]) == (1, 2)
