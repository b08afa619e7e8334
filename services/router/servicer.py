"""RouterService: messages → domain → messages."""

from __future__ import annotations

import time

from headrace.api.router.v1 import explain_pb2
from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import wire
from headrace.hop.call import Call
from headrace.pipeline import write_index, write_model_uses
from services.router import errors
from services.router.events.ring import Notes
from services.router.explanations.asked.servicer import ExplainServicer
from services.router.inference import Inference
from services.router.operations.clients import ModelOperations
from services.router.pipelines import Pipelines


class RouterServicer:
    """Serves headrace.api.router.v1.RouterService."""

    def __init__(
        self,
        inference: Inference,
        pipelines: Pipelines,
        models: ModelOperations,
        explanations: ExplainServicer,
        notes: Notes | None = None,
    ) -> None:
        """`notes`: numbers the events; None: nobody is told of them."""
        self._inference = inference
        self._explanations = explanations
        self._pipelines = pipelines
        self._models = models
        self._notes = notes

    async def Infer(self, request: pb.InferRequest, call: Call) -> pb.InferResponse:
        batch = wire.read_request(request, call, time.monotonic())
        result = await self._inference.infer(request.pipeline, request.version, batch)
        reply = pb.InferResponse(fallbacks=result.fallbacks)
        if (notes := self._notes) is not None:
            reply.event_epoch, reply.event_sequence = notes.epoch, notes.noted
        wire.write_reply(reply, result.batch, call, time.monotonic())
        for decision in result.decisions:
            added = reply.decisions.add(
                version=decision.version,
                revision=decision.revision,
                route=decision.route,
                rule=decision.rule,
                release=decision.release,
                sticky=decision.sticky,
            )
            write_model_uses(decision.models, added.models)
        return reply

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:  # noqa: ARG002 - no fields
        return pb.ListPipelinesResponse(
            pipelines=[
                pb.PipelineVersion(
                    name=s.pipeline.name,
                    version=s.pipeline.version,
                    revision=s.pipeline.revision,
                    release=s.release,
                )
                for s in self._pipelines.list()
            ]
        )

    async def IndexModels(self, request: pb.IndexModelsRequest, call: Call) -> pb.IndexModelsResponse:  # noqa: ARG002 - no fields
        _check_operator(call)
        reply = pb.IndexModelsResponse()
        write_index(await self._models.index(call.deadline), reply.models)
        return reply

    async def LoadModel(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:
        _check_operator(call)
        loaded = await self._models.load(request.model, request.version, request.operator, call.deadline)
        return pb.LoadModelResponse(
            model=loaded.name,
            version=loaded.version,
            sha256=loaded.sha256,
            backend=loaded.active_backend or loaded.backend,
            device=loaded.device,
        )

    async def UnloadModel(self, request: pb.UnloadModelRequest, call: Call) -> pb.UnloadModelResponse:
        _check_operator(call)
        gone = await self._models.unload(request.model, request.version, request.operator, call.deadline)
        return pb.UnloadModelResponse(versions=gone)

    async def Explain(self, request: explain_pb2.ExplainRequest, call: Call) -> explain_pb2.ExplainResponse:
        return await self._explanations.Explain(request, call)


def _check_operator(call: Call) -> None:
    if not call.peer.trusted:
        raise errors.operators_only()
