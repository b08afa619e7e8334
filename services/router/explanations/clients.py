"""The monitoring service's explanations, over hop."""

from __future__ import annotations

import time

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from services.router.explanations.pieces import Explained
from services.router.explanations.reports import Report

RECORD = unary(pb.RecordExplanationsRequest, pb.RecordExplanationsResponse, idempotent=True)
_CALL_S = 5.0


class HopExplanations:
    """Implements `reports.Receiver`."""

    def __init__(self, client: Client) -> None:
        self._record = client.unary(RECORD)

    async def record(self, report: Report) -> None:
        request = pb.RecordExplanationsRequest(explanations=[_message(e) for e in report.explained])
        if report.counts is not None:
            request.works_id = report.counts.identity
            for pipeline, count in report.counts.demanded.items():
                request.demanded.add(pipeline=pipeline, prediction_count=count)
            for (tenant, pipeline), (count, took) in report.counts.took.items():
                request.works.add(
                    tenant=tenant,
                    pipeline=pipeline,
                    explanation_count=count,
                    row_count=took.rows,
                    busy_us=took.busy_us,
                )
        await self._record(request, deadline=time.monotonic() + _CALL_S)


def _message(explained: Explained) -> pb.Explanation:
    subject, found = explained.subject, explained.found
    return pb.Explanation(
        prediction_id=explained.row.seed,
        tenant=explained.row.tenant,
        pipeline=subject.pipeline.name,
        revision=subject.pipeline.revision,
        arm=subject.arm,
        output=subject.output,
        base=found.base,
        value=found.value,
        exact=found.exact,
        columns=subject.players,
        contributions=found.values.tolist(),
        standard_errors=found.errors.tolist(),
        base_sources=subject.sources,
    )
