"""Events in segments: each once, found, erased, swept; what is damaged or does not fit on the disk costs nothing else."""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from headrace.columns import DType
from headrace.events import EventGroup, Mask
from headrace.hop.errors import Code, Reason
from services.monitoring.events.file_audit import tell_audit
from services.monitoring.events.query import find, read
from services.monitoring.events.reception import Reception
from services.monitoring.events.store import Erased
from services.monitoring.events.values import Erasure, MaskedError, Query, Subject
from services.monitoring.outcomes.records import StorageError
from tests.disks import fill, tiny_disk
from tests.object_server import BUCKET, SECRET, ObjectServer, Relay
from tests.released import releases_in
from tests.services.monitoring.monitoring_events import SALT, World, group
from tests.services.monitoring.monitoring_outcomes import NOW

_DAY_S = 86_400.0


class Place(World):
    """Where files can be looked at and damaged."""

    def __init__(
        self, address: str, files: str, raw: pyarrow.fs.FileSystem, root: str, **settings: Any
    ) -> None:
        super().__init__(Path(), address, files, **settings)
        self._raw, self._root = raw, root

    def content(self, path: str) -> bytes:
        with self._raw.open_input_file(f"{self._root}/{path}") as file:
            return bytes(file.read())

    def put(self, path: str, content: bytes) -> None:
        with self._raw.open_output_stream(f"{self._root}/{path}") as stream:
            stream.write(content)

    def delete(self, path: str) -> None:
        self._raw.delete_file(f"{self._root}/{path}")

    @property
    def requests(self) -> list[str]:
        return requests(self)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes a store: on SQLite with a folder, on PostgreSQL with a bucket."""
    made: list[Place] = []

    def make(**settings: Any) -> Place:
        if request.param == "folder":
            address, root = str(tmp_path / "facts.sqlite"), str(tmp_path / "files")
            made.append(Place(address, root, pyarrow.fs.LocalFileSystem(), root, **settings))
        else:
            server, prefix = request.getfixturevalue("object_server"), uuid.uuid4().hex
            address = request.getfixturevalue("postgres_address")
            made.append(Place(address, server.url(prefix), server.files(), f"{BUCKET}/{prefix}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def world(place: Callable[..., Place]) -> Place:
    return place()


def requests(world: World, query: Query | None = None) -> list[str]:
    query = query or Query(limit=1000)
    return sorted(str(e["request_id"]) for e in find(world.store, query).events)


def test_events_go_into_files_by_age_and_size_and_other_programs_read_them(
    place: Callable[..., Place],
) -> None:
    world = place(file_s=60.0, file_bytes=20_000)
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


def test_a_number_that_comes_twice_is_stored_once(world: Place) -> None:
    assert world.take(group(1, 4)) == (4, 0)
    assert world.take(group(1, 4)) == (0, 0)
    assert world.take(group(3, 4)) == (2, 0)
    assert world.take(group(1, 4), epoch=8) == (4, 0)
    world.store.close_due(everything=True)
    world.again()
    assert world.take(group(1, 7)) == (1, 0)
    assert len(requests(world)) == 11


def test_gaps_are_what_was_noted_and_never_came_also_after_a_restart(world: Place) -> None:
    counts = Reception(world.store, Mask(None), (), world.metrics, world.wall, world.log)
    world.take(group(1, 3), noted=3)
    world.take(group(6, 2), noted=9)
    for missing in (0, 4):  # at first they may be on their way
        stream = world.store.manifest.streams()[7]
        assert stream.received.gaps(stream.noted)[:1] == [(4, 5)]
        counts._measure(world.store)
        assert world.metrics.missing._value.get() == missing
        world.store.close_due(everything=True)
    assert stream.received.gaps(stream.noted) == [(4, 5), (8, 9)]
    world.again()
    stream = world.store.manifest.streams()[7]
    assert (stream.replica, stream.received.gaps(stream.noted)) == ("router-1", [(4, 5), (8, 9)])


def test_events_are_found_by_id_tenant_request_and_time_waiting_and_in_files(world: Place) -> None:
    world.take(group(1, 4, tenants=("acme", "beta")))
    for _ in range(2):
        [event] = find(world.store, Query(request_id="r2")).events
        assert event["prediction_id"] == "r2/0"
        assert find(world.store, Query(request_id="r2", row=0)).events == [event]
        assert find(world.store, Query(request_id="r2", row=1)).events == []
        assert find(world.store, Query(event_id=bytes.fromhex(str(event["event_id"])))).events == [event]
        assert requests(world, Query(tenant="beta")) == ["r2", "r4"]
        assert requests(world, Query(pipeline="other")) == []
        assert requests(world, Query(first_us=int(NOW * 1e6) + 10)) == []
        assert [e["request_id"] for e in find(world.store, Query(limit=2)).events] == ["r4", "r3"]
        world.store.close_due(everything=True)
    assert event["inputs"] == {"x": 2, "key": "k2", "vector": [1.0, 1.0, 1.0]}
    assert (event["outputs"], event["fallbacks"], event["cached"]) == ({"y": 2.0}, ["store:default"], True)
    assert (event["stage_us"], event["busy_us"], event["code"]) == ({"sum": 6}, 10, "OK")
    assert event["models"] == [{"stage": "sum", "model": "adder", "version": "7", "sha256": "ab" * 32}]


@pytest.mark.parametrize(
    ("reason", "name"),
    [(int(Reason.REASON_INTERNAL), "INTERNAL"), (9999, "9999")],
    ids=["known", "of a newer router"],
)
def test_events_of_failures_are_shown_with_code_and_reason(world: Place, reason: int, name: str) -> None:
    world.take(group(1, 2, failed=(int(Code.INTERNAL), reason)))
    shown = find(world.store, Query()).events
    assert [(e["code"], e["reason"]) for e in shown] == [("INTERNAL", name)] * 2


def columns_of(groups: list[EventGroup]) -> dict[str, list[object]]:
    """Each column's values, nulls as None."""
    found: dict[str, list[object]] = {}
    for one in groups:
        for name, column in one.batch.columns.items():
            values = column.ragged.to_list() if column.dtype is DType.BYTES else column.array.tolist()
            valid = column.is_valid().tolist()
            found.setdefault(name, []).extend(
                v if there else None for v, there in zip(values, valid, strict=True)
            )
    return found


@pytest.mark.parametrize("apart_us", [1, 0])
def test_events_are_read_page_by_page_as_they_were_stored(world: Place, apart_us: int) -> None:
    """Across open and closed segments of two arms whose times overlap, or are the same for all."""
    stored = [
        group(1, 5, apart_us=apart_us),
        group(1, 4, pipeline="other"),
        group(6, 5, mask=Mask(SALT), apart_us=apart_us),
    ]
    world.stored(stored[0], stored[1])
    world.take(stored[2])
    groups, before, pages = list[EventGroup](), None, 0
    while pages == 0 or before is not None:
        page = read(world.store, Query(pipeline="flights", limit=3, before=before))
        groups, before, pages = [*groups, *page.groups], page.last, pages + 1
        assert sum(map(len, page.groups)) <= 3
    assert pages == 4
    expected = columns_of([stored[0], stored[2]])
    found = columns_of(groups)
    order = [int(str(n)) - 1 for n in found["@sequence"]]
    assert order == list(range(9, -1, -1))
    assert found == {name: [values[i] for i in order] for name, values in expected.items()}
    assert {g.batch.columns["vector"].row_shape for g in groups} == {(3,)}
    assert [g.header for g in groups if g.header.masked] == [stored[2].header] * 2


def test_the_newest_are_found_however_segments_overlap(world: Place) -> None:
    """The segment that ends last has few events, and most of them are old."""
    world.stored(group(1, 1, now=NOW), group(2, 1, now=NOW + 60))
    world.stored(group(1, 3, pipeline="other", now=NOW + 30), epoch=8)
    newest = find(world.store, Query(limit=2)).events
    assert [(e["pipeline"], e["request_id"]) for e in newest] == [("flights", "r2"), ("other", "r3")]
    found = find(world.store, Query(last_us=int(NOW * 1e6) + 1_000_000, limit=1)).events
    assert [e["request_id"] for e in found] == ["r1"]


@pytest.mark.parametrize(
    ("who", "left"),
    [
        (Erasure("acme", whole_tenant=True), ["r2", "r4", "r6"]),
        (Erasure("acme", request_ids=("r1", "r2")), ["r2", "r3", "r4", "r5", "r6"]),
        (Erasure("acme", (Subject("key", "k3"),)), ["r1", "r2", "r4", "r5", "r6"]),
        (Erasure("acme", (Subject("key", "k2"),)), ["r1", "r2", "r3", "r4", "r5", "r6"]),
        (Erasure("acme", (Subject("x", "5"), Subject("key", "k1"))), ["r2", "r3", "r4", "r6"]),
        (Erasure("nobody", whole_tenant=True), ["r1", "r2", "r3", "r4", "r5", "r6"]),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_erasure_removes_only_what_it_names(
    world: Place, who: Erasure, left: list[str], masked: bool
) -> None:
    mask = Mask(SALT)
    world.stored(group(1, 3, tenants=("acme", "beta"), mask=mask if masked else None))
    world.take(group(4, 3, tenants=("beta", "acme"), mask=mask if masked else None))
    erased = erase(world, who, mask)
    assert erased.events == 6 - len(left)
    assert requests(world) == left
    assert {file.path for file in world.store.manifest.files()} == set(world.paths)
    assert world.store.check() == []
    # What was erased was received all the same: it is no gap, and does not come back.
    assert world.take(group(1, 6)) == (0, 0)
    assert erase(world, who, mask).events == 0


def test_erasure_by_a_masked_input_needs_the_salt(world: Place) -> None:
    world.take(group(1, 3, mask=Mask(SALT)))
    with pytest.raises(MaskedError, match="key"):
        erase(world, Erasure("acme", (Subject("key", "k1"),), ("r2",)), Mask(None))
    assert requests(world) == ["r1", "r2", "r3"]
    assert erase(world, Erasure("acme", request_ids=("r2",)), Mask(None)).events == 1


def erase(world: World, who: Erasure, mask: Mask) -> Erased:
    subjects = [
        replace(one, masked=mask.hash(one.column, one.value.encode()) if mask.finds else None)
        for one in who.subjects
    ]
    return world.store.erase(replace(who, subjects=tuple(subjects)))


@pytest.mark.parametrize("cause", ["flipped byte", "shorter", "gone", "planted"])
def test_what_is_not_what_was_stored_is_named_and_the_rest_is_served(world: Place, cause: str) -> None:
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
            world.delete(path)
        case "planted":
            planted = path.replace(".parquet", "0.parquet")
            world.put(planted, content)
            assert [(p.path, p.why) for p in world.store.check()] == [(planted, "nobody has stored it")]
            assert len(world.requests) == 6
            return
    assert [problem.path for problem in world.store.check()] == [path]
    if cause != "flipped byte":  # only what it hits is read again and again
        assert find(world.store, Query()).unreadable == [path]
        assert world.requests == ["r4", "r5", "r6"]
        erased = erase(world, Erasure("acme", whole_tenant=True), Mask(None))
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

    world.worker.run = counted(world.worker.run)  # type: ignore[method-assign]
    world.facts.write = counted(world.facts.write)  # type: ignore[method-assign]


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
            erase(world, Erasure("acme", request_ids=also), Mask(None))
            done = True
        except KilledError:
            done = False
        world.again()
        erase(world, Erasure("acme", request_ids=also), Mask(None))
        assert set(requests(world)) == left
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
    assert len(requests(one)) == len(requests(other)) == 400
    stream = one.store.manifest.streams()[7]
    assert (len(stream.received), stream.received.gaps(stream.noted)) == (400, [])
    one.store.sweep()
    assert one.store.check() == []
    # One erases what the other one reads: it finds what is left.
    assert erase(one, Erasure("acme", request_ids=("r5",)), Mask(None)).events == 1
    assert len(requests(other)) == 399
    one.close()
    other.close()


def test_the_audit_has_the_hash_of_each_file_and_that_it_went(world: Place, tmp_path: Path) -> None:
    with releases_in(tmp_path / "control") as releases:
        records = releases.records

        def told() -> list[tuple[str, str]]:
            tell_audit(records, world.store.manifest)
            lines = [json.loads(line.line) for line in records.lines()]
            return [
                (line["action"], line["details"]["sha256"])
                for line in lines
                if line["action"].startswith("events.")
            ]

        world.stored(group(1, 3))
        [file] = world.store.manifest.files()
        assert told() == told() == [("events.store", file.sha256)]
        assert world.store.manifest.hashes() == {file.path: file.sha256}
        erase(world, Erasure("acme", request_ids=("r2",)), Mask(None))
        [new] = world.store.manifest.files()
        assert sorted(told()[1:]) == [("events.remove", file.sha256), ("events.store", new.sha256)]
        world.store.sweep()
        assert world.store.manifest.paths() == {new.path}
        assert world.store.manifest.hashes() == {new.path: new.sha256}


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
        await reception._attempt(lambda: world.store.close_due(everything=True))
    assert world.metrics.files.failing._value.get() == 1
    relay.open()
    await reception._attempt(lambda: world.store.close_due(everything=True))
    assert world.metrics.files.failing._value.get() == 0
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


def test_retention_is_by_age_of_the_pipeline(place: Callable[..., Place]) -> None:
    world = place(retention={"days": 7.0, "pipelines": {"short": 1.0}, "max_bytes": 1 << 20})
    world.stored(group(1, 3), group(4, 3, pipeline="short"))
    assert world.store.sweep() == 0
    world.wall.now = NOW + 2 * _DAY_S
    assert world.store.sweep() == 3
    assert {e["pipeline"] for e in find(world.store, Query()).events} == {"flights"}
    world.wall.now = NOW + 8 * _DAY_S
    assert world.store.sweep() == 3
    assert world.paths == []


def test_a_full_disk_drops_what_may_be_lost_refuses_what_may_not_and_heals(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        world = World(folder)
        assert world.take(group(1, 10), noted=10) == (10, 0)
        filler = fill(folder, "filler")
        many = group(11, 2000)
        assert world.take(many, noted=2010) == (0, 2000)
        with pytest.raises(StorageError, match="no room"):
            world.take(group(2011, 2000), epoch=9, durable=True)
        filler.unlink()
        assert world.take(group(2011, 5), noted=2015) == (5, 0)
        assert world.take(group(2011, 20), epoch=9, durable=True) == (20, 0)
        world.store.close_due(everything=True)
        stream = world.store.manifest.streams()[7]
        assert stream.received.gaps(stream.noted) == [(11, 2010)]
        assert len(requests(world)) == 35
        world.close()
