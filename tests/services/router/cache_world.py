"""A router's inference without sockets: a pipeline of features, a model and a step, in a world that a test can change."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Fault
from headrace.pipeline import ModelUse, Pipeline, Stage, parse
from services.router.cache.clients import SharedAnswers
from services.router.cache.meter import CacheMetrics
from services.router.cache.route import AnswerCaches
from services.router.inference import Inference, PipelineResult
from services.router.metrics import Metrics
from services.router.pipelines import Compiler, Pipelines
from services.router.stages.runner import StageResult
from tests.first_release import first_released

DOCUMENT = """\
pipeline: scored
version: VERSION
deadline_ms: 1000
inputs: {key: string, x: float64, word: {type: string, required: false}}
cache: {ttl: 10s, max_bytes: 64KiB}
stages:
  - features: store
    feature_service: users
    entities: [key]
    views: {user: {features: {score: float64}, on_missing: default}}
  - model: times
    name: times
    version: "7"
    inputs: {x: x, score: score, word: word}
    outputs: {y: {column: y, type: float64}, said: {column: said, type: string}}
  - postprocessing: finish
    steps: [threshold: {column: y, at: 0.0, into: positive}]
    outputs: {positive: bool}
outputs: [y, said, positive]
"""


@dataclass
class World:
    """What the services would answer now. `score`: of every key; a key that begins with `?` is not found. The model gives
    y = factor · x + score, and said = word. `calls`: how many rows each stage was sent, by its name."""

    factor: float = 1.0
    score: float = 0.0
    sha256: str = "a"
    now: float = 100.0
    calls: dict[str, int] = field(default_factory=dict)
    fault: Fault | None = None
    # Set: the model does not answer before the event.
    gate: asyncio.Event | None = None
    standby: bool = False
    # Seconds that the model takes.
    takes: float = 0.0

    def clock(self) -> float:
        return self.now


@dataclass
class Runner:
    stage: Any
    world: World
    service = "test"

    async def run(self, batch: Batch) -> StageResult:
        world, name = self.world, self.stage.name
        world.calls[name] = world.calls.get(name, 0) + len(batch)
        result: StageResult = await getattr(self, f"_{self.stage.kind}")(batch)
        return result

    async def _features(self, batch: Batch) -> StageResult:
        missing = np.array([(key or "?").startswith("?") for key in batch.columns["key"].text()])
        score = Column.of("score", np.where(missing, 0.0, self.world.score), ~missing)
        fallbacks = {"features/user:not_found": missing} if missing.any() else {}
        return StageResult([score], fallbacks=fallbacks)

    async def _model(self, batch: Batch) -> StageResult:
        world = self.world
        factor, sha256, fault = world.factor, world.sha256, world.fault
        if world.gate is not None:
            await world.gate.wait()
        world.now += world.takes
        if fault is not None:
            raise fault
        score = batch.columns["score"].array if "score" in batch.columns else 0.0
        word = batch.columns["word"]
        said = Column("said", word.dtype, word.values)
        y = Column.of("y", batch.columns["x"].array * factor + score)
        fallbacks = {"model/times:standby": np.ones(len(batch), bool)} if world.standby else {}
        used = ModelUse(self.stage.name, self.stage.model, self.stage.version, sha256)
        return StageResult([y, said], fallbacks=fallbacks, models=[used])

    async def _postprocessing(self, batch: Batch) -> StageResult:
        at = self.stage.spec["steps"][0]["threshold"]["at"]
        return StageResult([Column.of("positive", batch.columns["y"].array >= at)])


class Served:
    """A router of one pipeline."""

    def __init__(self, world: World, document: str = DOCUMENT, shared: SharedAnswers | None = None) -> None:
        self.world = world
        self.registry = CollectorRegistry()
        self.caches = AnswerCaches(CacheMetrics(self.registry), "build", shared)
        kinds = ("features", "model", "postprocessing")

        def factory(stage: Stage) -> Runner:
            return Runner(stage, world)

        self.pipelines = Pipelines(Compiler(dict.fromkeys(kinds, factory), caches=self.caches))
        self.inference = Inference(self.pipelines, self._refresh, Metrics(CollectorRegistry()), world.clock)
        self.deploy(document)

    async def _refresh(self) -> None:
        """Nothing changes by itself."""

    def deploy(self, document: str, version: int = 1) -> Pipeline:
        pipeline = parse(document.replace("VERSION", str(version)), "scored.yaml")
        self.pipelines.replace({"scored": first_released(pipeline)})
        return pipeline

    async def ask(
        self,
        xs: Sequence[float],
        keys: Sequence[str] | None = None,
        words: Sequence[str | None] | None = None,
        tenant: str = "t",
        budget_s: float = 5.0,
        errors: Mapping[int, RowError] | None = None,
    ) -> PipelineResult:
        count = len(xs)
        rows = Rows.one_request(count, "r", tenant, self.world.now + budget_s)
        columns = [
            Column.of_text("key", list(keys or ["k"] * count)),
            Column.of("x", np.array(xs, np.float64)),
            Column.of_text("word", list(words or ["w"] * count)),
        ]
        return await self.inference.infer("scored", 0, Batch.of(rows, columns).with_errors(errors or {}))

    def counted(self, outcome: str) -> float:
        labels = {"pipeline": "scored", "outcome": outcome}
        return self.registry.get_sample_value("headrace_router_cache_rows_total", labels) or 0.0


def values(result: PipelineResult, name: str = "y") -> list[Any]:
    column = result.batch.columns[name]
    found: list[Any] = column.text() if column.dtype.name == "BYTES" else column.array.tolist()
    return found


def ages(result: PipelineResult) -> list[int]:
    """Of the kept answers, in µs; −1: the row was computed."""
    if "@cached_us" not in result.batch.columns:
        return [-1] * len(result.batch)
    return values(result, "@cached_us")


def loaded(world: World, factor: float, sha256: str) -> None:
    """Other weights serve now under the same version."""
    world.factor, world.sha256 = factor, sha256
