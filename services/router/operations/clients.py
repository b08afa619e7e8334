"""Loads and unloads models on every replica of the executor; the replies of the replicas become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault
from headrace.pipeline import IndexedModel, ModelState, read_index
from services.router import errors

INDEX = unary(pb.IndexModelsRequest, pb.IndexModelsResponse, idempotent=True)
LOAD = unary(pb.LoadModelRequest, pb.LoadModelResponse, idempotent=False, lengthy=True)
UNLOAD = unary(pb.UnloadModelRequest, pb.UnloadModelResponse, idempotent=False, lengthy=True)
Reply = TypeVar("Reply")
# The steps towards serving: of replicas whose states differ, the one that is furthest back counts.
_PROGRESS = (ModelState.UNLOADED, ModelState.LOADING, ModelState.ASLEEP, ModelState.ACTIVE)


class ModelOperations:
    """Loads and unloads models on every replica of the executor. Methods raise Fault; deadlines are monotonic seconds.

    `executor` None: the settings name none. `changed`: called after each load and unload, whatever came of it.
    """

    def __init__(self, executor: Client | None, changed: Callable[[], None] = lambda: None) -> None:
        self._index = executor.each(INDEX) if executor else _nowhere
        self._load = executor.each(LOAD) if executor else _nowhere
        self._unload = executor.each(UNLOAD) if executor else _nowhere
        self._changed = changed

    async def index(self, deadline: float) -> list[IndexedModel]:
        """Every version in the repository. Raises Fault only if no replica answers."""
        answers = await self._index(pb.IndexModelsRequest(), deadline=deadline)
        if not (good := [a for a in answers if not isinstance(a, Fault)]):
            raise next(a for a in answers if isinstance(a, Fault))
        merged: dict[tuple[str, str], IndexedModel] = {}
        for model in (m for answer in good for m in read_index(answer.models)):
            key = (model.name, model.version)
            if key not in merged or _PROGRESS.index(model.state) < _PROGRESS.index(merged[key].state):
                merged[key] = model
        return list(merged.values())

    async def load(self, model: str, version: str, operator: str, deadline: float) -> pb.Model:
        """The version that serves now on every replica. Raises the Fault of a replica that refused."""
        request = pb.LoadModelRequest(model=model, version=version, operator=operator)
        try:
            answers = await self._load(request, deadline=deadline)
        finally:
            self._changed()
        return _all(answers, lambda _: False)[0].model

    async def unload(self, model: str, version: str, operator: str, deadline: float) -> list[str]:
        """The versions that are gone from every replica. It is no failure that a replica had none loaded."""
        request = pb.UnloadModelRequest(model=model, version=version, operator=operator)
        try:
            answers = await self._unload(request, deadline=deadline)
        finally:
            self._changed()
        gone = _all(answers, lambda fault: fault.code is Code.NOT_FOUND)
        return list(dict.fromkeys(v for reply in gone for v in reply.versions))


async def _nowhere(_request: object, /, *, deadline: float) -> NoReturn:  # noqa: ARG001 - as `Client.each` has it
    raise errors.no_executor()


def _all(answers: Sequence[Reply | Fault], ignored: Callable[[Fault], bool]) -> list[Reply]:
    """The replies of all replicas. Raises the Fault of one that failed, unless another succeeded and it is `ignored`."""
    good = [a for a in answers if not isinstance(a, Fault)]
    bad = [a for a in answers if isinstance(a, Fault) and not (good and ignored(a))]
    if not bad:
        return good
    raise bad[0] if not good else errors.not_everywhere(bad[0], len(good), len(answers))
