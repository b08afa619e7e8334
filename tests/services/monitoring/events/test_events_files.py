"""Files of events: written, altered, a kill between any two steps, shared, a bucket that is away, the audit."""

import hashlib
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.events import Mask
from services.monitoring.events.file_audit import tell_audit
from services.monitoring.events.manifest.tables import BATCHES
from services.monitoring.events.query import find
from services.monitoring.events.reception import Reception
from services.monitoring.events.values import Erasure, Query
from services.monitoring.outcomes.records import StorageError
from tests.object_server import SECRET, ObjectServer, Relay
from tests.released import releases_in
from tests.services.monitoring.monitoring_events import World, group
from tests.services.monitoring.monitoring_outcomes import NOW

_DAY_S = 86_400.0


def test_events_go_into_files_by_age_and_size_and_other_programs_read_them(
    store_of: Callable[..., World],
) -> None:
    world = store_of(file_s=60.0, file_bytes=20_000)
    assert world.take(group(1, 3), group(4, 2, pipeline="other"), noted=5) == (5, 0)
    world.wall.now = NOW + 60
    world.store.close_due()
    assert world.paths == []  # few events wait for more
    world.wall.now = NOW + 21_600
    world.store.close_due()
    [file, _] = sorted(world.store.manifest.files(), key=lambda f: f.pipeline)
    assert (file.rows, file.tenants, file.first_us, file.last_us) == (
        3,
        ("acme",),
        NOW * 1e6 + 1,
        NOW * 1e6 + 3,
    )
    content = world.content(file.path)
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    table = pq.read_table(pa.BufferReader(content))
    assert table["$pipeline"].to_pylist() == ["flights"] * 3
    assert table["$models"].to_pylist()[0][0]["sha256"] == "ab" * 32
    assert table["x"].to_pylist() == [1, 2, 3]
    assert table["y"].to_pylist() == [1.0, 2.0, None]
    for i in range(4):
        world.take(group(6 + 1000 * i, 1000))
    world.store.close_due()
    assert len(world.paths) == 2 + 4
    assert world.store.manifest.waiting() == []


@pytest.mark.parametrize("cause", ["flipped byte", "shorter", "gone", "planted"])
def test_what_is_not_what_was_stored_is_named_and_the_rest_is_served(world: World, cause: str) -> None:
    for first in (1, 4):
        world.stored(group(first, 3, now=NOW + first))
    _, path = (file.path for file in world.store.manifest.files())
    content = world.content(path)
    half = len(content) // 3
    match cause:
        case "flipped byte":
            world.put(path, content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
        case "shorter":
            world.put(path, content[:-1])
        case "gone":
            world.worker.run("remove", path)
        case "planted":
            planted = path.replace(".parquet", "0.parquet")
            world.put(planted, content)
            assert [(p.path, p.why) for p in world.store.check()] == [(planted, "nobody has stored it")]
            assert len(world.requests()) == 6
            return
    assert [problem.path for problem in world.store.check()] == [path]
    if cause != "flipped byte":  # only what it hits is read again and again
        assert find(world.store, Query()).unreadable == [path]
        assert world.requests() == ["r4", "r5", "r6"]
        erased = world.erase(Erasure("acme", whole_tenant=True), Mask(None))
        assert (erased.events, erased.unreadable) == (3, [path])
    assert len(world.log.of("a file of events is not what was stored")) == 1
    assert world.metrics.files.unreadable._value.get() == 1


class KilledError(Exception):
    """As if the process were killed here."""


def stopping(world: World, after: int) -> None:
    """What the store does to database and files fails from the step `after` on."""
    left = after

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            nonlocal left
            if left <= 0:
                raise KilledError
            left -= 1
            return call(*args)

        return run

    world.worker.run = counted(world.worker.run)  # type: ignore[method-assign]  # a kill between two steps
    world.facts.write = counted(world.facts.write)  # type: ignore[method-assign]  # a kill between two steps


@pytest.mark.parametrize("also", [(), ("r2",)], ids=["closing", "erasure"])
def test_killed_between_any_two_steps_nothing_is_lost_or_comes_back(
    tmp_path: Path, also: tuple[str, ...]
) -> None:
    left = {"r1", "r2", "r3", "r4"} - set(also)
    for step in range(100):
        world = World(tmp_path / str(step))
        world.take(group(1, 2), group(3, 2, pipeline="other"))
        stopping(world, step)
        try:
            world.erase(Erasure("acme", request_ids=also), Mask(None))
            done = True
        except KilledError:
            done = False
        world.again()
        world.erase(Erasure("acme", request_ids=also), Mask(None))
        assert set(world.requests()) == left
        world.wall.now += 3601
        world.store.sweep()
        assert world.store.check() == []
        assert {file.path for file in world.store.manifest.files()} == set(world.paths)
        assert world.take(group(1, 4)) == (0, 0)
        world.close()
        if done:
            assert step > 6
            return
    raise AssertionError("it does not end")


def test_two_processes_store_each_number_and_close_each_batch_once(
    postgres_address: str, tmp_path: Path
) -> None:
    one, other = (World(tmp_path, postgres_address) for _ in range(2))
    with ThreadPoolExecutor(2) as threads:
        for first in range(1, 400, 40):
            both = [threads.submit(world.take, group(first, 40), noted=first + 39) for world in (one, other)]
            assert sorted(done.result()[0] for done in both) == [0, 40]
        for done in [threads.submit(world.store.close_due, everything=True) for world in (one, other)]:
            done.result()
    assert len(one.requests()) == len(other.requests()) == 400
    stream = one.store.manifest.streams()[7]
    assert (len(stream.received), stream.received.gaps(stream.noted)) == (400, [])
    one.store.sweep()
    assert one.store.check() == []
    # One erases what the other one reads: it finds what is left.
    assert one.erase(Erasure("acme", request_ids=("r5",)), Mask(None)).events == 1
    assert len(other.requests()) == 399
    one.close()
    other.close()


def test_the_audit_has_the_hash_of_each_file_and_that_it_went(world: World, tmp_path: Path) -> None:
    with releases_in(tmp_path / "control") as releases:
        records = releases.records

        def lines() -> list[tuple[str, str]]:
            tell_audit(records, world.store.manifest)
            found = [json.loads(line.line) for line in records.lines()]
            return [
                (line["action"], line["details"]["sha256"])
                for line in found
                if line["action"].startswith("events.")
            ]

        world.stored(group(1, 3))
        [file] = world.store.manifest.files()
        assert lines() == lines() == [("events.store", file.sha256)]
        assert world.store.manifest.hashes() == {file.path: file.sha256}
        world.erase(Erasure("acme", request_ids=("r2",)), Mask(None))
        [new] = world.store.manifest.files()
        assert sorted(lines()[1:]) == [("events.remove", file.sha256), ("events.store", new.sha256)]
        world.store.sweep()
        assert world.store.manifest.paths() == {new.path}
        assert world.store.manifest.hashes() == {new.path: new.sha256}


def failing(world: World) -> set[tuple[str, str]]:
    """Work that fails, and of which pipeline."""
    [family] = world.metrics.files.failing.collect()
    return {(s.labels["work"], s.labels["pipeline"]) for s in family.samples if s.value}


@pytest.mark.parametrize("broken", ["flights", "other"])
async def test_events_that_cannot_be_written_hold_up_no_others(tmp_path: Path, broken: str) -> None:
    """Nor do they take the room that is for all."""
    other = {"flights": "other"}.get(broken, "flights")
    world = World(tmp_path, retention={"max_bytes": 1 << 20})
    world.take(group(1, 3), group(4, 2, pipeline="other"))
    spoilt = BATCHES.update().where(BATCHES.c.pipeline == broken).values(content=b"x", bytes=2 << 20)
    world.facts.write(lambda c: c.execute(spoilt))
    reception = Reception(world.store, Mask(None), (), world.metrics, world.wall, world.log)
    await reception._attempt("close", lambda: world.store.close_due(everything=True))
    assert [file.pipeline for file in world.store.manifest.files()] == [other]
    assert failing(world) == {("close", broken)}
    [(_, about)] = world.log.lines
    assert (about["work"], about["pipeline"]) == ("close", broken)
    both = [group(6, 3, pipeline=broken), group(9, 2, pipeline=other)]
    taken = await reception.take("router-1", 7, 10, both, durable=False)
    assert (taken.stored, taken.dropped) == (2, 3)
    with pytest.raises(StorageError, match=f"events of {broken}"):
        await reception.take("router-1", 8, 3, [group(1, 3, pipeline=broken)], durable=True)
    taken = await reception.take("router-1", 8, 7, [group(4, 4, pipeline=other)], durable=True)
    assert (taken.stored, taken.problem) == (4, "")
    [_, (said, about)] = world.log.lines  # once, however many others are stored
    assert (said, broken in about["error"]) == ("events can't be stored", True)
    # An erasure does not say that it is done.
    with pytest.raises(StorageError, match=broken):
        await reception.erase(Erasure("acme", whole_tenant=True))
    await reception.close()
    world.close()


async def test_a_bucket_that_is_away_stops_only_what_needs_it_and_heals(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    relay = Relay(object_server.endpoint)
    world = World(tmp_path, files=object_server.url(uuid.uuid4().hex, relay.port))
    reception = Reception(world.store, Mask(None), (), world.metrics, world.wall, world.log)
    world.stored(group(1, 3))
    relay.shut()
    taken = await reception.take("router-1", 7, 7, [group(4, 4, now=NOW + 1)], durable=True)
    assert taken.stored == 4
    newest = await reception.find(Query(limit=4))
    assert [e["request_id"] for e in newest.events] == ["r7", "r6", "r5", "r4"]
    with pytest.raises(StorageError, match="object storage"):
        await reception.find(Query())
    with pytest.raises(StorageError, match="object storage"):
        await reception.erase(Erasure("acme", whole_tenant=True))
    for _ in range(2):
        await reception._attempt("close", lambda: world.store.close_due(everything=True))
        # That other work goes well heals nothing.
        await reception._attempt("measure", world.store.manifest.size_bytes)
    assert failing(world) == {("close", "flights")}
    relay.open()
    await reception._attempt("close", lambda: world.store.close_due(everything=True))
    assert failing(world) == set()
    found = await reception.find(Query())
    assert sorted(str(e["request_id"]) for e in found.events) == [f"r{n}" for n in range(1, 8)]
    assert world.log.events == [
        "files of events can't be written or read",
        "files of events can be written and read again",
    ]
    assert SECRET not in str(world.log.lines)
    await reception.close()
    world.close()
    relay.close()
