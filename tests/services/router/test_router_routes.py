"""A pipeline with two routes: rows are dealt out, run apart and answered together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.columns import Batch, Column, Rows
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from headrace.pipeline import DocumentError, ModelStage, ModelUse, parse
from headrace.releases import Released
from headrace.releases.document import validated
from services.router.pipelines import Compiler, Pipelines, Served
from services.router.routes.route import Route, Share
from services.router.routes.table import RouteTable
from services.router.stages.runner import StageResult
from services.router.ticks.counters import NO_RELEASE, Counted
from services.router.wiring import SERVICE
from tests.services.router.one_pipeline import inference
from tests.services.router.router_leaves import SCORED

DOCUMENT = """\
pipeline: double
version: 1
deadline_ms: 100
inputs: {x: float32}
stages:
  - model: times
    name: NAME
    inputs: {x: x}
    outputs: {y: {column: y, type: float32}}
outputs: [y]
"""
HALVES = {"weights": {"live": 0.5, "candidate": 0.5}, "by": "x"}


class Multiplier:
    """Runs a model stage: multiplies by the number at the end of the model's name."""

    service = "executor"

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage

    async def run(self, batch: Batch) -> StageResult:
        factor = np.float32(self._stage.model.removeprefix("times"))
        column = Column.of("y", batch.columns["x"].array * factor)
        return StageResult([column], models=[ModelUse(self._stage.name, self._stage.model, "1", "ff")])


class OddAndEven:
    """Rows in turn."""

    release = 7

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        return [Share(route, np.arange(i, len(batch), 2)) for i, route in enumerate(routes)]


def odd_and_even() -> Served:
    """One pipeline with two routes."""
    compiler = Compiler({"model": Multiplier})
    both = [
        compiler.compile(Released.of(parse(DOCUMENT.replace("NAME", name), "two.yaml")))
        for name in ("times2", "times10")
    ]
    routes = tuple(
        Route(f"times{i}", served.routes[0].plan, served.routes[0].runners) for i, served in enumerate(both)
    )
    return Served(both[0].pipeline, routes, OddAndEven())


def batch(count: int) -> Batch:
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    return Batch.of(rows, [Column.of("x", np.arange(count, dtype=np.float32))])


async def test_each_row_takes_its_route() -> None:
    answer = await inference(odd_and_even()).infer("double", 0, batch(5))
    assert answer.batch.columns["y"].array.tolist() == [0.0, 10.0, 4.0, 30.0, 8.0]
    assert answer.batch.columns["@decision"].array.tolist() == [0, 1, 0, 1, 0]
    assert [(d.route, d.models[0].model, d.release) for d in answer.decisions] == [
        ("times0", "times2", 7),
        ("times1", "times10", 7),
    ]


def two_arms(runner: type[Multiplier] = Multiplier, counted: Counted = NO_RELEASE, **changes: Any) -> Served:
    """One pipeline whose release has two arms, of two versions of the document."""
    compiler = Compiler({"model": runner})
    texts = {"live": DOCUMENT.replace("NAME", "times2"), "candidate": DOCUMENT.replace("NAME", "times10")}
    texts["candidate"] = texts["candidate"].replace("version: 1", "version: 2")
    compiled = {arm: compiler.compile(Released.of(parse(text, f"{arm}.yaml"))) for arm, text in texts.items()}
    arm = {"version": 1, "revision": "ab" * 32}
    values = {"pipeline": "double", "number": 4, "arms": dict.fromkeys(texts, arm), **changes}
    table = RouteTable.compile(validated("double", values), {a: c.pipeline for a, c in compiled.items()})
    routes = tuple(Route(a, c.routes[0].plan, c.routes[0].runners) for a, c in compiled.items())
    return Served(compiled["live"].pipeline, routes, table, counted=counted)


def rules(**arms: list[float]) -> list[dict[str, Any]]:
    return [{"name": f"to-{arm}", "when": {"x": {"any": values}}, "arm": arm} for arm, values in arms.items()]


@pytest.mark.parametrize("count", [5, 40])
async def test_each_row_names_its_arm_and_its_rule(count: int) -> None:
    assign = {"weights": {"live": 0, "candidate": 1}}
    some = rules(candidate=[1.0], live=[2.0, 3.0])
    answer = await inference(two_arms(rules=some, assign=assign)).infer("double", 0, batch(count))
    factors = [2.0 if x in (2, 3) else 10.0 for x in range(count)]
    assert answer.batch.columns["y"].array.tolist() == [x * f for x, f in enumerate(factors)]
    told = [answer.decisions[i] for i in answer.batch.columns["@decision"].array.tolist()]
    expected = [("candidate", 2, ""), ("candidate", 2, "to-candidate"), *[("live", 1, "to-live")] * 2]
    expected += [("candidate", 2, "")] * (count - 4)
    assert [(d.route, d.version, d.rule) for d in told] == expected
    assert {d.release for d in told} == {4}
    assert {(d.route, d.models[0].model) for d in told} == {("live", "times2"), ("candidate", "times10")}
    assert len(answer.decisions) == 3


async def test_two_reasons_of_one_arm_are_two_decisions() -> None:
    answer = await inference(two_arms(rules=rules(live=[2.0]))).infer("double", 0, batch(4))
    assert answer.batch.columns["@decision"].array.tolist() == [1, 1, 0, 1]
    assert [(d.route, d.rule) for d in answer.decisions] == [("live", "to-live"), ("live", "")]


async def test_one_arm_needs_no_index_of_decisions() -> None:
    answer = await inference(two_arms(assign=HALVES)).infer("double", 0, batch(1))
    [decision] = answer.decisions
    assert decision.sticky
    assert "@decision" not in answer.batch.columns


async def test_a_batch_without_rows_takes_some_route() -> None:
    found = inference(two_arms(assign=HALVES, rules=rules(live=[2.0])))
    answer = await found.infer("double", 0, batch(0))
    assert (len(answer.batch), len(answer.decisions)) == (0, 1)


def test_a_pipeline_whose_service_is_not_configured_is_refused() -> None:
    compiler = Compiler({"model": Multiplier})
    with pytest.raises(DocumentError) as error:
        compiler.compile(Released.of(parse(SCORED, "scored.yaml")))
    assert [p.key for p in error.value.problems] == ["stages[0]", "stages[1]", "stages[3]"]
    assert "no client for the service of a features stage" in error.value.problems[0].message


async def test_only_the_services_that_are_needed_are_dialled(tmp_path: Path) -> None:
    (tmp_path / "double").mkdir()
    (tmp_path / "double" / "pipeline.yaml").write_text(DOCUMENT.replace("NAME", "m"))
    settings = {"pipelines": tmp_path, "executor": {"target": f"unix:{tmp_path}/nobody"}}
    async with served(SERVICE, settings) as harness:
        assert harness.running is not None


async def test_a_version_goes_on_for_those_who_know_no_newer() -> None:
    pipelines = Pipelines(Compiler({"model": Multiplier}))
    texts = [DOCUMENT.replace("version: 1", f"version: {v}") for v in (1, 2, 3)]
    for text in texts:
        pipelines.replace({"double": Released.of(parse(text, "double.yaml"))})
    assert pipelines.find("double", 0).pipeline.version == 3
    assert pipelines.find("double", 2).pipeline.version == 2
    with pytest.raises(Fault) as error:
        pipelines.find("double", 1)
    assert (error.value.code, error.value.reason) == (Code.NOT_FOUND, Reason.REASON_VERSION_UNKNOWN)
    pipelines.replace({})
    with pytest.raises(Fault):
        pipelines.find("double", 2)
