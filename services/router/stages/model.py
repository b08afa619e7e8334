"""`model` stages: the executor runs the model."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import numpy as np

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import Batch
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.columns.column import Mask
from headrace.hop.batching.codec import ItemDescription
from headrace.hop.call import unary
from headrace.hop.client.dial import Client, CoalescedMethod
from headrace.hop.config import Settings
from headrace.pipeline import ModelStage, ModelUse
from services.router.stages.by_replica import REPLICA, run_by_replica
from services.router.stages.runner import Declared, RunnerFactory, RunnerKind, StageResult, columns_of

EXECUTE = unary(pb.ExecuteRequest, pb.ExecuteResponse, idempotent=True)
# Model and version.
Header: TypeAlias = tuple[str, str]
Execute: TypeAlias = CoalescedMethod[BatchCall[Header], BatchReply[pb.ExecuteResponse]]
# How much later than its callers hop gives up a call whose callers limit its time themselves.
_SLACK_S = 1.0


class ModelRunner:
    """A model stage: columns have the model's names in the call, and the pipeline's names in the result."""

    service = "executor"
    # A release may partition rows by key; then each row says which replica of the executor it should go to.
    by_replica = True

    def __init__(self, stage: ModelStage, execute: Execute) -> None:
        self._stage = stage
        self._execute = execute
        self._header = (stage.model, stage.version)
        self._wanted = Declared({name: output.type for name, output in stage.outputs.items()})

    def run(self, batch: Batch) -> Coroutine[Any, Any, StageResult]:
        """As `StageRunner.run`."""
        return run_by_replica(batch, self._run) if REPLICA in batch.columns else self._run(batch, None)

    async def _run(self, batch: Batch, replica: int | None) -> StageResult:
        stage = self._stage
        inputs = {name: batch.columns[column].renamed(name) for name, column in stage.inputs.items()}
        reply = await self._execute(BatchCall(self._header, Batch(batch.rows, inputs)), replica)
        columns = columns_of(stage.name, reply.batch, self._wanted, len(batch.rows.request_ids))
        ran = reply.response
        used = ModelUse(
            stage.name, stage.model, ran.version, ran.sha256, ran.backend, ran.standby, ran.cold_start
        )
        return StageResult(
            [c.renamed(stage.outputs[c.name].column) for c in columns],
            errors=reply.batch.errors,
            timings=reply.batch.timings,
            fallbacks=self._standby_rows(reply.batch) if used.standby else {},
            models=[used],
            attributes=_attributes(used),
        )

    def _standby_rows(self, batch: Batch) -> dict[str, Mask]:
        """The rows that a standby answered, as a fallback."""
        answered = np.ones(len(batch), bool)
        answered[list(batch.errors)] = False
        return {f"model/{self._stage.name}:standby": answered} if answered.any() else {}


def _attributes(used: ModelUse) -> dict[str, str]:
    found = {"model.name": used.model, "model.version": used.version, "backend": used.backend}
    if used.standby:
        found["standby"] = "true"
    if used.cold_start:
        found["cold_start"] = "true"
    return found


class _OptionalCodec(ColumnCodec[Header, pb.ExecuteRequest, pb.ExecuteResponse]):
    """For models without which a stage can answer, and whose time the stage itself limits.

    A model that fails all its rows says nothing of its replica. Counted as failures of the replica, they would open the
    breaker, and so stop the model that the stage can't do without.
    """

    __slots__ = ()

    def failed(self, results: Sequence[BatchReply[pb.ExecuteResponse]]) -> float:  # noqa: ARG002 - whatever they are
        return 0.0

    def describe(self, item: BatchCall[Header]) -> ItemDescription:
        """Later than the rows' own deadline: their caller gives up in time, and a call that hop gave up would count as failed."""
        key, tenant, rows, size, deadline, priority = ColumnCodec.describe(self, item)
        return key, tenant, rows, size, deadline + _SLACK_S, priority


def executes(client: Client) -> tuple[Execute, Execute]:
    """The executor's call for models that a stage needs, and for those without which it can answer."""
    codec: ColumnCodec[Header, pb.ExecuteRequest, pb.ExecuteResponse]
    codec = ColumnCodec(_request, callee=client.callee)
    optional = _OptionalCodec(_request, callee=client.callee)
    return client.coalesced(EXECUTE, codec), client.coalesced(EXECUTE, optional)


def _request(header: Header) -> pb.ExecuteRequest:
    return pb.ExecuteRequest(model=header[0], version=header[1])


def _connect(client: Client, settings: Settings, clock: Callable[[], float]) -> RunnerFactory:  # noqa: ARG001 - needs neither
    codec: ColumnCodec[Header, pb.ExecuteRequest, pb.ExecuteResponse] = ColumnCodec(
        _request, callee=client.callee
    )
    execute = client.coalesced(EXECUTE, codec)
    return lambda stage: ModelRunner(stage, execute)


MODEL = RunnerKind("model", "executor", _connect)
