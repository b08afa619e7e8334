"""The executor's calls for operators, over hop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headrace.api.executor.v1 import executor_pb2
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault
from headrace.pipeline import IndexedModel, read_index
from services.router.ports import LoadedModel

INDEX = unary(executor_pb2.IndexModelsRequest, executor_pb2.IndexModelsResponse, idempotent=True)
LOAD = unary(executor_pb2.LoadModelRequest, executor_pb2.LoadModelResponse, idempotent=False, lengthy=True)
UNLOAD = unary(
    executor_pb2.UnloadModelRequest, executor_pb2.UnloadModelResponse, idempotent=False, lengthy=True
)

Reply = TypeVar("Reply")
Read = TypeVar("Read")


class HopExecutorReplicas:
    """Implements `ports.ExecutorReplicas`."""

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


class HopReplicas:
    """Implements `ports.Replicas`. `clock`: monotonic seconds."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock

    def healthy(self) -> dict[str, int]:
        return {r.address: r.index for r in self._client.replicas.healthy(self._clock())}


def _each(replies: list[Reply | Fault], read: Callable[[Reply], Read]) -> list[Read | Fault]:
    return [reply if isinstance(reply, Fault) else read(reply) for reply in replies]


def _loaded(message: executor_pb2.Model) -> LoadedModel:
    return LoadedModel(
        message.name,
        message.version,
        message.sha256,
        message.active_backend or message.backend,
        message.device,
    )
