"""Small leaf services for the router's tests: real servers with behaviour that a test can change."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor import FileDescriptor

from headrace.api.executor.v1 import executor_pb2
from headrace.api.features.v1 import features_pb2
from headrace.api.postprocessing.v1 import postprocessing_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2
from headrace.api.router.v1 import router_pb2
from headrace.columns import Batch, Column, Rows, Timing, decode, encode
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.definition import Definition, Service
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from services.ingress.clients import INFER
from services.router.wiring import SERVICE
from tests.definitions import definition_of
from tests.first_release import live

Codec = ColumnCodec[tuple[str, int], router_pb2.InferRequest, router_pb2.InferResponse]
HEAD = """
version: 3
deadline_ms: 5000
inputs:
  key: {type: string}
  x: {type: float32}
"""
SCORED = f"""pipeline: scored
{HEAD}
stages:
  - features: store
    feature_service: users
    entities: [key]
    views: {{user: {{features: {{score: float64}}, on_missing: default}}}}
  - preprocessing: prepare
    steps:
      - impute: {{columns: {{score: -1.0}}}}
      - assemble: {{columns: [x, score], into: input}}
    outputs: {{input: {{type: float32, shape: [2]}}}}
  - model: sum
    name: adder
    inputs: {{numbers: input}}
    outputs: {{total: {{column: y, type: float32}}}}
  - postprocessing: finish
    steps: [threshold: {{column: y, at: 0.0, into: positive}}]
    outputs: {{positive: bool}}
outputs: [y, positive]
"""
REGULATED = SCORED.replace("deadline_ms", "regulated: true\ndeadline_ms", 1)
FREE = SCORED.replace("pipeline: scored", "pipeline: free")
DEMANDING = SCORED.replace("pipeline: scored", "pipeline: demanding").replace(
    "on_missing: default", "on_missing: refuse"
)
TWO_MODELS = f"""pipeline: two
{HEAD}
stages:
  - model: left
    name: left
    inputs: {{numbers: x}}
    outputs: {{total: {{column: a, type: float32}}}}
  - model: right
    name: right
    inputs: {{numbers: x}}
    outputs: {{total: {{column: b, type: float32}}}}
  - postprocessing: finish
    steps: [add: {{left: a, right: b, into: c}}]
    outputs: {{c: float64}}
outputs: [a, b, c, key]
"""
Hook = Callable[[Batch], Awaitable[Batch | None]]


def failing(code: Code, reason: Reason, message: str = "as asked", **fields: Any) -> Hook:
    """A hook that fails each call."""

    async def fail(batch: Batch) -> None:
        raise Fault(code, reason, message, **fields)

    return fail


@dataclass
class Leaf:
    """One leaf. `hook`: called with each batch; what it returns replaces the usual answer, what it raises is
    raised. `calls`: rows of each call."""

    calls: list[int] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    hook: Hook | None = None

    async def answer(self, message: Any, compute: Callable[[Batch], list[Column]]) -> Batch:
        batch = decode(message)
        self.calls.append(len(batch))
        self.seen.update(batch.rows.request_ids)
        if self.hook is not None:
            given = await self.hook(batch)
            if given is not None:
                return given
        return Batch(
            batch.rows,
            {c.name: c for c in compute(batch)},
            timings=[Timing("work", "leaf", 5, 7, len(batch))],
        )


@dataclass
class Features(Leaf):
    """score = length of the key; a key that begins with `?` is not found. `rules`: of the last call."""

    rules: list[tuple[str, int, int]] = field(default_factory=list)

    async def GetFeatures(self, request: Any, call: Call) -> Any:
        self.rules = [(r.view, r.max_age_us, r.stale_us) for r in request.rules]
        return features_pb2.GetFeaturesResponse(batch=encode(await self.answer(request.batch, features)))


def features(batch: Batch) -> list[Column]:
    keys = batch.columns["key"].text()
    found = np.array([not (k or "?").startswith("?") for k in keys])
    score = np.array([float(len(k or "")) for k in keys])
    return [
        Column.of("score", np.where(found, score, 0.0), found),
        Column.of("@age_us/user", np.where(found, 1000, -1)),
        Column.of("@source/user", np.where(found, 1, 2).astype(np.uint8)),
    ]


@dataclass
class Steps(Leaf):
    """Either steps service; knows only the specifications that it has been sent."""

    known: set[str] = field(default_factory=set)

    def _learn(self, request: Any) -> None:
        if request.spec:
            self.known.add(request.spec_sha256)
        if request.spec_sha256 not in self.known:
            raise Fault(Code.FAILED_PRECONDITION, Reason.REASON_SPEC_UNKNOWN, "send the specification")

    async def Transform(self, request: Any, call: Call) -> Any:
        self._learn(request)
        return preprocessing_pb2.TransformResponse(batch=encode(await self.answer(request.batch, prepare)))

    async def Format(self, request: Any, call: Call) -> Any:
        self._learn(request)
        return postprocessing_pb2.FormatResponse(batch=encode(await self.answer(request.batch, finish)))


def prepare(batch: Batch) -> list[Column]:
    score = np.where(batch.columns["score"].is_valid(), batch.columns["score"].array, -1.0)
    return [Column.of("input", np.stack([batch.columns["x"].array, score], axis=1).astype(np.float32))]


def finish(batch: Batch) -> list[Column]:
    if "y" in batch.columns:
        return [Column.of("positive", batch.columns["y"].array >= 0)]
    return [Column.of("c", batch.columns["a"].array.astype(np.float64) + batch.columns["b"].array)]


@dataclass
class Executor(Leaf):
    """total = sum of the numbers. `models`: a hook per model; what it returns replaces the usual answer."""

    models: dict[str, Hook] = field(default_factory=dict)
    # Version → state, of the model `m`; and what operators asked, in order.
    loaded: dict[str, Any] = field(default_factory=lambda: {"1": executor_pb2.MODEL_STATE_ACTIVE})
    asked: list[str] = field(default_factory=list)
    refusal: Fault | None = None

    async def Execute(self, request: Any, call: Call) -> Any:
        batch = None
        if request.model in self.models:
            batch = await self.models[request.model](decode(request.batch))
        if batch is None:
            batch = await self.answer(request.batch, total)
        return executor_pb2.ExecuteResponse(
            batch=encode(batch), version="7", sha256="ab" * 32, backend="test"
        )

    async def ListModels(self, request: Any, call: Call) -> Any:
        return executor_pb2.ListModelsResponse()

    async def IndexModels(self, request: Any, call: Call) -> Any:
        models = [
            executor_pb2.IndexedModel(name="m", version=v, state=s, progress="almost")
            for v, s in self.loaded.items()
        ]
        return executor_pb2.IndexModelsResponse(models=models)

    async def LoadModel(self, request: Any, call: Call) -> Any:
        self.asked.append(f"load {request.model}:{request.version} for {request.operator}")
        if self.refusal is not None:
            raise self.refusal
        self.loaded[request.version] = executor_pb2.MODEL_STATE_ACTIVE
        model = executor_pb2.Model(name=request.model, version=request.version, sha256="ab" * 32)
        return executor_pb2.LoadModelResponse(model=model)

    async def UnloadModel(self, request: Any, call: Call) -> Any:
        self.asked.append(f"unload {request.model}:{request.version} for {request.operator}")
        if self.refusal is not None:
            raise self.refusal
        if self.loaded.pop(request.version, None) is None:
            raise Fault(Code.NOT_FOUND, Reason.REASON_MODEL_UNKNOWN, "not loaded")
        return executor_pb2.UnloadModelResponse(versions=[request.version])


def total(batch: Batch) -> list[Column]:
    numbers = batch.columns["numbers"].array.astype(np.float32).reshape(len(batch), -1)
    return [Column.of("total", numbers.sum(axis=1))]


@dataclass
class Suite:
    """The router and its leaves, each behind its own socket."""

    router: Harness
    features: Features
    preprocessing: Steps
    executor: Executor
    postprocessing: Steps
    harnesses: dict[str, Harness]

    def infer(self, **client: Any) -> Callable[[BatchCall[tuple[str, int]]], Any]:
        """A coalescing client, as the ingress has one."""
        return self.router.client(**client).coalesced(INFER, infer_codec())

    async def ask(
        self, pipeline: str, batch: Batch, version: int = 0
    ) -> BatchReply[router_pb2.InferResponse]:
        call = BatchCall((pipeline, version), batch)
        reply: BatchReply[router_pb2.InferResponse] = await self.infer()(call)
        return reply

    async def until_answered(self, pipeline: str) -> None:
        async with asyncio.timeout(60):
            while (await self.ask(pipeline, batch_of(["ab"], [1.0]))).batch.errors:
                await asyncio.sleep(0.01)

    def sample(self, name: str, **labels: str) -> float | None:
        """The router's metric of this name."""
        return self.router.runtime.telemetry.registry.get_sample_value(f"headrace_{name}", labels)


def infer_codec() -> Codec:
    return ColumnCodec(
        lambda header: router_pb2.InferRequest(pipeline=header[0], version=header[1]), callee="router"
    )


def batch_of(
    keys: Sequence[str], xs: Sequence[float], budget_s: float = 60.0, request_id: str = "r"
) -> Batch:
    now = asyncio.get_running_loop().time()
    rows = Rows.one_request(len(keys), request_id, "tenant", now + budget_s)
    return Batch.of(rows, [Column.of_text("key", list(keys)), Column.of("x", np.array(xs, np.float32))])


def with_deadlines(batch: Batch, deadlines: Sequence[float]) -> Batch:
    return replace(batch, rows=replace(batch.rows, deadlines=list(deadlines)))


def _definition(
    name: str, file: FileDescriptor, service: str, servicer: object
) -> Definition[config.ServiceSettings]:
    return definition_of(name, Service(file.services_by_name[service], servicer))


@asynccontextmanager
async def replicas(*executors: Executor) -> AsyncIterator[list[Harness]]:
    """The executors, each behind its own socket."""
    file, name = executor_pb2.DESCRIPTOR, "ExecutorService"
    async with AsyncExitStack() as stack:
        made = [served(_definition("executor", file, name, each)) for each in executors]
        yield [await stack.enter_async_context(each) for each in made]


def targets(harnesses: Sequence[Harness]) -> dict[str, str]:
    """The settings of a client of all of them."""
    return {"target": ",".join(harness.target for harness in harnesses)}


@asynccontextmanager
async def suite(folder: Path, documents: dict[str, str], **settings: Any) -> AsyncIterator[Suite]:
    """Starts everything; `documents`: name → text of the pipelines that are live."""
    features, preprocessing, executor, postprocessing = Features(), Steps(), Executor(), Steps()
    leaves = {
        "features": (features_pb2.DESCRIPTOR, "FeaturesService", features),
        "preprocessing": (preprocessing_pb2.DESCRIPTOR, "PreprocessingService", preprocessing),
        "executor": (executor_pb2.DESCRIPTOR, "ExecutorService", executor),
        "postprocessing": (postprocessing_pb2.DESCRIPTOR, "PostprocessingService", postprocessing),
    }
    async with AsyncExitStack() as stack:
        harnesses = {
            name: await stack.enter_async_context(served(_definition(name, file, service, leaf)))
            for name, (file, service, leaf) in leaves.items()
        }
        clients = {name: {"target": harness.target} for name, harness in harnesses.items()}
        # Features that a busy machine makes late would be missing from the answers.
        patient = {"features_timeout_s": 60.0}
        values = {"resources": live(folder / "live", *documents.values()), **patient, **clients, **settings}
        router = await stack.enter_async_context(served(SERVICE, values))
        yield Suite(router, features, preprocessing, executor, postprocessing, harnesses)
