"""headrace.api.operations.v1.OperationsService, for operators."""

from __future__ import annotations

import math
from collections.abc import Callable

from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.comparison.messages import write_report
from services.ingress.documents.catalog import require
from services.ingress.oip.repository import SCOPE
from services.ingress.oip.service import proven
from services.ingress.ports import ShadowReports
from services.ingress.request_context import RequestContext

_REPORT_S = 10.0


class OperationsServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault. `clock`: monotonic seconds."""

    def __init__(self, shadows: ShadowReports, clock: Callable[[], float]) -> None:
        self._shadows = shadows
        self._clock = clock

    async def GetShadowReport(
        self, request: pb.GetShadowReportRequest, context: RequestContext
    ) -> pb.GetShadowReportResponse:
        require(proven(context), SCOPE)
        deadline = context.deadline if context.deadline < math.inf else self._clock() + _REPORT_S
        found = await self._shadows.reports(request.pipeline, deadline)
        reply = pb.GetShadowReportResponse(router_count=found.routers, silent_router_count=found.silent)
        for report in found.reports:
            write_report(report, reply.reports.add())
        return reply
