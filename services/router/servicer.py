"""RouterService: messages → domain → messages."""

from __future__ import annotations

import time

from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import carrying
from headrace.hop.call import Call
from headrace.pipeline import write_index, write_model_uses
from services.router import errors
from services.router.inference import Inferring
from services.router.operations.models import Operating
from services.router.pipelines import Pipelines


class RouterServicer:
    """Serves headrace.api.router.v1.RouterService."""

    def __init__(self, inferring: Inferring, pipelines: Pipelines, operating: Operating) -> None:
        self._inferring = inferring
        self._pipelines = pipelines
        self._operating = operating

    async def Infer(self, request: pb.InferRequest, call: Call) -> pb.InferResponse:
        batch = carrying.received(request, call, time.monotonic())
        answer = await self._inferring.infer(request.pipeline, request.version, batch)
        reply = pb.InferResponse(fallbacks=answer.fallbacks)
        carrying.answer(reply, answer.batch, call, time.monotonic())
        for decision in answer.decisions:
            added = reply.decisions.add(
                version=decision.version, revision=decision.revision, route=decision.route
            )
            write_model_uses(decision.models, added.models)
        return reply

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:  # noqa: ARG002 - no fields
        return pb.ListPipelinesResponse(
            pipelines=[
                pb.PipelineVersion(name=p.name, version=p.version, revision=p.revision)
                for p in self._pipelines.list()
            ]
        )

    async def IndexModels(self, request: pb.IndexModelsRequest, call: Call) -> pb.IndexModelsResponse:  # noqa: ARG002 - no fields
        _check_operator(call)
        reply = pb.IndexModelsResponse()
        write_index(await self._operating.index(call.deadline), reply.models)
        return reply

    async def LoadModel(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:
        _check_operator(call)
        loaded = await self._operating.load(request.model, request.version, request.operator, call.deadline)
        return pb.LoadModelResponse(
            model=loaded.name,
            version=loaded.version,
            sha256=loaded.sha256,
            backend=loaded.backend,
            device=loaded.device,
        )

    async def UnloadModel(self, request: pb.UnloadModelRequest, call: Call) -> pb.UnloadModelResponse:
        _check_operator(call)
        gone = await self._operating.unload(request.model, request.version, request.operator, call.deadline)
        return pb.UnloadModelResponse(versions=gone)


def _check_operator(call: Call) -> None:
    if not call.peer.trusted:
        raise errors.operators_only()
