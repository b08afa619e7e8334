"""A kind of stage is added by two registrations: of how a document says it, and of what runs it. Nothing else changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.columns import Batch, Column, DType, decode, encode
from headrace.columns.batch_codec import BatchCall, ColumnCodec
from headrace.hop.call import Call
from headrace.hop.client.dial import Client
from headrace.hop.config import Settings
from headrace.hop.testing import served
from headrace.pipeline import STAGE_KINDS, ColumnType, StageKind
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.stages.kind import Written
from services.router.stages.registry import RUNNER_KINDS
from services.router.stages.runner import Declared, RunnerFactory, RunnerKind, StageResult, columns_of
from services.router.stages.steps import TRANSFORM
from services.router.wiring import definition
from tests.services.router import router_leaves
from tests.services.router.router_leaves import _definition, batch_of, suite

DOCUMENT = """
pipeline: translated
version: 1
deadline_ms: 5000
inputs:
  key: {type: string}
  x: {type: float32}
stages:
  - dummy: words
    table: de
    column: x
    into: scaled
  - model: sum
    name: adder
    inputs: {numbers: scaled}
    outputs: {total: {column: y, type: float32}}
outputs: [y, scaled]
"""


@dataclass(frozen=True, slots=True)
class DummyStage:
    """Looks a column up in a table."""

    kind: ClassVar[str] = "dummy"

    name: str
    table: str
    column: str
    into: str


class DummyKind(StageKind[DummyStage]):
    """What a document says of such stages."""

    name = "dummy"

    def read(self, entry: Entry) -> DummyStage | None:
        fields = entry.fields(["dummy", "table", "column", "into"])
        if len(fields) < 4:
            return None
        return DummyStage(*(fields[key].name() for key in ("dummy", "table", "column", "into")))

    def reads(self, stage: DummyStage) -> Mapping[str, str]:
        return {stage.column: "column"}

    def writes(self, stage: DummyStage) -> list[Written]:
        return [Written(stage.into, ColumnType(DType.FLOAT32), "into")]


class DummyRunner:
    """Runs such a stage."""

    service = "dictionary"

    def __init__(self, stage: DummyStage, call: Callable[[BatchCall[str]], Any]) -> None:
        self._stage, self._call = stage, call

    async def run(self, batch: Batch) -> StageResult:
        reply = await self._call(BatchCall(self._stage.table, batch))
        wanted = Declared({"found": ColumnType(DType.FLOAT32)})
        [found] = columns_of(self._stage.name, reply.batch, wanted, len(batch))
        return StageResult([found.renamed(self._stage.into)])


def connect(client: Client, settings: Settings, clock: Callable[[], float]) -> RunnerFactory:
    codec: ColumnCodec[str, pb.TransformRequest, pb.TransformResponse] = ColumnCodec(
        lambda table: pb.TransformRequest(spec_sha256=table), callee=client.callee
    )
    # A contract that is there serves as that of a service that is not: the router must not care.
    call = client.coalesced(TRANSFORM, codec)
    return lambda stage: DummyRunner(stage, call)


class Dictionary:
    """The service: three times the number."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    async def Transform(self, request: pb.TransformRequest, call: Call) -> pb.TransformResponse:
        self.tables.append(request.spec_sha256)
        batch = decode(request.batch)
        [column] = batch.columns.values()
        reply = batch.with_columns([Column.of("found", column.array * np.float32(3))])
        return pb.TransformResponse(batch=encode(reply))


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two registrations, and a router that has them."""
    monkeypatch.setitem(STAGE_KINDS, "dummy", DummyKind())
    monkeypatch.setitem(RUNNER_KINDS, "dummy", RunnerKind("dummy", "dictionary", connect))
    monkeypatch.setattr(router_leaves, "SERVICE", definition())


@pytest.mark.usefixtures("dummy")
async def test_a_pipeline_with_the_new_kind_runs(tmp_path: Path) -> None:
    dictionary = Dictionary()
    own = _definition("dictionary", pb.DESCRIPTOR, "PreprocessingService", dictionary)
    async with (
        served(own) as leaf,
        suite(tmp_path, {"translated": DOCUMENT}, dictionary={"target": leaf.target}) as running,
    ):
        reply = await running.ask("translated", batch_of(["a", "b"], [2.0, 7.0]))
    assert not reply.batch.errors
    assert reply.batch.columns["scaled"].array.tolist() == [6.0, 21.0]
    assert reply.batch.columns["y"].array.tolist() == [6.0, 21.0]
    assert dictionary.tables == ["de"]
    assert [(t.stage, t.service) for t in reply.batch.timings if "/" not in t.stage] == [
        ("words", "dictionary"),
        ("sum", "executor"),
    ]
