"""A pipeline with two routes: rows are dealt out, run apart and answered together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, Column, Rows
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from headrace.pipeline import DocumentError, ModelStage, ModelUse, parse
from headrace.releases import Released
from services.router.inference import Inference
from services.router.metrics import Metrics
from services.router.pipelines import Compiler, Pipelines, Served
from services.router.routes.route import Route, Share
from services.router.stages.runner import StageResult
from services.router.wiring import SERVICE
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


class Multiplier:
    """Runs a model stage: multiplies by the number at the end of the model's name."""

    service = "executor"

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage

    async def run(self, batch: Batch) -> StageResult:
        factor = np.float32(self._stage.model.removeprefix("times"))
        column = Column.of("y", batch.columns["x"].array * factor)
        return StageResult([column], model=ModelUse(self._stage.name, self._stage.model, "1", "ff"))


class OddAndEven:
    """Rows in turn."""

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        return [Share(route, np.arange(i, len(batch), 2)) for i, route in enumerate(routes)]


class Two(Pipelines):
    """One pipeline with two routes."""

    def __init__(self, compiler: Compiler) -> None:
        super().__init__(compiler)
        self._both = [
            compiler.compile(Released.of(parse(DOCUMENT.replace("NAME", name), "two.yaml")))
            for name in ("times2", "times10")
        ]

    def find(self, name: str, version: int) -> Served:
        routes = tuple(
            Route(s.pipeline.stages[0].name + str(i), s.routes[0].plan, s.routes[0].runners)
            for i, s in enumerate(self._both)
        )
        return Served(self._both[0].pipeline, routes, OddAndEven())


async def refresh() -> None:
    """Nothing changes here."""


def batch(count: int) -> Batch:
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    return Batch.of(rows, [Column.of("x", np.arange(count, dtype=np.float32))])


async def test_each_row_takes_its_route() -> None:
    compiler = Compiler({"model": Multiplier})
    inference = Inference(Two(compiler), refresh, Metrics(CollectorRegistry()), time.monotonic)
    answer = await inference.infer("double", 0, batch(5))
    assert answer.batch.columns["y"].array.tolist() == [0.0, 10.0, 4.0, 30.0, 8.0]
    assert answer.batch.columns["@decision"].array.tolist() == [0, 1, 0, 1, 0]
    assert [(d.route, d.models[0].model) for d in answer.decisions] == [
        ("times0", "times2"),
        ("times1", "times10"),
    ]


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
