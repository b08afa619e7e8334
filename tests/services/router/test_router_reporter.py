"""The router reports its ticks, and goes on whatever the receiver does; predictions never wait for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.hop.errors import Code, Fault, Reason
from headrace.ticks import ArmFigures, ArmName, Tick
from services.router.metrics import Metrics
from services.router.pipelines import Pipelines
from services.router.ticks.counters import Counters
from services.router.ticks.reporter import Receipt, Reporter
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.router.router_leaves import SCORED, Monitoring, batch_of, failing, monitored
from tests.services.router.tick_rows import count
from tests.services.waiting import until


@dataclass
class Receiver:
    """Answers what it is told to."""

    answers: list[Any] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)

    async def report(self, tick: Tick, deadline: float) -> Sequence[Receipt | Fault]:
        self.ticks.append(tick)
        answer = self.answers.pop(0) if self.answers else [Receipt()]
        if isinstance(answer, Exception):
            raise answer
        found: Sequence[Receipt | Fault] = answer
        return found


SCORED_ONLY = {"scored": SCORED}
FINE, BEHIND = Receipt(), Receipt(behind=True)
GONE = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "nobody is there")


def reporter(receiver: Receiver, counters: Counters, log: Log) -> Reporter:
    return Reporter(counters, receiver, Metrics(CollectorRegistry()), log, lambda: 0.0, 0.001)


async def test_what_fails_is_told_again_and_said_once() -> None:
    receiver, counters, log = Receiver([[GONE], GONE, [GONE, FINE], [BEHIND], [FINE]]), Counters(), Log()
    count(counters)
    one = reporter(receiver, counters, log)
    for _ in range(5):
        await one.report()
    count(counters)
    await one.report()
    sent = [(tick.base, len(tick.arms)) for tick in receiver.ticks]
    assert sent == [(0, 1), (0, 1), (0, 1), (3, 0), (0, 1), (5, 1)]
    assert log.events == ["ticks can't be reported; they are counted on", "ticks are reported again"]


async def test_the_most_routers_that_a_replica_hears_are_told_and_hold_until_another_number_is_said() -> None:
    receiver = Receiver(
        [[Receipt(routers=2), Receipt(routers=3), GONE], [GONE], [Receipt()], [Receipt(routers=1)]]
    )
    heard: list[int] = []
    metrics = Metrics(CollectorRegistry())
    one = Reporter(Counters(), receiver, metrics, Log(), lambda: 0.0, 0.001, heard.append)
    for _ in range(4):
        await one.report()
    assert heard == [3, 1]


async def test_the_loop_outlives_every_error() -> None:
    receiver, log = Receiver([ValueError("a bug"), [GONE], OSError("another")]), Log()
    task = asyncio.create_task(reporter(receiver, Counters(), log).run())
    await until(lambda: len(receiver.ticks) >= 5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.events[0] == "ticks can't be reported; they are counted on"


async def test_closing_tells_what_is_left_and_survives_a_receiver_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, counters, log = Receiver(), Counters(), Log()
    one = reporter(receiver, counters, log)
    count(counters)
    await one.close()
    assert receiver.ticks[-1].arms.keys() == {ArmName("flights", 0, "live")}
    monkeypatch.setattr("services.router.ticks.reporter._LAST_S", 0.001)

    async def hang(_: Tick, __: float) -> Sequence[Receipt | Fault]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(receiver, "report", hang)
    await one.close()


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
    assert set(shared) == {3}
    [(name, found)] = figures(leaf).items()
    assert name == ArmName("scored", 1, "live")
    assert (found.rows, found.errors, sum(found.latency)) == (3, 0, 3)


async def test_errors_of_ours_are_counted_and_the_last_rows_are_told_at_the_stop(tmp_path: Path) -> None:
    async with monitored(tmp_path, SCORED_ONLY, tick_s=0.02) as (running, leaf):
        running.executor.hook = failing(Code.INTERNAL, Reason.REASON_MODEL_FAILED)
        await running.ask("scored", batch_of(["ann", "bob"], [1.0, 2.0]))
    [found] = figures(leaf).values()
    assert (found.rows, found.errors) == (2, 2)


async def test_predictions_do_not_wait_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    async with monitored(tmp_path, SCORED_ONLY, Monitoring(hangs=True), tick_s=0.02) as (running, leaf):
        for _ in range(20):
            reply = await running.ask("scored", batch_of(["ann"], [1.0]))
            assert not reply.batch.errors
        assert leaf.ticks == []
        leaf.hangs = False
        await until(lambda: figures(leaf))
        [found] = figures(leaf).values()
        assert found.rows == 20
