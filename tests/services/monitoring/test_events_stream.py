"""Events by a real Redis stream, from a router's sender to the store: each once, acknowledged when it is stored, gaps known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.events import Mask, stream
from headrace.hop.errors import Code, Fault
from headrace.hop.testing import served
from headrace.state.redis import RedisCalls
from services.monitoring.events.query import Query
from services.monitoring.events.reception import Reception
from services.monitoring.events.stream import StreamReader
from services.monitoring.wiring import SERVICE
from services.router.events.clients import EventMessages
from services.router.events.sender import Message
from services.router.events.stream import StreamEvents
from tests.redis_server import RedisServer
from tests.services.monitoring.monitoring_calls import call
from tests.services.monitoring.monitoring_events import World, group
from tests.services.waiting import until

_TIMEOUT_S = 20.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.kill()


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
