"""Routers as processes that are killed: what a door saw answered is stored, or told as a gap, to the row."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.api.monitoring.v1 import events_pb2
from headrace.events import Mask
from headrace.hop.client.dial import Client
from headrace.hop.config import ClientSettings
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from services.ingress.clients import HopAnswered, HopRouter
from services.ingress.reporting.answered import AnsweredEvents
from services.monitoring.events import reception as reception_room
from services.monitoring.events.reception import Reception
from services.monitoring.intake import answered
from services.monitoring.intake.answered import Answered
from services.monitoring.wiring import SERVICE
from tests.children import ends_with_tests
from tests.services.monitoring.monitoring_calls import call
from tests.services.monitoring.monitoring_events import World, group
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.router.router_leaves import batch_of
from tests.services.waiting import until


@asynccontextmanager
async def router(
    folder: Path, monitoring: str
) -> AsyncIterator[tuple[HopRouter, asyncio.subprocess.Process]]:
    """A router's process, and the door's client of it."""
    program = "-m", "tests.services.monitoring.routing_process", str(folder), monitoring
    process = await asyncio.create_subprocess_exec(
        *ends_with_tests(sys.executable, *program), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    client = Client("router", ClientSettings(target=(await process.stdout.readline()).decode().strip()))
    try:
        yield HopRouter(client), process
    finally:
        await client.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def streams(harness: Harness) -> list[events_pb2.EventStream]:
    return list((await call(harness, "ListEventGaps", events_pb2.ListEventGapsRequest())).streams)


def gaps(stream: events_pb2.EventStream) -> int:
    return sum(gap.last - gap.first + 1 for gap in stream.gaps)


async def test_all_that_a_killed_router_answered_is_stored_or_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answered, "WAIT_S", 0.1)
    monkeypatch.setattr(reception_room, "_CLOSE_S", 0.2)
    monkeypatch.setattr(reception_room, "_MEASURE_S", 0.2)
    kept = {"database": str(tmp_path / "facts.sqlite"), "events": {"files": str(tmp_path / "events")}}
    async with served(SERVICE, kept) as harness:
        async with router(tmp_path / "router", harness.target) as (door, process):
            tells = AnsweredEvents(door.highest, HopAnswered(harness.client()), time.monotonic, Log())
            for i in range(10):
                await door.infer("scored", 0, batch_of(["ab"], [1.0], request_id=f"r{i}"))

            async def some_are_stored() -> bool:
                return sum(s.stored_count for s in await streams(harness)) >= 4

            await until(some_are_stored)
            process.kill()
            await process.wait()
            await tells.report()

        async def ten_are_known() -> bool:
            return [s.stored_count + gaps(s) for s in await streams(harness)] == [10]

        await until(ten_are_known)
        [stream] = await streams(harness)
        assert 2 <= gaps(stream) <= 6
        metrics = harness.runtime.telemetry.registry
        await until(lambda: metrics.get_sample_value("headrace_monitoring_missing_events") == gaps(stream))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_only_on_its_way_is_no_gap(tmp_path: Path) -> None:
    world, clock = World(tmp_path), Clock()
    reception = Reception(world.store, Mask(None), (), world.metrics, world.wall, world.log)
    seen = Answered(reception, clock, Log())

    async def missing() -> list[tuple[int, int]]:
        await seen.settle()
        return [gap for s in (await reception.streams()).values() for gap in s.received.gaps(s.noted)]

    await reception.take("router-1", 7, 3, [group(1, 3)], durable=False)
    seen.heard(7, 5)
    clock.now = 9.0
    seen.heard(7, 8)
    assert await missing() == []
    clock.now = 10.0
    assert await missing() == [(4, 5)]
    # It comes all the same; of what was heard later ten seconds have passed later.
    await reception.take("router-1", 7, 5, [group(4, 2)], durable=False)
    clock.now = 19.0
    assert await missing() == []
    clock.now = 20.0
    assert await missing() == [(6, 8)]
    assert (await reception.streams())[7].replica == "router-1"
    await reception.close()
    world.close()


async def test_a_door_tells_what_changed_until_it_arrives_and_forgets_what_ended() -> None:
    sent: list[dict[int, int]] = []
    clock, log, away = Clock(), Log(), [True]

    async def report(numbers: Mapping[int, int], deadline: float) -> None:
        sent.append(dict(numbers))
        if away.pop() if away else False:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "away")

    highest = {1: 10}
    door = AnsweredEvents(highest, report, clock, log)
    for _ in range(3):
        await door.report()
    assert (sent, len(log.events)) == ([{1: 10}] * 2, 1)
    clock.now = 300.0
    highest[2] = 1
    await door.report()
    clock.now = 700.0
    highest[2] = 5
    await door.report()
    assert sent[2:] == [{1: 10, 2: 1}, {2: 5}]
    highest.update(dict.fromkeys(range(100, 200), 1))
    await door.report()
    assert len(sent[-1]) == len(highest) == 64
