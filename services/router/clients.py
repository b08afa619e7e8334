"""The router's ports over hop: calls of different batches that wait at the same time share a message."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

from headrace.api.batch.v1 import batch_pb2
from headrace.api.executor.v1 import executor_pb2
from headrace.api.features.v1 import features_pb2
from headrace.api.postprocessing.v1 import postprocessing_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2
from headrace.columns import Batch, decode, encode_into
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop.client.dial import Client, UnaryCall
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.method import Method, unary
from headrace.pipeline import IndexedModel, StepsStage, read_index
from services.router.ports import Execution, LoadedModel, Rules

TRANSFORM = unary(
    preprocessing_pb2.DESCRIPTOR,
    "PreprocessingService",
    "Transform",
    preprocessing_pb2.TransformRequest,
    preprocessing_pb2.TransformResponse,
    idempotent=True,
)
FORMAT = unary(
    postprocessing_pb2.DESCRIPTOR,
    "PostprocessingService",
    "Format",
    postprocessing_pb2.FormatRequest,
    postprocessing_pb2.FormatResponse,
    idempotent=True,
)
GET_FEATURES = unary(
    features_pb2.DESCRIPTOR,
    "FeaturesService",
    "GetFeatures",
    features_pb2.GetFeaturesRequest,
    features_pb2.GetFeaturesResponse,
    idempotent=True,
)
EXECUTE = unary(
    executor_pb2.DESCRIPTOR,
    "ExecutorService",
    "Execute",
    executor_pb2.ExecuteRequest,
    executor_pb2.ExecuteResponse,
    idempotent=True,
)

INDEX = unary(
    executor_pb2.DESCRIPTOR,
    "ExecutorService",
    "IndexModels",
    executor_pb2.IndexModelsRequest,
    executor_pb2.IndexModelsResponse,
    idempotent=True,
)
LOAD = unary(
    executor_pb2.DESCRIPTOR,
    "ExecutorService",
    "LoadModel",
    executor_pb2.LoadModelRequest,
    executor_pb2.LoadModelResponse,
    idempotent=False,
    lengthy=True,
)
UNLOAD = unary(
    executor_pb2.DESCRIPTOR,
    "ExecutorService",
    "UnloadModel",
    executor_pb2.UnloadModelRequest,
    executor_pb2.UnloadModelResponse,
    idempotent=False,
    lengthy=True,
)

Reply = TypeVar("Reply")
Answer = TypeVar("Answer")
Req = TypeVar("Req", preprocessing_pb2.TransformRequest, postprocessing_pb2.FormatRequest)
Resp = TypeVar("Resp", preprocessing_pb2.TransformResponse, postprocessing_pb2.FormatResponse)
_ModelHeader: TypeAlias = tuple[str, str]
_FeaturesHeader: TypeAlias = tuple[str, Rules]


class HopFeatures:
    """The features service."""

    def __init__(self, client: Client) -> None:
        codec: ColumnCodec[_FeaturesHeader, features_pb2.GetFeaturesRequest, features_pb2.GetFeaturesResponse]
        codec = ColumnCodec(_features_request, callee=client.callee)
        self._call = client.coalesced(GET_FEATURES, codec)

    async def get(self, feature_service: str, rules: Rules, batch: Batch) -> Batch:
        reply = await self._call(BatchCall((feature_service, rules), batch))
        return reply.batch


class HopExecutor:
    """The executor."""

    def __init__(self, client: Client) -> None:
        codec: ColumnCodec[_ModelHeader, executor_pb2.ExecuteRequest, executor_pb2.ExecuteResponse]
        codec = ColumnCodec(_execute_request, callee=client.callee)
        self._call = client.coalesced(EXECUTE, codec)

    async def execute(self, model: str, version: str, batch: Batch) -> Execution:
        reply = await self._call(BatchCall((model, version), batch))
        told = reply.response
        return Execution(reply.batch, told.version, told.sha256, told.backend, told.standby, told.cold_start)


class HopSteps(Generic[Req, Resp]):
    """The preprocessing or postprocessing service.

    Steps go by their hash, and in full to a callee that has not seen them (a new replica, one that forgot).
    """

    def __init__(self, client: Client, method: Method[Req, Resp]) -> None:
        request: type[Req] = method.request
        codec: ColumnCodec[str, Req, Resp] = ColumnCodec(
            lambda digest: request(spec_sha256=digest), callee=client.callee
        )
        self._request: type[Req] = request
        self._by_hash: Callable[[BatchCall[str]], Coroutine[Any, Any, BatchReply[Resp]]]
        self._by_hash = client.coalesced(method, codec)
        self._in_full: UnaryCall[Req, Resp] = client.unary(method)

    async def run(self, stage: StepsStage, batch: Batch) -> Batch:
        try:
            reply = await self._by_hash(BatchCall(stage.spec_sha256, batch))
        except Fault as fault:
            if fault.code is not Code.FAILED_PRECONDITION or fault.reason != Reason.REASON_SPEC_UNKNOWN:
                raise
        else:
            return reply.batch
        request = self._request(spec_sha256=stage.spec_sha256, spec=stage.spec_json)
        encode_into(request.batch, batch)
        response = await self._in_full(request, deadline=max(batch.rows.deadlines))
        return _decoded(response.batch)


class HopOperators:
    """Implements `ports.Operators`."""

    def __init__(self, client: Client) -> None:
        self._index = client.each(INDEX)
        self._load = client.each(LOAD)
        self._unload = client.each(UNLOAD)

    async def index(self, deadline: float) -> list[list[IndexedModel] | Fault]:
        replies = await self._index(executor_pb2.IndexModelsRequest(), deadline=deadline)
        return _each(replies, lambda reply: read_index(reply.models))

    async def load(
        self, model: str, version: str, operator: str, deadline: float
    ) -> list[LoadedModel | Fault]:
        request = executor_pb2.LoadModelRequest(model=model, version=version, operator=operator)
        return _each(await self._load(request, deadline=deadline), lambda reply: _loaded(reply.model))

    async def unload(
        self, model: str, version: str, operator: str, deadline: float
    ) -> list[list[str] | Fault]:
        request = executor_pb2.UnloadModelRequest(model=model, version=version, operator=operator)
        return _each(await self._unload(request, deadline=deadline), lambda reply: list(reply.versions))


def _decoded(message: batch_pb2.Batch) -> Batch:
    try:
        return decode(message)
    except Fault as fault:
        # It is malformed, but not by our caller.
        text = f"the reply is malformed: {fault.message}"
        raise Fault(Code.INTERNAL, Reason.REASON_INTERNAL, text, metadata=fault.metadata) from fault


def _features_request(header: _FeaturesHeader) -> features_pb2.GetFeaturesRequest:
    request = features_pb2.GetFeaturesRequest(feature_service=header[0])
    for view, max_age_us, stale_us in header[1]:
        request.rules.add(view=view, max_age_us=max_age_us, stale_us=stale_us)
    return request


def _execute_request(header: _ModelHeader) -> executor_pb2.ExecuteRequest:
    return executor_pb2.ExecuteRequest(model=header[0], version=header[1])


def _each(replies: list[Reply | Fault], read: Callable[[Reply], Answer]) -> list[Answer | Fault]:
    return [reply if isinstance(reply, Fault) else read(reply) for reply in replies]


def _loaded(message: executor_pb2.Model) -> LoadedModel:
    return LoadedModel(
        message.name,
        message.version,
        message.sha256,
        message.active_backend or message.backend,
        message.device,
    )
