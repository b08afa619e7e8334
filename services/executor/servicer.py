"""ExecutorService: converts messages to batches and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import Batch, encode, wire
from headrace.hop.call import LOCAL_PEER, Call
from headrace.repository import TensorSpec
from services.executor import errors
from services.executor.lifecycle.models import Models
from services.executor.lifecycle.versions import LoadedVersion, VersionStatus


class ExecutorServicer:
    """Serves headrace.api.executor.v1.ExecutorService."""

    def __init__(self, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._clock = clock

    async def Execute(self, request: pb.ExecuteRequest, call: Call) -> pb.ExecuteResponse:
        received = self._clock()
        batch = wire.read_request(request, call, received)
        done = await self._models.execute(request.model, request.version, batch, received)
        reply = pb.ExecuteResponse(
            version=done.version,
            sha256=done.sha256,
            backend=done.backend,
            standby=done.standby,
            cold_start=done.cold_start,
        )
        wire.write_reply(reply, done.batch, call, self._clock())
        return reply

    async def call_serialized(self, model: str, version: str, batch: Batch) -> None:
        """A call from the request's bytes to the reply's bytes, as hop makes it. For warm-up."""
        raw = pb.ExecuteRequest(model=model, version=version, batch=encode(batch)).SerializeToString()
        reply = await self.Execute(pb.ExecuteRequest.FromString(raw), Call("", LOCAL_PEER))
        reply.SerializeToString()

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:  # noqa: ARG002 - hop's form
        return pb.ListModelsResponse(models=[_model(entry) for entry in self._models.all()])

    async def IndexModels(self, request: pb.IndexModelsRequest, call: Call) -> pb.IndexModelsResponse:  # noqa: ARG002 - hop's form
        _check_operator(call)
        return pb.IndexModelsResponse(models=[_indexed(listed) for listed in await self._models.index()])

    async def LoadModel(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:
        _check_operator(call)
        entry = await self._models.load(request.model, request.version, request.operator)
        return pb.LoadModelResponse(model=_model(entry))

    async def UnloadModel(self, request: pb.UnloadModelRequest, call: Call) -> pb.UnloadModelResponse:
        _check_operator(call)
        gone = await self._models.unload(request.model, request.version, request.operator)
        return pb.UnloadModelResponse(versions=gone)


def _check_operator(call: Call) -> None:
    if not call.peer.trusted:
        raise errors.operators_only()


def _model(entry: LoadedVersion) -> pb.Model:
    about, runner = entry.metadata, entry.runner
    message = pb.Model(
        name=about.name,
        version=about.version,
        sha256=about.sha256,
        backend=about.backend,
        inputs=_tensors(about.inputs),
        outputs=_tensors(about.outputs),
        state=_state(entry),
    )
    if runner is not None:
        group = runner.model.group
        message.active_backend = group.active.backend.name
        message.standby = group.on_standby
        message.device = group.active.backend.capabilities.device
        message.memory_bytes = runner.model.memory_bytes
    return message


def _state(entry: LoadedVersion) -> pb.ModelState:
    return pb.MODEL_STATE_ASLEEP if entry.runner is None else pb.MODEL_STATE_ACTIVE


def _indexed(listed: VersionStatus) -> pb.IndexedModel:
    state, progress = pb.MODEL_STATE_UNLOADED, ""
    if listed.entry is not None:
        state = _state(listed.entry)
    elif listed.loading is not None:
        state, progress = pb.MODEL_STATE_LOADING, listed.loading.progress
    elif listed.problem:
        progress = f"in quarantine: {listed.problem}"
    return pb.IndexedModel(name=listed.model, version=listed.version, state=state, progress=progress)


def _tensors(specs: Sequence[TensorSpec]) -> list[pb.Tensor]:
    return [pb.Tensor(name=s.name, data_type=int(s.dtype), row_shape=s.row_shape) for s in specs]  # type: ignore[arg-type]  # same numbers
