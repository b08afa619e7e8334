"""Router and executor with real models: a member or a heavy model that is unloaded stops nothing that can do without it."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from headrace.api.executor.v1 import executor_pb2
from headrace.api.router.v1 import router_pb2
from headrace.columns import DType
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop.errors import Code, Reason
from headrace.hop.testing import Harness, served
from headrace.repository import TensorSpec, publish
from services.executor.wiring import SERVICE as EXECUTOR
from services.ingress.clients import INFER
from services.router.operations.clients import UNLOAD
from services.router.wiring import SERVICE as ROUTER
from tests.first_release import live
from tests.services.executor.executor_models import onnx_bytes
from tests.services.router.router_leaves import HEAD, batch_of

DOCUMENTS = (
    f"""pipeline: cascade
{HEAD}
stages:
  - cascade: score
    light: {{name: times1, inputs: {{x: x}}, outputs: {{y: {{column: y, type: float32}}}}}}
    heavy: {{name: times10, inputs: {{x: x}}, outputs: {{y: {{column: y, type: float32}}}}}}
    score: y
    decision: 0.5
    threshold: 0.2
outputs: [y]
""",
    f"""pipeline: ensemble
{HEAD}
stages:
  - ensemble: score
    members:
      needed: {{name: times1, inputs: {{x: x}}, output: y, required: true}}
      spare: {{name: times10, inputs: {{x: x}}, output: y, weight: 3}}
    combine: mean
    into: {{column: y, type: float32}}
outputs: [y]
""",
)


def times(factor: float) -> bytes:
    """y = x × factor, for (rows,)."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows"]) for n in "xy")
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])], "times", [x], [y], [constant]
    )
    return onnx_bytes(graph)


@dataclass(frozen=True)
class Pair:
    router: Harness
    executor: Harness

    async def ask(self, pipeline: str, xs: list[float]) -> BatchReply[router_pb2.InferResponse]:
        codec: ColumnCodec[tuple[str, int], router_pb2.InferRequest, router_pb2.InferResponse] = ColumnCodec(
            lambda header: router_pb2.InferRequest(pipeline=header[0], version=header[1]), callee="router"
        )
        infer = self.router.client().coalesced(INFER, codec)
        batch = batch_of(["k"] * len(xs), xs, budget_s=60.0)
        reply: BatchReply[router_pb2.InferResponse] = await infer(BatchCall((pipeline, 0), batch))
        return reply

    async def unload(self, model: str) -> None:
        call = self.executor.client().unary(UNLOAD)
        await call(executor_pb2.UnloadModelRequest(model=model), deadline=time.monotonic() + 60)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    tensor = [TensorSpec("x", DType.FLOAT32, ())], [TensorSpec("y", DType.FLOAT32, ())]
    for factor in (1, 10):
        name = f"times{factor}"
        publish(tmp_path / "models", name, "1", times(factor), inputs=tensor[0], outputs=tensor[1])
    async with AsyncExitStack() as stack:
        executor = await stack.enter_async_context(served(EXECUTOR, {"models": tmp_path / "models"}))
        resources = live(tmp_path / "live", *DOCUMENTS)
        settings = {"resources": resources, "executor": {"target": executor.target}}
        router = await stack.enter_async_context(served(ROUTER, settings))
        yield Pair(router, executor)


def used(reply: BatchReply[router_pb2.InferResponse]) -> list[tuple[str, str]]:
    return [(m.model, m.version) for m in reply.response.decisions[0].models]


async def test_a_cascade_without_its_heavy_model_answers_lightly(pair: Pair) -> None:
    reply = await pair.ask("cascade", [0.25, 0.5])
    assert reply.batch.columns["y"].array.tolist() == [0.25, 5.0]
    assert used(reply) == [("times1", "1"), ("times10", "1")]
    assert list(reply.response.fallbacks) == []
    await pair.unload("times10")
    reply = await pair.ask("cascade", [0.25, 0.5])
    assert not reply.batch.errors
    assert reply.batch.columns["y"].array.tolist() == [0.25, 0.5]
    assert used(reply) == [("times1", "1")]
    assert list(reply.response.fallbacks) == ["cascade/score:light"]
    assert reply.batch.columns["@fallbacks"].array.tolist() == [0, 1]


async def test_an_ensemble_does_without_an_optional_member_and_names_a_required_one(pair: Pair) -> None:
    reply = await pair.ask("ensemble", [1.0])
    assert reply.batch.columns["y"].array.tolist() == [(1 + 30) / 4]
    assert used(reply) == [("times1", "1"), ("times10", "1")]
    await pair.unload("times10")
    reply = await pair.ask("ensemble", [1.0])
    assert not reply.batch.errors
    assert reply.batch.columns["y"].array.tolist() == [1.0]
    assert list(reply.response.fallbacks) == ["ensemble/score:spare"]
    await pair.unload("times1")
    error = (await pair.ask("ensemble", [1.0])).batch.errors[0]
    assert (error.code, error.reason, error.stage) == (Code.UNAVAILABLE, Reason.REASON_MEMBER_FAILED, "score")
    assert (error.metadata["member"], error.metadata["cause"]) == ("needed", "MODEL_UNKNOWN")
