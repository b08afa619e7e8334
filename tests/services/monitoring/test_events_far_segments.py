"""Closed segments in a folder and on real object storage do the same; storage that is away stops nothing but old events."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from pydantic import ValidationError

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.events import EventGroup, Mask, messages
from headrace.hop.config import ConfigError
from headrace.hop.testing import served
from headrace.state.files import sealed_before
from headrace.state.files.claims import claimed
from services.monitoring.events.erasure import Erasure, erase
from services.monitoring.events.query import Query, find
from services.monitoring.events.reception import Reception
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.shipment import Shipment
from services.monitoring.events.storage.closed import AwayError
from services.monitoring.outcomes.records import StorageError
from services.monitoring.wiring import SERVICE
from tests.object_server import BUCKET, SECRET, ObjectServer, Relay
from tests.services.monitoring.monitoring_calls import call, report
from tests.services.monitoring.monitoring_events import World, group
from tests.services.monitoring.monitoring_outcomes import NOW
from tests.services.waiting import until

_DAY_S = 86_400.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    made = ObjectServer(tmp_path_factory.mktemp("objects"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(made.credentials))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            made.start()
            yield made
        finally:
            made.kill()


@pytest.fixture
def relay(server: ObjectServer) -> Iterator[Relay]:
    made = Relay(server.endpoint)
    yield made
    made.close()


class Machine(World):
    """A world whose closed segments are under a prefix of a bucket, or stay in its folder (`server` None)."""

    def __init__(
        self,
        folder: Path,
        server: ObjectServer | None,
        prefix: str,
        port: int = 0,
    ) -> None:
        super().__init__(folder, **({} if server is None else {"segments": server.url(prefix, port)}))
        self._files = pyarrow.fs.LocalFileSystem() if server is None else server.files()
        self._root = str(folder / "segments") if server is None else f"{BUCKET}/{prefix}"

    def ships(self, *groups: EventGroup, **options: Any) -> None:
        """Takes them; then all segments are closed, and go where they belong."""
        self.stored(*groups, **options)
        for name in self.store.closed.local_names():
            self.store.closed.settle(name)

    @property
    def names(self) -> list[str]:
        found = self._files.get_file_info(pyarrow.fs.FileSelector(self._root, allow_not_found=True))
        return sorted(f.base_name for f in found if f.is_file)

    def damage(self, name: str) -> None:
        path = f"{self._root}/{name}"
        with self._files.open_input_file(path) as file:
            content = bytearray(file.read())
        content[len(content) // 2 - 400 : len(content) // 2] = bytes(400)
        with self._files.open_output_stream(path) as stream:
            stream.write(bytes(content))

    def content(self, name: str) -> bytes:
        with self._files.open_input_file(f"{self._root}/{name}") as file:
            return bytes(file.read())

    @property
    def requests(self) -> list[str]:
        return sorted(str(e["request_id"]) for e in find(self.store, Query(limit=1000)).events)


@pytest.fixture(params=["folder", "s3"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    server = request.getfixturevalue("server") if request.param == "s3" else None
    made = Machine(tmp_path / "a", server, f"{uuid.uuid4().hex}/segments")
    yield made
    made.close()


@pytest.fixture
def pair(server: ObjectServer, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines with one prefix."""
    prefix = uuid.uuid4().hex
    made = Machine(tmp_path / "a", server, prefix), Machine(tmp_path / "b", server, prefix)
    yield made
    for one in made:
        one.close()


def test_closed_segments_are_found_also_by_request_and_after_a_lost_index(machine: Machine) -> None:
    machine.ships(group(1, 3), noted=3)
    machine.ships(group(4, 3, now=NOW + 1), noted=6)
    assert len(machine.names) == 2
    assert machine.requests == [f"r{n}" for n in range(1, 7)]
    [event] = find(machine.store, Query(request_id="r2")).events
    assert event["inputs"] == {"x": 2, "key": "k2", "vector": [1.0, 1.0, 1.0]}
    machine.store.close()
    for path in machine.folder.glob("index.sqlite*"):
        path.unlink()
    machine.again()
    machine.store.refresh()
    assert machine.requests == [f"r{n}" for n in range(1, 7)]
    # What was received is known again: it does not come twice.
    assert machine.take(group(1, 7), noted=7) == (1, 0)


def test_a_damaged_segment_is_set_aside_and_the_rest_is_served(machine: Machine) -> None:
    for first in (1, 4):
        machine.ships(group(first, 3, now=NOW + first))
    damaged, other = machine.names
    machine.damage(damaged)
    found = find(machine.store, Query())
    assert found.unreadable == [damaged]
    assert sorted(str(e["request_id"]) for e in found.events) == ["r4", "r5", "r6"]
    assert machine.names == [other]
    if machine.far is None:
        assert [p.name for p in (machine.folder / "unreadable").iterdir()] == [f"{damaged}.unreadable"]
        assert find(machine.store, Query()).unreadable == []
    assert "a segment of events can't be read; it was set aside" in machine.log.events
    machine.store.refresh()
    assert find(machine.store, Query()).unreadable == []


def test_a_segment_leaves_its_folder_once_it_is_far(pair: tuple[Machine, Machine]) -> None:
    machine, _ = pair
    machine.stored(group(1, 3))
    [path] = machine.segments
    content = path.read_bytes()
    assert machine.names == []
    machine.ships()
    assert (machine.segments, machine.names) == ([], [path.name])
    # Killed between the two: it is there twice and counts once.
    path.write_bytes(content)
    machine.again()
    machine.store.refresh()
    assert machine.requests == ["r1", "r2", "r3"]
    machine.ships()
    assert machine.segments == []


def test_two_machines_see_what_the_other_stored_and_removed(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    one.ships(group(1, 3), noted=3)
    other.ships(group(4, 3), noted=6)
    other.store.refresh()
    assert other.requests == [f"r{n}" for n in range(1, 7)]
    stream = other.store.streams()[7]
    assert stream.received.gaps(stream.noted) == []
    # One erases what the other stored; the other does not stumble.
    assert erase(one.store, Erasure("acme", request_ids=("r5",)), Mask(None)).events == 1
    other.store.refresh()
    assert one.requests == other.requests == ["r1", "r2", "r3", "r4", "r6"]
    # Of a segment without events nothing is left.
    assert erase(one.store, Erasure("acme", whole_tenant=True), Mask(None)).events == 5
    assert one.names == []
    assert one.take(group(1, 6)) == (0, 0)


def test_what_is_being_moved_by_another_process_is_left_alone(pair: tuple[Machine, Machine]) -> None:
    machine, _ = pair
    machine.stored(group(1, 3))
    [path] = machine.segments
    assert machine.far is not None
    with claimed(path):
        assert not machine.far.upload(path.name)
    assert machine.far.upload(path.name)


async def test_unreachable_storage_stops_only_what_needs_it_and_heals(
    server: ObjectServer, relay: Relay, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, server, uuid.uuid4().hex, relay.port)
    far, metrics, log = machine.far, machine.metrics, machine.log
    assert far is not None
    machine.ships(group(1, 3), noted=3)
    relay.shut()
    machine.stored(group(4, 3, now=NOW + 1), noted=6)
    reception = Reception(machine.store, Mask(None), (), metrics, machine.wall, log)
    shipment = Shipment(far, reception, metrics.segments, log)
    running = asyncio.create_task(shipment.run())
    await until(lambda: metrics.segments.away._value.get() == 1)
    await until(lambda: metrics.segments.waiting._value.get() == 1)
    # Events are taken; the newest are found; those that are far are not, and nothing is set aside for it.
    taken = await reception.take("router-1", 7, 7, [group(7, 1, now=NOW + 2)], durable=True)
    assert (taken.stored, metrics.failing._value.get()) == (1, 0)
    newest = await reception.find(Query(limit=4))
    assert [e["request_id"] for e in newest.events] == ["r7", "r6", "r5", "r4"]
    with pytest.raises(AwayError, match="network connection"):
        await reception.find(Query())
    with pytest.raises(StorageError, match="network connection"):
        await reception.erase(Erasure("acme", whole_tenant=True))
    assert list((machine.folder / "unreadable").iterdir()) == []
    relay.open()
    machine.clock.now += 10
    await until(lambda: metrics.segments.moved._value.get() >= 1 and metrics.segments.away._value.get() == 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    found = await reception.find(Query())
    assert sorted(str(e["request_id"]) for e in found.events) == [f"r{n}" for n in range(1, 8)]
    await reception.close()
    await shipment.close()
    assert (machine.segments, len(machine.names)) == ([], 3)
    assert log.events.count("segments of events can't be moved to object storage") == 1
    assert "segments of events are moved to object storage again" in log.events
    assert SECRET not in str(log.lines)


def test_retention_holds_while_storage_is_unreachable(
    server: ObjectServer, relay: Relay, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, server, uuid.uuid4().hex, relay.port)
    machine.ships(group(1, 3))
    machine.stored(group(4, 3, now=NOW + 1))
    relay.shut()
    machine.wall.now = NOW + 8 * _DAY_S
    assert machine.store.sweep() == 0
    assert (machine.segments, len(machine.names)) == ([], 1)
    relay.open()
    machine.clock.now += 10
    assert machine.store.sweep() == 6
    assert machine.names == []
    machine.close()


async def test_the_service_leaves_nothing_on_its_disk_and_another_one_finds_it(
    server: ObjectServer, tmp_path: Path
) -> None:
    where = server.url(uuid.uuid4().hex)
    async with served(SERVICE, {"events": {"folder": tmp_path / "a", "segments": where}}) as harness:
        request = messages.write("router-1", 7, 3, [group(1, 3, now=time.time())])
        assert (await report(harness, events=request)).events.stored_count == 3
    assert list((tmp_path / "a" / "segments").iterdir()) == []
    async with served(SERVICE, {"events": {"folder": tmp_path / "b", "segments": where}}) as harness:

        async def found() -> list[str]:
            reply = await call(harness, "ListEvents", pb.ListEventsRequest(request_id="r2"))
            return [event.prediction_id for event in reply.events]

        await until(found)
        assert await found() == ["r2/0"]
        erased = await call(harness, "EraseEvents", pb.EraseEventsRequest(tenant="acme", whole_tenant=True))
        assert erased.erased_count == 3


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:hidden@bucket/prefix",
        "s3://bucket",
        "gs://bucket/prefix",
        "s3://bucket/a/../b",
        "s3://bucket/p?secret_key=hidden",
        "s3://bucket/p?scheme=ftp",
        "s3://bucket/p?endpoint_override=AKIA:hidden@host:1",
    ],
)
def test_a_place_that_can_not_be_meant_is_refused_without_its_text(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as error:
        EventStorage(folder=tmp_path, segments=url)
    [told] = error.value.errors()
    assert told["loc"] == ("segments",)
    assert "hidden" not in told["msg"]
    with pytest.raises(ValidationError, match="needs `folder`"):
        EventStorage(segments="s3://bucket/prefix")


def test_a_segment_that_was_sealed_before_stays_where_it_is(server: ObjectServer, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    machine = Machine(tmp_path / "a", server, prefix)
    machine.ships(group(1, 3))
    name = "0000000000001-0000000000002-" + "0" * 64 + ".parquet"
    with server.files().open_output_stream(f"{BUCKET}/{prefix}/{name}") as stream:
        stream.write(sealed_before.MAGIC + b"\x0bheadrace/1")
    with pytest.raises(StorageError, match="sealed by an earlier version"):
        machine.store.refresh()
    assert name in machine.store.closed.names()
    assert machine.requests == ["r1", "r2", "r3"]
    machine.close()


@pytest.mark.asyncio
async def test_it_does_not_start_where_an_earlier_version_sealed(tmp_path: Path) -> None:
    sealed = tmp_path / "events/open/1-2"
    sealed.parent.mkdir(parents=True)
    sealed.write_bytes(sealed_before.MAGIC)
    with pytest.raises(ConfigError, match=f"{sealed} is of an earlier version"):
        async with served(SERVICE, {"events": {"folder": tmp_path / "events"}}):
            pass
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [sealed]
