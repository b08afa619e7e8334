"""From runs of the router and their events to what each tenant pays, whatever the arms; explanations are paid by the tenant
for whom predictions are explained."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows, Timing
from headrace.cost import Interval, Key, Prices, ProcessUse, Work, billed, charges, report
from headrace.cost.usage import CACHED, EXPLAINED, REPLAYED, SHADOW
from headrace.events import EventGroup, GroupHeader
from headrace.hop.testing import served
from headrace.pipeline import ModelStage, ModelUse, parse
from services.monitoring.cost.from_events import CostObserver
from services.monitoring.cost.from_explanations import ExplanationCost, ExplanationWork
from services.monitoring.database.facts import Facts
from services.monitoring.wiring import SERVICE
from services.router.pipelines import Compiler, Served
from services.router.routes.route import Route, Share
from services.router.routes.table import RouteTable
from services.router.stages.runner import StageResult
from tests.first_release import first_released
from tests.libs.cost.cost_accounts import counts_of
from tests.services.monitoring import monitoring_calls
from tests.services.monitoring.cost.cost_world import World, cpu_s, page
from tests.services.monitoring.cost.test_cost_collector import EXECUTOR
from tests.services.router.test_router_routes import batch as batch_of_x
from tests.services.router.test_router_run_events import Observed


def observed(header: GroupHeader, cached: list[bool]) -> dict[Key, Work]:
    count = len(cached)
    columns = [
        Column("@row", DType.UINT32, np.array([0, 0, 1][:count], np.uint32)),
        Column("@cached", DType.BOOL, np.array(cached)),
        Column("@busy_us/executor/m:1", DType.FLOAT32, np.where(cached, 0, 8).astype(np.float32)),
        Column("@busy_us/features", DType.FLOAT32, np.full(count, 2, np.float32)),
    ]
    observer = CostObserver()
    rows = Rows(["r"] * count, ["a", "b", "a"][:count], [1] * count, [0.0] * count, [""] * count)
    observer.observe_group(EventGroup(header, Batch.of(rows, columns)), 0.0)
    return observer.take()


def test_kept_answers_replays_and_shadows_are_apart() -> None:
    live = GroupHeader("p", 1, "r", "live", models=(ModelUse("s", "m", "1", ""),))
    found = observed(live, [False, False, True])
    assert {k: (w.rows, w.requests) for k, w in found.items()} == {
        Key("a", "p", "m:1"): (1, 1),
        Key("a", "p", "m:1", CACHED): (1, 0),
        Key("b", "p", "m:1"): (1, 1),
    }
    assert found[Key("a", "p", "m:1")].busy_us["executor"] == 8
    assert set(found[Key("a", "p", "m:1", CACHED)].busy_us) == {"features", "router", "ingress"}
    for header, traffic in (
        (replace(live, replayed=True), REPLAYED),
        (replace(live, shadow_of="live"), SHADOW),
    ):
        found = observed(header, [False])
        assert list(found) == [Key("a", "p", "m:1", traffic)]
        assert "ingress" not in found[Key("a", "p", "m:1", traffic)].busy_us


def test_the_time_of_models_on_gpus_is_told_apart() -> None:
    models = (
        ModelUse("s", "m", "1", "", backend="tensorrt"),
        ModelUse("s", "n", "1", "", backend="onnxruntime"),
    )
    found = observed(GroupHeader("p", 1, "r", "live", models=models), [False])
    assert found[Key("a", "p", "m:1")].gpu_us == 8
    assert found[Key("a", "p", "m:1+n:1")].gpu_us == 0


def asked(tenant: str, seconds: float, *, explanations: int = 1, rows: int = 64) -> ExplanationWork:
    return ExplanationWork(tenant, "p", explanations, rows, {"executor/m:1": seconds * 1e6})


def test_the_executors_time_is_divided_by_what_explanations_took(tmp_path: Path, facts: Facts) -> None:
    world = World(tmp_path, facts)
    work: dict[Key, Work] = {}
    cost = ExplanationCost(work.update)
    with world.collector() as collector:
        world.later(collector, 0, executor=page(100.0))
        cost.take([asked("a", 3.0), asked("b", 1.0)])
        world.later(collector, 10, work, executor=page(104.0))
    account = world.account()
    assert cpu_s(account, Key("a", "p", "m:1", EXPLAINED), EXECUTOR) == pytest.approx(3.0)
    assert cpu_s(account, Key("b", "p", "m:1", EXPLAINED), EXECUTOR) == pytest.approx(1.0)
    assert sum(line.amount for line in account.charges) == pytest.approx(report(account, "tenant").bill)
    assert counts_of(account)[Key("a", "p", "m:1", EXPLAINED)] == (64, 1)


def test_without_a_ledger_nothing_is_kept() -> None:
    ExplanationCost(None).take([asked("a", 1.0)])


async def test_what_is_no_time_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "database": str(tmp_path / "facts.sqlite"),
    }
    async with served(SERVICE, settings) as harness:
        for work, why in (
            (pb.ExplanationWork(tenant="a", pipeline="p", busy_us={"executor/m:1": -1.0}), "is no time"),
            (pb.ExplanationWork(tenant="a", pipeline="p", busy_us={"x": float("nan")}), "is no time"),
            (pb.ExplanationWork(tenant="a"), "pipeline is empty"),
        ):
            reply = await monitoring_calls.report(harness, explanations=pb.ExplanationReport(works=[work]))
            assert why in reply.explanations.problem


async def test_work_that_is_told_twice_is_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paid: list[Any] = []
    monkeypatch.setattr(ExplanationCost, "take", lambda _, works: paid.extend(works))
    work = pb.ExplanationWork(tenant="a", pipeline="p", explanation_count=1, busy_us={"executor/m:1": 1.0})
    async with served(SERVICE, {"database": str(tmp_path / "facts.sqlite")}) as harness:
        for number in (1, 1, 2, 0, 0):
            await monitoring_calls.report(
                harness, explanations=pb.ExplanationReport(works=[work], number=number)
            )
    assert len(paid) == 4


class Dealt(RouteTable):
    """Deals rows to arms: most to the first, the same few to each other one."""

    def __init__(self) -> None:
        """Of no release."""

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        dealt = np.arange(len(batch)) % 20
        arms = np.where(dealt < len(routes), dealt, 0)
        return [Share(route, np.flatnonzero(arms == i)) for i, route in enumerate(routes)]


class Working:
    """Runs a model stage whose work is 100 µs a row; all arms have the stage `head`."""

    service = "executor"

    def __init__(self, stage: ModelStage) -> None:
        self._name, self._model = stage.name, stage.model

    async def run(self, batch: Batch) -> StageResult:
        written = Column.of({"head": "h", "tail": "y"}[self._name], np.zeros(len(batch), np.float32))
        await asyncio.sleep(0.02 if self._name == "head" else 0)
        return StageResult(
            [written],
            attributes={"model.name": self._model, "model.version": "1"},
            timings=[Timing("run", "executor", 0, 100 * len(batch), len(batch))],
            models=[ModelUse(self._name, self._model, "1", "ff")],
        )


@pytest.mark.parametrize("arms", [1, 2, 5])
async def test_a_row_costs_the_same_on_each_of_several_arms(arms: int) -> None:
    text = """{pipeline: p, version: 1, deadline_ms: 100, inputs: {x: float32}, outputs: [y], stages: [
  {model: head, name: head, inputs: {x: x}, outputs: {y: {column: h, type: float32}}},
  {model: tail, name: TAIL, inputs: {h: h}, outputs: {y: {column: y, type: float32}}}]}"""
    compiler = Compiler({"model": Working})
    made = [compiler.compile(first_released(parse(text.replace("TAIL", f"m{i}"), "p"))) for i in range(arms)]
    routes = tuple(Route(f"a{i}", m.routes[0].plan, m.routes[0].runners) for i, m in enumerate(made))
    world, observer = Observed(Served(made[0].pipeline, routes, Dealt())), CostObserver()
    for _ in range(3):
        asked = batch_of_x(40)
        asked.rows.tenants = ["b", "a", "a", "a", "a"] * 8
        await world.inference.infer("p", 0, asked)
    for group in world.groups():
        # What the arms share is in the time and in the work of each.
        assert min(group.batch.columns["@latency_us"].array) >= 20_000
        assert group.batch.columns["@busy_us"].array == pytest.approx(2 * 100, rel=0.1)
        observer.observe_group(group, 0.0)
    interval = Interval(15.0, [ProcessUse("executor", 2.0, 0.5)], observer.take(), frozenset({"executor"}))
    prices = Prices.model_validate({"reserved": {"cores": 2, "memory_gb": 4}})
    lines = charges(interval, prices)
    assert sum(line.amount for line in lines) == pytest.approx(
        sum(bill.amount for bill in billed(interval, prices)), rel=0.001
    )
    assert len({key.version for key, work in interval.work.items() if work.rows}) == arms
    # A tenant with four times the rows pays four times as much.
    for tenant, count in (("a", 96), ("b", 24)):
        spent = [
            work.busy_us.get("executor", 0.0) for key, work in interval.work.items() if key.tenant == tenant
        ]
        assert sum(spent) == pytest.approx(2 * 100 * count)
