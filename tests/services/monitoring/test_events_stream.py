"""Events by a real Redis stream, from a router's sender to the store: each once, acknowledged when it is stored, gaps
known. EventsService over its socket: typed refusals, and observers that see each event once whatever they do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.columns import Batch, Column
from headrace.events import EventGroup, GroupHeader, Mask, messages, stream
from headrace.hop.call import Call, Peer
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from headrace.state.redis import RedisCalls
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.ports import EventObserver
from services.monitoring.events.query import Query
from services.monitoring.events.reception import Reception
from services.monitoring.events.servicer import EventsServicer
from services.monitoring.events.stream import StreamReader
from services.monitoring.wiring import SERVICE
from services.router.events.clients import EventMessages
from services.router.events.sender import Message
from services.router.events.stream import StreamEvents
from tests.redis_server import RedisServer
from tests.services.monitoring.monitoring_calls import call
from tests.services.monitoring.monitoring_events import World, group
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.waiting import until

_TIMEOUT_S = 20.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "events")
    yield made
    made.close()


def calls_of(redis: RedisServer) -> RedisCalls:
    return RedisCalls(f"redis://127.0.0.1:{redis.port}/0", _TIMEOUT_S, time.monotonic, pause_s=0.0)


@asynccontextmanager
async def router(
    redis: RedisServer, most: int = 1000
) -> AsyncIterator[Callable[[int, int, int], Awaitable[None]]]:
    calls = calls_of(redis)
    sends = StreamEvents(calls, EventMessages("router-1"), most)

    async def send(first: int, count: int, noted: int) -> None:
        assert await sends.record(Message(7, noted, [group(first, count)]), 0.0) == 0

    yield send
    await calls.close()


def reader_of(redis: RedisServer, world: World, name: str = "a", claim_s: float = 30.0) -> StreamReader:
    reception = Reception(world.store, Mask(None), (), world.metrics, world.wall, world.log)
    return StreamReader(
        calls_of(redis), name, reception, world.metrics, time.monotonic, world.log, claim_s=claim_s
    )


async def drain(reader: StreamReader) -> int:
    """Reads until there is nothing: the first empty reply may be that of its own old messages."""
    total = empty = 0
    while empty < 2:
        got = await reader.take_next()
        total, empty = total + got, 0 if got else empty + 1
    return total


async def test_events_are_stored_once_acknowledged_and_gaps_known(redis: RedisServer, world: World) -> None:
    async with router(redis) as send:
        await send(1, 3, 3)
        await send(1, 3, 3)
        await send(6, 2, 9)
    reader = reader_of(redis, world)
    assert await drain(reader) == 3
    known = world.store.streams()[7]
    assert (known.replica, known.received.gaps(known.noted)) == ("router-1", [(4, 5), (8, 9)])
    questions = [("XLEN", stream.STREAM), ("XPENDING", stream.STREAM, stream.GROUP)]
    [length, pending] = await reader._calls.ask(questions)
    assert (length, pending["pending"] if isinstance(pending, dict) else pending[0]) == (0, 0)
    await reader.close()


async def test_what_a_killed_reader_had_is_stored_by_another(redis: RedisServer, world: World) -> None:
    async with router(redis) as send:
        await send(1, 3, 3)
    killed = reader_of(redis, world, "killed")
    await killed._claim()
    await killed._ask([stream.read("killed", 16, again=False, wait_ms=500)])
    await killed.close()
    other = reader_of(redis, world, "other", claim_s=0.0)
    assert await drain(other) == 1
    found = await other._reception.find(Query())
    assert len(found.events) == 3
    await other.close()


async def test_what_could_not_be_stored_comes_again(
    redis: RedisServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with router(redis) as send:
        await send(1, 3, 3)
    reader = reader_of(redis, world)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "_append", full)
        running = asyncio.create_task(reader.run())
        await until(world.metrics.stream_failing._value.get)
    await until(lambda: world.metrics.stored._value.get() >= 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await reader.close()


async def test_an_unreadable_message_is_counted_and_stops_nothing(redis: RedisServer, world: World) -> None:
    calls = calls_of(redis)
    await calls.ask([stream.add(b"\xff\xff no message", 1000)])
    await calls.close()
    async with router(redis) as send:
        await send(1, 2, 2)
    reader = reader_of(redis, world)
    assert await drain(reader) == 2
    assert world.metrics.unreadable_messages._value.get() == 1
    assert world.metrics.stored._value.get() == 2
    await reader.close()


async def test_an_unreadable_group_is_counted_named_once_and_the_others_are_stored(
    redis: RedisServer, world: World
) -> None:
    calls = calls_of(redis)
    request = EventMessages("router-1").request(Message(7, 5, [group(1, 2), group(3, 3)]))
    request.groups[0].batch.columns[0].name = "@prediction_id"
    for _ in range(2):
        await calls.ask([stream.add(request.SerializeToString(), 1000)])
    await calls.close()
    reader = reader_of(redis, world)
    assert await drain(reader) == 2
    assert (world.metrics.refused._value.get(), world.metrics.unreadable_messages._value.get()) == (4, 0)
    assert world.metrics.stored._value.get() == 3
    assert (
        world.log.events.count("a group of events can't be read; it is dropped, the others are stored") == 1
    )
    await reader.close()


async def test_the_service_reads_the_stream(redis: RedisServer, tmp_path: Path) -> None:
    async with router(redis) as send:
        await send(1, 3, 3)
    settings = {"folder": tmp_path / "b", "stream": f"redis://127.0.0.1:{redis.port}/0"}
    async with served(SERVICE, {"events": settings}) as harness:

        async def stored() -> bool:
            reply = await call(harness, "ListEventGaps", pb.ListEventGapsRequest())
            return [(s.replica, s.stored_count) for s in reply.streams] == [("router-1", 3)]

        await until(stored)


async def test_redis_away_is_unavailable_to_the_sender_and_more_than_it_keeps_is_a_gap(
    redis: RedisServer, world: World
) -> None:
    async with router(redis, most=1) as send:
        # Redis trims whole nodes of 100 entries.
        for number in range(1, 251):
            await send(number, 1, number)
        redis.kill()
        with pytest.raises(Fault) as fault:
            await send(251, 1, 251)
        assert fault.value.code is Code.UNAVAILABLE
        redis.start()
        await send(251, 1, 251)
    reader = reader_of(redis, world)
    await drain(reader)
    known = world.store.streams()[7]
    [(first, last)] = known.received.gaps(known.noted)
    assert first == 1
    assert 100 <= last < 251
    await reader.close()


async def test_events_come_in_and_are_found_erased_and_missed(tmp_path: Path) -> None:
    async with served(SERVICE, {"events": {"folder": tmp_path / "events"}}) as harness:
        request = messages.write(
            "router-1", 7, 9, [group(1, 3, now=time.time()), group(6, 2, now=time.time())]
        )
        assert (await call(harness, "RecordEvents", request)).stored_count == 5
        assert (await call(harness, "RecordEvents", request)).stored_count == 0
        found = await call(harness, "ListEvents", pb.ListEventsRequest(tenant="acme", limit=2))
        assert [json.loads(e.content_json)["request_id"] for e in found.events] == ["r7", "r6"]
        one = await call(
            harness, "ListEvents", pb.ListEventsRequest(prediction_id=found.events[0].prediction_id)
        )
        assert list(one.events) == [found.events[0]]
        assert (one.events[0].prediction_id, len(one.events[0].event_id)) == ("r7/0", 32)
        chosen = pb.ListEventsRequest(limit=3)
        page = await call(harness, "ReadEvents", pb.ReadEventsRequest(chosen=chosen))
        more = await call(harness, "ReadEvents", pb.ReadEventsRequest(chosen=chosen, page=page.next_page))
        read = [messages.read_group("", g) for reply in (page, more) for g in reply.groups]
        assert [i for g in read for i in g.batch.rows.request_ids] == ["r7", "r6", "r3", "r2", "r1"]
        assert more.next_page == ""
        [stream] = (await call(harness, "ListEventGaps", pb.ListEventGapsRequest())).streams
        assert (stream.replica, stream.epoch) == ("router-1", 7)
        assert (stream.noted_count, stream.stored_count) == (9, 5)
        assert [(g.first, g.last) for g in stream.gaps] == [(4, 5), (8, 9)]
        erased = await call(harness, "EraseEvents", pb.EraseEventsRequest(tenant="acme", request_ids=["r6"]))
        assert (erased.erased_count, erased.rewritten_segment_count) == (1, 1)


def renamed(given: EventGroup, old: str, new: str) -> EventGroup:
    columns = [c.renamed(new) if c.name == old else c for c in given.batch.columns.values()]
    return EventGroup(given.header, Batch.of(given.batch.rows, columns))


@pytest.mark.parametrize("durable", [False, True])
async def test_groups_of_another_generation_are_refused_by_name_and_the_others_stored(
    tmp_path: Path, *, durable: bool
) -> None:
    # As routers before 14423f14 named it.
    other = renamed(group(4, 2, now=time.time()), "@event_id", "@prediction_id")
    async with served(SERVICE, {"events": {"folder": tmp_path / "events"}}) as harness:
        groups = [group(1, 3, now=time.time()), other, group(6, 1, now=time.time())]
        request = messages.write("router-1", 7, 6, groups, durable=durable)
        if durable:  # the journal must keep it
            with pytest.raises(Fault, match=r"groups\[1\].batch: the column @event_id"):
                await call(harness, "RecordEvents", request)
        else:
            reply = await call(harness, "RecordEvents", request)
            assert (reply.stored_count, reply.dropped_count) == (4, 2)
        [stream] = (await call(harness, "ListEventGaps", pb.ListEventGapsRequest())).streams
        assert [(g.first, g.last) for g in stream.gaps] == [(4, 5)]
        registry = harness.runtime.telemetry.registry
        assert registry.get_sample_value("headrace_monitoring_refused_events_total") == 2


NOBODY = pb.EventSubject(column="key")
TWO_IDS = pb.ListEventsRequest(prediction_id="r7/0", request_id="r8")
WRONG_GROUP = pb.RecordEventsRequest(epoch=1, groups=[pb.EventGroup(pipeline="p")])


@pytest.mark.parametrize(
    ("name", "request_", "reason", "field"),
    [
        ("EraseEvents", pb.EraseEventsRequest(), "ERASURE_NAMES_NOBODY", "tenant"),
        ("EraseEvents", pb.EraseEventsRequest(whole_tenant=True), "ERASURE_NAMES_NOBODY", "tenant"),
        ("EraseEvents", pb.EraseEventsRequest(tenant="a"), "ERASURE_NAMES_NOBODY", "whole_tenant"),
        (
            "EraseEvents",
            pb.EraseEventsRequest(tenant="a", subjects=[NOBODY]),
            "ERASURE_NAMES_NOBODY",
            "subjects",
        ),
        ("ListEvents", pb.ListEventsRequest(prediction_id="xyz"), "MALFORMED_REQUEST", "prediction_id"),
        ("ListEvents", pb.ListEventsRequest(prediction_id="r7/x"), "MALFORMED_REQUEST", "prediction_id"),
        ("ListEvents", TWO_IDS, "MALFORMED_REQUEST", "request_id"),
        ("ReadEvents", pb.ReadEventsRequest(page="17"), "MALFORMED_REQUEST", "page"),
        ("ListEvents", pb.ListEventsRequest(limit=1001), "MALFORMED_REQUEST", "limit"),
        ("RecordEvents", pb.RecordEventsRequest(), "MALFORMED_REQUEST", "epoch"),
        ("RecordEvents", WRONG_GROUP, "MALFORMED_REQUEST", "groups[0]"),
    ],
)
async def test_a_wrong_request_is_named(name: str, request_: Any, reason: str, field: str) -> None:
    reception = Reception(None, Mask(None), [], EventMetrics(CollectorRegistry()), time.time, Log())
    call = Call(f"/x/{name}", Peer("unix", "router", True))
    with pytest.raises(Fault) as raised:
        await getattr(EventsServicer(reception), name)(request_, call)
    found = raised.value.code, Reason.Name(raised.value.reason)
    assert found == (Code.INVALID_ARGUMENT, f"REASON_{reason}")
    assert field in raised.value.metadata["field"]
    await reception.close()


class Watching:
    """Keeps the numbers that it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, list[int], float]] = []

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        self.seen.append((header.pipeline, header.revision[:2], header.arm, columns["x"].array.tolist(), now))


class Broken:
    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        raise RuntimeError("a bug")


@pytest.mark.parametrize("stores", [True, False])
async def test_observers_see_each_event_once_whatever_another_does(tmp_path: Path, stores: bool) -> None:
    world, watching = World(tmp_path), Watching()
    metrics = EventMetrics(CollectorRegistry())
    observers: list[EventObserver] = [Broken(), watching]
    reception = Reception(
        world.store if stores else None, Mask(None), observers, metrics, lambda: 5.0, world.log
    )
    await reception.start()
    await reception.take("r", 7, 3, [group(1, 3)], durable=False)
    if stores:
        await reception.take("r", 7, 5, [group(2, 4)], durable=False)
    assert watching.seen == [
        ("flights", "ff", "live", [1, 2, 3], 5.0),
        *([("flights", "ff", "live", [4, 5], 5.0)] if stores else []),
    ]
    assert "events were not observed" in world.log.events
    await reception.close()
    world.close()
