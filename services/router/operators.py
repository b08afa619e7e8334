"""The executor's calls for operators over hop: they go to every replica, and may take minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.hop.dial import Client
from headrace.hop.errors import Fault
from headrace.hop.method import unary
from services.router.ports import IndexedModel, LoadedModel, ModelState

INDEX = unary(
    pb.DESCRIPTOR,
    "ExecutorService",
    "IndexModels",
    pb.IndexModelsRequest,
    pb.IndexModelsResponse,
    idempotent=True,
)
LOAD = unary(
    pb.DESCRIPTOR,
    "ExecutorService",
    "LoadModel",
    pb.LoadModelRequest,
    pb.LoadModelResponse,
    idempotent=False,
    lengthy=True,
)
UNLOAD = unary(
    pb.DESCRIPTOR,
    "ExecutorService",
    "UnloadModel",
    pb.UnloadModelRequest,
    pb.UnloadModelResponse,
    idempotent=False,
    lengthy=True,
)
_STATES = {
    pb.MODEL_STATE_UNLOADED: ModelState.UNLOADED,
    pb.MODEL_STATE_LOADING: ModelState.LOADING,
    pb.MODEL_STATE_ASLEEP: ModelState.ASLEEP,
    pb.MODEL_STATE_ACTIVE: ModelState.ACTIVE,
}
Reply = TypeVar("Reply")
Answer = TypeVar("Answer")


class HopOperators:
    """Implements `ports.Operators`."""

    def __init__(self, client: Client) -> None:
        self._index = client.each(INDEX)
        self._load = client.each(LOAD)
        self._unload = client.each(UNLOAD)

    async def index(self, deadline: float) -> list[list[IndexedModel] | Fault]:
        replies = await self._index(pb.IndexModelsRequest(), deadline=deadline)
        return _each(replies, lambda reply: [_indexed(m) for m in reply.models])

    async def load(
        self, model: str, version: str, operator: str, deadline: float
    ) -> list[LoadedModel | Fault]:
        request = pb.LoadModelRequest(model=model, version=version, operator=operator)
        return _each(await self._load(request, deadline=deadline), lambda reply: _loaded(reply.model))

    async def unload(
        self, model: str, version: str, operator: str, deadline: float
    ) -> list[list[str] | Fault]:
        request = pb.UnloadModelRequest(model=model, version=version, operator=operator)
        return _each(await self._unload(request, deadline=deadline), lambda reply: list(reply.versions))


def _each(replies: list[Reply | Fault], read: Callable[[Reply], Answer]) -> list[Answer | Fault]:
    return [reply if isinstance(reply, Fault) else read(reply) for reply in replies]


def _indexed(message: pb.IndexedModel) -> IndexedModel:
    state = _STATES.get(message.state, ModelState.UNLOADED)
    return IndexedModel(message.name, message.version, state, message.progress)


def _loaded(message: pb.Model) -> LoadedModel:
    return LoadedModel(
        message.name,
        message.version,
        message.sha256,
        message.active_backend or message.backend,
        message.device,
    )
