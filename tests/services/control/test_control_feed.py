"""What each service follows: from any position the changes lead to the newest part, and what is signed says where it is."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.catalog.access import Change, Position, Record, Write
from headrace.catalog.messages import position_message
from headrace.catalog.records import CatalogRecords
from headrace.hop.call import LOCAL_PEER
from headrace.resources.manifest import ANCESTORS, Manifest, SignedManifest, Signer, descends, new_keys
from headrace.resources.snapshot import PARTS, Snapshot
from services.control.head import Head, seen_of
from services.control.identity import Identities
from services.control.resources.feed import EMPTY, SERVICES, Feed, Published
from services.control.resources.followers import Followers
from services.control.resources.servicer import ResourcesServicer

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
SIGNER = Signer(new_keys()[0])
KINDS = ("release", "document", "tenant", "model", "nobody's")


def position(number: int, epoch: int = 1) -> Position:
    return Position(epoch, number, hashlib.sha256(b"%d" % number).digest())


def followed(published: Published, service: str, have: Snapshot, number: int) -> Snapshot:
    """What a process has that applies the changes since `number`."""
    changes = published.parts[service].since(number)
    written = [found for _, found in changes if found is not None]
    return have.changed(written, [key for key, found in changes if found is None])


writes = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from("abc"), st.one_of(st.none(), st.binary(max_size=3))),
    max_size=4,
    unique_by=lambda write: write[:2],
)


@given(st.lists(writes, max_size=12))
@settings(max_examples=100)
def test_from_each_position_the_changes_lead_to_the_newest(history: list) -> None:
    published, all_published = EMPTY, [EMPTY]
    for number, change in enumerate(history, 1):
        records = [Record(kind, name, number, number, content) for kind, name, content in change]
        published = published.after(position(number), records, [])
        all_published.append(published)
    for service in SERVICES:
        newest = published.parts[service]
        assert Snapshot.of(found for _, found in newest.whole() if found) == newest.snapshot
        assert newest.digest == newest.snapshot.digest()
        assert "nobody's" not in {kind for kind, _ in newest.changed}
        for older in all_published:
            have = older.parts[service].snapshot
            assert followed(published, service, have, older.position.number) == newest.snapshot


def test_the_manifest_proves_where_it_comes_from() -> None:
    ancestors = [position(1), position(40, 2), *(position(number, 2) for number in range(100, 201))]
    published = EMPTY.after(position(200, 2), [], ancestors)
    manifest = published.manifest("router", NOON)
    assert manifest.ancestors == tuple((n, position(n).head) for n in range(200 - ANCESTORS, 200))
    assert manifest.begins == (position(1), position(40, 2))
    assert descends(position(150, 2), manifest)
    assert descends(position(7), manifest), "of an epoch that has ended"
    assert not descends(position(50, 2), manifest)
    assert descends(position(50, 2), published.manifest("router", NOON, position(50, 2)))
    assert published.manifest("router", NOON, position(150, 2)).after is None, "it is among the ancestors"


class Database:
    """A real one, and a feed of it."""

    def __init__(self, folder: Path) -> None:
        self.records = CatalogRecords.open(str(folder / "control.sqlite"), initialise=True)
        self.threads = ThreadPoolExecutor(2)
        self.signed = 0
        self.feed = Feed(lambda: self.records, self.threads, self.sign, lambda: NOON)

    def sign(self, manifest: Manifest) -> SignedManifest:
        self.signed += 1
        return SIGNER.sign(manifest)

    def write(self, name: str, content: bytes | None = b"x", kind: str = "tenant") -> Position:
        change = Change("me", "tenant.change", name, [Write(kind, name, content)])
        return self.records.change(change).position

    def close(self) -> None:
        self.threads.shutdown()
        self.records.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path)
    yield found
    found.close()


async def test_the_feed_follows_the_database(database: Database) -> None:
    database.write("a")
    first = await database.feed.read()
    assert first.parts["ingress"].snapshot.names("tenant") == ["a"]
    changed = database.feed.changed
    assert await database.feed.read() is first
    assert not changed.is_set()
    database.write("a", None)
    newest = database.write("b")
    second = await database.feed.read()
    assert changed.is_set()
    assert (second.position, database.feed.at(newest.number)) == (newest, second)
    assert second.parts["ingress"].snapshot.names("tenant") == ["b"]
    assert second.parts["router"] is first.parts["router"], "nothing of it changed"
    other = Feed(lambda: database.records, database.threads, database.sign, lambda: NOON)
    assert (await other.read()).parts["ingress"].digest == second.parts["ingress"].digest


async def test_positions_are_found_in_the_history(database: Database) -> None:
    old = [database.write("a") for _ in range(ANCESTORS + 10)]
    newest = await database.feed.read()
    assert old[0] not in newest.ancestors
    for have in (old[0], old[-1], old[30]):
        assert await database.feed.has(have)
        assert await database.feed.problem_of(have) == ""
    ahead = Position(1, old[-1].number + 1, bytes(32))
    other = Position(1, old[0].number, bytes(32))
    for have in (ahead, other, Position(2, 3, bytes(32))):
        assert not await database.feed.has(have)
        assert "is not in the history" in await database.feed.problem_of(have)


async def test_a_database_that_went_back_is_read_anew(tmp_path: Path, database: Database) -> None:
    first = database.write("a")
    second = database.write("b")
    await database.feed.read()
    (tmp_path / "other").mkdir()
    restored = Database(tmp_path / "other")
    try:
        restored.write("a")
        database.feed._history = lambda: restored.records
        found = await database.feed.read()
        assert found.parts["ingress"].snapshot.names("tenant") == ["a"]
        assert await database.feed.problem_of(second)
        # Also once its numbers are greater than what is known.
        for _ in range(5):
            restored.write("c")
        database.feed._history = lambda: database.records
        assert (await database.feed.read()).position == second
        database.feed._history = lambda: restored.records
        found = await database.feed.read()
        assert found.parts["ingress"].snapshot.names("tenant") == ["a", "c"]
        assert await database.feed.problem_of(first)
    finally:
        restored.close()


async def test_manifests_are_signed_once_for_all_who_are_near(database: Database) -> None:
    old = [database.write("a") for _ in range(ANCESTORS + 5)]
    newest = await database.feed.read()
    for have in (None, *old[-20:]):
        database.feed.signed(newest, "router", have)
    assert database.signed == 1
    for _ in range(2):
        signed = database.feed.signed(newest, "router", old[0])
    assert database.signed == 2
    assert descends(old[0], signed.manifest)


async def test_who_waits_is_answered_once_the_drain_begins(database: Database) -> None:
    newest = database.write("a")
    await database.feed.read()
    head, settled = Head(lambda: database.records, lambda _: None), asyncio.Event()
    head.seen = seen_of(database.records, newest)
    identities = Identities((), {}, {"ingress": PARTS})
    followers = Followers(time.monotonic)
    servicer = ResourcesServicer(head, database.feed, followers, identities, settled)
    have = position_message(newest)
    request = WatchRequest(watcher="door", service="ingress", have=have, wait_ms=30_000)
    call: Any = SimpleNamespace(peer=LOCAL_PEER, deadline=time.monotonic() + 60)
    waits = [
        asyncio.ensure_future(servicer.Watch(request, call)),
        asyncio.ensure_future(head.wait(newest, time.monotonic() + 60, caller=True)),
    ]
    while not followers.all():
        await asyncio.sleep(0)
    servicer.end_waits()
    head.end_waits()
    assert await asyncio.wait_for(asyncio.gather(*waits), 20) == [WatchResponse(), head.seen]
