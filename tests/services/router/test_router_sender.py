"""The router reports its facts, and goes on whatever the receiver does; predictions never wait for it."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1 import facts_pb2 as pb
from headrace.hop.definition import Service
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from headrace.ticks import ArmFigures, ArmName, Tick
from services.router.events.metrics import EventMetrics
from services.router.events.ring import Notes
from services.router.events.settings import EventsSettings
from services.router.facts import sender
from services.router.facts.parts import Part, event_writer
from services.router.facts.queue import Lane, Queue
from services.router.facts.sender import Answer, PartReceipt, Sender, TickReceipt
from services.router.metrics import Metrics
from services.router.pipelines import Pipelines
from services.router.ticks.counters import Counters
from tests.definitions import definition_of
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.router.router_leaves import SCORED, batch_of, failing
from tests.services.router.router_monitoring import Monitoring, monitored
from tests.services.router.tick_rows import count
from tests.services.waiting import until

SCORED_ONLY = {"scored": SCORED}
GONE = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "nobody is there")
FINE, BEHIND = TickReceipt(), TickReceipt(behind=True)
FINAL = Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, "no")
WAITS = "facts can't be reported; they wait, and beyond a bound they are dropped"
DROPPED, BACK = "facts were dropped", "facts are reported again"
BOTH = ["events", "others"]


class Events:
    """A ring with one batch of three events, and what makes their message."""

    def __init__(self) -> None:
        self.notes = Notes(4096, time.time)
        self.notes.number(3)
        self.rows, self.turns = 3, 0

    def drain(self) -> list[list[int]]:
        self.rows, taken = 0, self.rows
        return [[1] * taken] if taken else []

    def steps(self, noted: list[list[int]]) -> Iterator[list[int] | None]:
        asyncio.get_running_loop().call_soon(setattr, self, "turns", 1)
        begun = time.perf_counter()
        while self.turns == 0 and time.perf_counter() - begun < 5:
            yield None
        yield noted[0]


async def written(drained: Sequence[str]) -> object:
    return drained


def event_part(ring: Any, metrics: EventMetrics) -> Part[Any]:
    write = event_writer(ring, ring, lambda epoch, noted, groups: noted)
    return Part(
        "events", lambda: ring.drain() or None, write, metrics.dropped, metrics.sent.inc, lambda a: len(a[0])
    )


class Sent(NamedTuple):
    """A report. `parts`: of events how many were noted; the others."""

    tick: Tick
    parts: dict[str, Any]


class World:
    """A sender whose receiver gives these answers, then good ones. `sent`: what it got, each time."""

    def __init__(self, *answers: Any, events: bool = False) -> None:
        self.answers, self.sent = list(answers), list[Sent]()
        self.registry, self.log, self.heard = CollectorRegistry(), Log(), list[int]()
        self.counters, self.lost = Counters(), list[int]()
        self.ring = Events()
        queue, metrics = Queue(1 << 20), EventMetrics(self.registry)
        self.others = Lane[str](queue, 10, self.lost.append, 0.25)
        parts: list[Any] = [
            Part(
                "others", lambda: self.others.drain() or None, written, lambda _, rows: self.lost.append(rows)
            )
        ]
        if events:
            parts.insert(0, event_part(self.ring, metrics))
        facts = queue, parts, self.counters, self, Metrics(self.registry), EventsSettings(wait_s=0.001)
        self.sender = Sender(*facts, 0.0, self.heard.append, time.monotonic, self.log)

    async def report(
        self, epoch: int, tick: Tick | None, parts: Mapping[str, object], deadline: float
    ) -> Answer:
        assert epoch == self.counters.epoch
        assert tick is not None, "one is due each time"
        self.sent.append(Sent(tick, dict(parts)))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        ticks, receipts = answer or Answer([FINE], {})
        if isinstance(receipts, Fault):
            return Answer(ticks, receipts)
        return Answer(ticks, {name: receipts.get(name, PartReceipt()) for name in parts})

    def note(self) -> None:
        self.others.append("row", 1, 500)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"headrace_router_{name}", labels)


def ticks(*answers: Any) -> Answer:
    return Answer(answers, {})


async def test_a_tick_that_fails_is_made_good_and_said_once() -> None:
    world = World(ticks(GONE), GONE, ticks(GONE, FINE), ticks(BEHIND), ticks(FINE))
    count(world.counters)
    for _ in range(5):
        await world.sender.send()
    count(world.counters)
    await world.sender.send()
    sent = [(r.tick.base, len(r.tick.arms)) for r in world.sent]
    assert sent == [(0, 1), (0, 1), (0, 1), (3, 0), (0, 1), (5, 1)]
    assert world.log.events == [WAITS, BACK]


async def test_the_most_routers_that_a_replica_hears_are_told_and_hold_until_another_number_is_said() -> None:
    two, three, one = (TickReceipt(routers=n) for n in (2, 3, 1))
    world = World(ticks(two, three, GONE), ticks(GONE), ticks(FINE), ticks(one))
    for _ in range(4):
        await world.sender.send()
    assert world.heard == [3, 1]


async def test_the_loop_outlives_every_error() -> None:
    world = World(ValueError("a bug"), GONE, OSError("another"))
    task = asyncio.create_task(world.sender.run())
    await until(lambda: len(world.sent) >= 5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert BACK in world.log.events


async def test_a_part_that_is_wanted_again_holds_up_no_other() -> None:
    full = {"others": PartReceipt(again=True, problem="full")}
    world = World(Answer([FINE], full), Answer([FINE], full), events=True)
    for _ in range(3):
        world.note()
        await world.sender.send()
    # The events left with the first report; of the others the first ones come before those behind them.
    assert [sorted(r.parts) for r in world.sent] == [BOTH, ["others"], ["others"]]
    await world.sender.send()
    assert world.sent[-1].parts == {"others": ["row"] * 2}
    assert (world.log.events, world.lost) == ([WAITS, BACK], [])
    assert world.metric("events_total") == 3


async def test_what_is_refused_for_ever_is_found_and_the_rest_arrives() -> None:
    world = World(Answer([FINE], FINAL), Answer([FINE], FINAL), events=True)
    world.note()
    for _ in range(3):
        await world.sender.send()
    assert [sorted(r.parts) for r in world.sent] == [BOTH, ["events"], ["others"]]
    assert world.metric("dropped_events_total", reason="refused") == 3
    assert (world.log.events, world.lost) == ([DROPPED], [])


@pytest.mark.parametrize(
    ("code", "reason", "again"),
    [
        (Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, True),
        (Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED, True),
        (Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, True),
        (Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE, False),
        (Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, False),
    ],
)
async def test_only_what_may_succeed_later_is_sent_again(code: Code, reason: Any, again: bool) -> None:
    fault = Fault(code, reason, "no")
    dropped = {"events": PartReceipt(dropped=1)}
    world = World(fault, fault, Answer([FINE], dropped), events=True)
    for _ in range(3):
        await world.sender.send()
    assert world.ring.turns == 1, "the event loop stood still while events were made"
    assert sum("events" in r.parts for r in world.sent) == (3 if again else 1)
    # What the receiver itself could not store is counted, too.
    assert world.metric("dropped_events_total", reason="refused") == (1 if again else 3)
    assert world.metric("events_total") == (2 if again else 0)


async def test_what_a_stop_interrupts_is_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(events=True)
    count(world.counters)
    making = asyncio.create_task(world.sender.send())
    while not world.ring.turns:
        await asyncio.sleep(0)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    assert world.sent == []
    await world.sender.close()
    [report] = world.sent
    assert (report.parts, len(report.tick.arms)) == ({"events": 3}, 1)
    monkeypatch.setattr(sender, "_LAST_S", 0.001)
    monkeypatch.setattr(world, "report", lambda *_: asyncio.Event().wait())
    await world.sender.close()  # does not wait for who hangs


def test_one_bound_holds_for_all_and_a_share_for_one_kind() -> None:
    lost: list[int] = []
    queue = Queue(1000)
    events, others = Lane[str](queue, 10, lost.append), Lane[str](queue, 10, lost.append, 0.25)
    assert [others.append("o", 1, 100) for _ in range(4)] == [True, True, False, False]
    assert [events.append("e", 2, 300) for _ in range(4)] == [True, True, False, False]
    assert (queue.left, lost, queue.came.is_set()) == (200, [1, 1, 2, 2], True)
    assert (others.drain(), events.drain(), queue.left) == (["o", "o"], ["e", "e"], 1000)
    assert not queue.came.is_set()
    # However large it is, one thing finds room in an empty lane; and enough for a message is said.
    assert events.append("large", 10, 5000)
    assert queue.full.is_set()
    assert not others.drain()
    assert queue.full.is_set()
    assert (events.drain(), queue.full.is_set()) == (["large"], False)


def figures(monitoring: Monitoring) -> dict[ArmName, ArmFigures]:
    """As told last."""
    return {name: arm for tick in monitoring.ticks for name, arm in tick.arms.items()}


async def test_answers_of_a_running_router_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[int] = []
    monkeypatch.setattr(Pipelines, "share", lambda _, routers: shared.append(routers))
    async with monitored(tmp_path, SCORED_ONLY, tick_s=0.02) as (running, leaf):
        await running.ask("scored", batch_of(["ann", "bob", "cyd"], [1.0, -10.0, 2.0]))
        await until(lambda: figures(leaf) and shared)
        assert {name: (f.rows, f.errors) for name, f in figures(leaf).items()} == {
            ArmName("scored", 1, "live"): (3, 0)
        }
        running.executor.hook = failing(Code.INTERNAL, Reason.REASON_MODEL_FAILED)
        await running.ask("scored", batch_of(["ann", "bob"], [1.0, 2.0]))
    # Of errors it is known whose fault they are; the last rows are reported at the stop.
    [found] = figures(leaf).values()
    assert (set(shared), found.rows, found.errors, sum(found.latency)) == ({3}, 5, 2, 5)


async def test_a_tick_goes_to_every_replica_and_all_else_to_one(tmp_path: Path) -> None:
    other, service = Monitoring(), pb.DESCRIPTOR.services_by_name["FactsService"]
    async with served(definition_of("monitoring", Service(service, other))) as second:
        more: dict[str, Any] = {"tick_s": 0.02, "events": {"wait_s": 0.02}}
        async with monitored(tmp_path, SCORED_ONLY, also=second.target, **more) as (running, leaf):
            await running.ask("scored", batch_of(["ann"], [1.0]))
            await until(lambda: figures(leaf) and figures(other))
            await until(lambda: leaf.groups or other.groups)
    assert figures(leaf) == figures(other)
    assert len(leaf.groups) + len(other.groups) == 1


async def test_predictions_do_not_wait_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    async with monitored(tmp_path, SCORED_ONLY, Monitoring(hangs=True), tick_s=0.02) as (running, leaf):
        for _ in range(20):
            reply = await running.ask("scored", batch_of(["ann"], [1.0]))
            assert not reply.batch.errors
        assert leaf.ticks == []
        leaf.hangs = False
        # What it was told while it hung, and then the rest.
        await until(lambda: sum(found.rows for found in figures(leaf).values()) == 20)
