"""headrace.api.operations.v1.OperationsService, for operators: asked of the monitoring service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from headrace.api.monitoring.v1 import monitoring_pb2, shadow_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.auth.operators import operated
from services.ingress.request_context import RequestContext

T = TypeVar("T")
SHADOWS = unary(
    shadow_pb2.GetShadowReportRequest,
    shadow_pb2.GetShadowReportResponse,
    idempotent=True,
    file=monitoring_pb2.DESCRIPTOR,
)
ROLLOUT = unary(monitoring_pb2.GetRolloutRequest, monitoring_pb2.GetRolloutResponse, idempotent=True)
EXPERIMENT = unary(
    monitoring_pb2.ReadExperimentRequest, monitoring_pb2.ReadExperimentResponse, idempotent=True
)
# As long as monitoring gives a question by default (`events.question_s`).
_REPORT_S, _QUESTION_S = 10.0, 30.0


class OperationsServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault.

    `monitoring` None: this installation has no monitoring service.
    """

    def __init__(self, monitoring: Client | None) -> None:
        self._shadows = monitoring.unary(SHADOWS) if monitoring else None
        self._rollout = monitoring.each(ROLLOUT) if monitoring else None
        self._experiment = monitoring.unary(EXPERIMENT) if monitoring else None

    async def GetShadowReport(
        self, request: pb.GetShadowReportRequest, context: RequestContext
    ) -> pb.GetShadowReportResponse:
        pipeline = operated(request.pipeline, context)
        asked = shadow_pb2.GetShadowReportRequest(pipeline=pipeline)
        if request.HasField("begin_time"):
            asked.begin_time.CopyFrom(request.begin_time)
        found = await _there(self._shadows)(asked, deadline=context.deadline_within(_QUESTION_S))
        return pb.GetShadowReportResponse(shadow=found)

    async def GetRollout(
        self, request: pb.GetRolloutRequest, context: RequestContext
    ) -> pb.GetRolloutResponse:
        """Every replica gathers counts, and the one with the lease judges."""
        asked = monitoring_pb2.GetRolloutRequest(pipeline=operated(request.pipeline, context))
        answers = await _there(self._rollout)(asked, deadline=context.deadline_within(_REPORT_S))
        found = max(_good(answers), key=lambda answer: (answer.leads, answer.release))
        return pb.GetRolloutResponse(rollout=found)

    async def ReadExperiment(
        self, request: pb.ReadExperimentRequest, context: RequestContext
    ) -> pb.ReadExperimentResponse:
        asked = monitoring_pb2.ReadExperimentRequest(pipeline=operated(request.pipeline, context))
        found = await _there(self._experiment)(asked, deadline=context.deadline_within(_REPORT_S))
        return pb.ReadExperimentResponse(experiment=found)


def _there(call: T | None) -> T:
    if call is None:
        message = "this installation has no monitoring service; set `monitoring`"
        raise Fault(Code.FAILED_PRECONDITION, Reason.REASON_METHOD_UNKNOWN, message)
    return call


def _good(answers: Sequence[T | Fault]) -> list[T]:
    """The answers of replicas that answered. Raises Fault: none did."""
    good = [a for a in answers if not isinstance(a, Fault)]
    if not good:
        raise next(a for a in answers if isinstance(a, Fault))
    return good
