"""RouterService: messages → domain → messages."""

from __future__ import annotations

import time

from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import carrying
from headrace.hop.call import Call
from services.router.inferring import Decision, Inferring
from services.router.pipelines import Pipelines


class RouterServicer:
    """Serves headrace.api.router.v1.RouterService."""

    def __init__(self, inferring: Inferring, pipelines: Pipelines) -> None:
        self._inferring = inferring
        self._pipelines = pipelines

    async def Infer(self, request: pb.InferRequest, call: Call) -> pb.InferResponse:
        batch = carrying.received(request, call, time.monotonic())
        answer = await self._inferring.infer(request.pipeline, request.version, batch)
        reply = pb.InferResponse(fallbacks=answer.fallbacks)
        carrying.answer(reply, answer.batch, call, time.monotonic())
        for decision in answer.decisions:
            _add_decision(reply, decision)
        return reply

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:  # noqa: ARG002 - no fields
        return pb.ListPipelinesResponse(
            pipelines=[
                pb.PipelineVersion(name=p.name, version=p.version, revision=p.revision)
                for p in self._pipelines.list()
            ]
        )


def _add_decision(reply: pb.InferResponse, decision: Decision) -> None:
    added = reply.decisions.add(version=decision.version, revision=decision.revision, route=decision.route)
    for used in decision.models:
        added.models.add(stage=used.stage, model=used.model, version=used.version, sha256=used.sha256)
