"""`preprocessing` and `postprocessing` stages: a service runs the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from headrace.api.batch.v1 import batch_pb2
from headrace.api.postprocessing.v1 import postprocessing_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2
from headrace.columns import Batch, decode, encode_into
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop.call import Method, unary
from headrace.hop.client.dial import Client, UnaryCall
from headrace.hop.config import Settings
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import StepsStage
from services.router.stages.runner import Declared, RunnerFactory, RunnerKind, StageResult, columns_of

TRANSFORM = unary(preprocessing_pb2.TransformRequest, preprocessing_pb2.TransformResponse, idempotent=True)
FORMAT = unary(postprocessing_pb2.FormatRequest, postprocessing_pb2.FormatResponse, idempotent=True)
Req = TypeVar("Req", preprocessing_pb2.TransformRequest, postprocessing_pb2.FormatRequest)
Resp = TypeVar("Resp", preprocessing_pb2.TransformResponse, postprocessing_pb2.FormatResponse)


class StepsRunner(Generic[Req, Resp]):
    """A stage of steps. The steps are named by their hash, and sent in full to a callee that does not know them (a new
    replica, one that forgot them)."""

    def __init__(
        self,
        stage: StepsStage,
        request: type[Req],
        by_hash: Callable[[BatchCall[str]], Awaitable[BatchReply[Resp]]],
        in_full: UnaryCall[Req, Resp],
    ) -> None:
        self.service = stage.kind
        self._stage = stage
        self._wanted = Declared(stage.outputs)
        self._request: type[Req] = request
        self._by_hash: Callable[[BatchCall[str]], Awaitable[BatchReply[Resp]]] = by_hash
        self._in_full: UnaryCall[Req, Resp] = in_full

    async def run(self, batch: Batch) -> StageResult:
        stage = self._stage
        try:
            reply = (await self._by_hash(BatchCall(stage.spec_sha256, batch))).batch
        except Fault as fault:
            if fault.code is not Code.FAILED_PRECONDITION or fault.reason != Reason.REASON_SPEC_UNKNOWN:
                raise
            reply = await self._with_steps(batch)
        columns = columns_of(stage.name, reply, self._wanted, len(batch.rows.request_ids))
        return StageResult(columns, errors=reply.errors, timings=reply.timings)

    async def _with_steps(self, batch: Batch) -> Batch:
        request = self._request(spec_sha256=self._stage.spec_sha256, spec=self._stage.spec_json)
        encode_into(request.batch, batch)
        response = await self._in_full(request, deadline=max(batch.rows.deadlines))
        return _decoded(response.batch)


def _decoded(message: batch_pb2.Batch) -> Batch:
    try:
        return decode(message)
    except Fault as fault:
        # decode blames the caller (INVALID_ARGUMENT), but here the callee's reply is malformed.
        text = f"the reply is malformed: {fault.message}"
        raise Fault(Code.INTERNAL, Reason.REASON_INTERNAL, text, metadata=fault.metadata) from fault


def _kind(name: str, method: Method[Req, Resp]) -> RunnerKind:
    def connect(client: Client, settings: Settings, clock: Callable[[], float]) -> RunnerFactory:  # noqa: ARG001 - needs neither
        request: type[Req] = method.request
        codec: ColumnCodec[str, Req, Resp] = ColumnCodec(
            lambda digest: request(spec_sha256=digest), callee=client.callee
        )
        by_hash, in_full = client.coalesced(method, codec), client.unary(method)
        return lambda stage: StepsRunner(stage, request, by_hash, in_full)

    return RunnerKind(name, name, connect)


PREPROCESSING = _kind("preprocessing", TRANSFORM)
POSTPROCESSING = _kind("postprocessing", FORMAT)
