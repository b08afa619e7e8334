"""What explanations take is paid by the tenant for whom predictions are explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.cost.usage import BESIDE, EXPLAINED, Key, Work
from headrace.hop.errors import Code, Fault
from headrace.hop.testing import served
from services.monitoring.cost.from_explanations import ExplanationCost, ExplanationWork
from services.monitoring.wiring import SERVICE
from tests.services.monitoring.cost.cost_world import World, cpu_s, page
from tests.services.monitoring.cost.test_cost_collector import EXECUTOR, told
from tests.services.monitoring.monitoring_calls import call


def asked(tenant: str, seconds: float, *, explanations: int = 1, rows: int = 64) -> ExplanationWork:
    return ExplanationWork(tenant, "p", explanations, rows, {"executor/m:1": seconds * 1e6})


def test_the_executors_time_is_divided_by_what_explanations_took(tmp_path: Path) -> None:
    world = World(tmp_path)
    work: dict[Key, Work] = {}
    cost = ExplanationCost(work.update)
    run = 'headrace_executor_run_seconds_sum{model="m",version="1"}'
    with world.collector() as collector:
        world.later(collector, 0, executor=page(100.0, **{run: 0.0}))
        cost.take([asked("a", 3.0), asked("b", 1.0)])
        world.later(collector, 10, work, executor=page(104.0, **{run: 4.0}))
    account = told(world)
    assert cpu_s(account, Key("a", "p", "m:1", EXPLAINED), EXECUTOR) == pytest.approx(3.0)
    assert cpu_s(account, Key("b", "p", "m:1", EXPLAINED), EXECUTOR) == pytest.approx(1.0)
    # Told of, so it is nobody's any more.
    assert not [line for line in account.lines if line.key.traffic == BESIDE]
    assert sum(line.amount for line in account.lines) == pytest.approx(account.bill)
    assert account.counts[Key("a", "p", "m:1", EXPLAINED)] == (64, 1)


def test_without_a_ledger_nothing_is_kept() -> None:
    ExplanationCost(None).take([asked("a", 1.0)])


async def test_what_is_no_time_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "explanations": {"file": tmp_path / "explanations.sqlite"},
        "outcomes": tmp_path / "outcomes.sqlite",
    }
    async with served(SERVICE, settings) as harness:
        for work, why in (
            (pb.ExplanationWork(tenant="a", pipeline="p", busy_us={"executor/m:1": -1.0}), "is no time"),
            (pb.ExplanationWork(tenant="a", pipeline="p", busy_us={"x": float("nan")}), "is no time"),
            (pb.ExplanationWork(tenant="a"), "pipeline is empty"),
        ):
            with pytest.raises(Fault, match=why) as caught:
                await call(harness, "RecordExplanations", pb.RecordExplanationsRequest(works=[work]))
            assert caught.value.code is Code.INVALID_ARGUMENT


async def test_work_that_is_told_twice_is_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paid: list[Any] = []
    monkeypatch.setattr(ExplanationCost, "take", lambda _, works: paid.extend(works))
    work = pb.ExplanationWork(tenant="a", pipeline="p", explanation_count=1, busy_us={"executor/m:1": 1.0})
    async with served(SERVICE, {"explanations": {"file": tmp_path / "explanations.sqlite"}}) as harness:
        for works_id in (b"1" * 16, b"1" * 16, b"2" * 16, b"", b""):
            request = pb.RecordExplanationsRequest(works=[work], works_id=works_id)
            await call(harness, "RecordExplanations", request)
    assert len(paid) == 4
