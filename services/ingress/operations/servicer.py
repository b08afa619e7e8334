"""headrace.api.operations.v1.OperationsService, for operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.comparison.messages import write_report
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.documents.catalog import has_scope, require
from services.ingress.oip.repository import SCOPE
from services.ingress.ports import ShadowReports
from services.ingress.releases.faults import check_name
from services.ingress.request_context import RequestContext

_REPORT_S = 10.0


class Analysis(Protocol):
    """What the monitoring service says of rollouts and experiments. `deadline`: monotonic seconds. Raises Fault."""

    async def rollout(self, pipeline: str, deadline: float) -> monitoring_pb2.GetRolloutResponse: ...
    async def experiment(self, pipeline: str, deadline: float) -> monitoring_pb2.ReadExperimentResponse: ...


class OperationsServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault.

    `analysis` None: this installation has no monitoring service. `clock`: monotonic seconds.
    """

    def __init__(self, shadows: ShadowReports, analysis: Analysis | None, clock: Callable[[], float]) -> None:
        self._shadows = shadows
        self._analysis = analysis
        self._clock = clock

    async def GetShadowReport(
        self, request: pb.GetShadowReportRequest, context: RequestContext
    ) -> pb.GetShadowReportResponse:
        credential = context.caller
        require(credential, SCOPE, request.pipeline or None)
        found = await self._shadows.reports(request.pipeline, self._deadline(context))
        reply = pb.GetShadowReportResponse(router_count=found.routers, silent_router_count=found.silent)
        for report in (r for r in found.reports if has_scope(credential, SCOPE, r.pipeline)):
            write_report(report, reply.reports.add())
        return reply

    async def GetRollout(
        self, request: pb.GetRolloutRequest, context: RequestContext
    ) -> pb.GetRolloutResponse:
        analysis = self._asked(request.pipeline, context)
        found = await analysis.rollout(request.pipeline, self._deadline(context))
        return pb.GetRolloutResponse(rollout=found)

    async def ReadExperiment(
        self, request: pb.ReadExperimentRequest, context: RequestContext
    ) -> pb.ReadExperimentResponse:
        analysis = self._asked(request.pipeline, context)
        found = await analysis.experiment(request.pipeline, self._deadline(context))
        return pb.ReadExperimentResponse(experiment=found)

    def _asked(self, pipeline: str, context: RequestContext) -> Analysis:
        credential = context.caller
        require(credential, SCOPE)
        context.pipeline = check_name("pipeline", pipeline)
        require(credential, SCOPE, pipeline)
        if self._analysis is None:
            raise Fault(
                Code.FAILED_PRECONDITION,
                Reason.REASON_METHOD_UNKNOWN,
                "this installation has no monitoring service; set `monitoring`",
            )
        return self._analysis

    def _deadline(self, context: RequestContext) -> float:
        return context.deadline if context.deadline < math.inf else self._clock() + _REPORT_S
