"""Explanations as the monitoring service takes them, and the predictions that it wants them of."""

from __future__ import annotations

import time
from collections.abc import Sequence

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.api.monitoring.v1.facts_pb2 import ReportRequest
from headrace.columns import decode
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from services.router.explanations.pieces import Explained
from services.router.explanations.reports import Report
from services.router.explanations.stored import Predictions, Source
from services.router.explanations.subject import Subject

NEXT = unary(pb.NextPredictionsRequest, pb.NextPredictionsResponse, idempotent=True, lengthy=True)
_CALL_S = 60.0


def source(client: Client) -> Source:
    """What monitoring says."""
    call = client.unary(NEXT)

    async def ask(subjects: Sequence[Subject]) -> Sequence[Predictions]:
        request = pb.NextPredictionsRequest(demands=[_demand(subject) for subject in subjects])
        reply = await call(request, deadline=time.monotonic() + _CALL_S)
        return [
            Predictions(p.pipeline, p.revision, p.prediction_ids, decode(p.batch)) for p in reply.predictions
        ]

    return ask


def _demand(subject: Subject) -> pb.ExplanationDemand:
    pipeline = subject.pipeline
    assert pipeline.explanations is not None, "its document demands explanations"
    return pb.ExplanationDemand(
        pipeline=pipeline.name,
        revision=pipeline.revision,
        coverage=pipeline.explanations.coverage,
        columns=subject.reads,
    )


def write(report: Report) -> ReportRequest:
    """A report of them alone."""
    message = pb.ExplanationReport(
        explanations=[_explanation(e) for e in report.explained], number=report.number
    )
    for (tenant, pipeline), (count, took) in report.works.items():
        message.works.add(
            tenant=tenant,
            pipeline=pipeline,
            explanation_count=count,
            row_count=took.rows,
            busy_us=took.busy_us,
        )
    return ReportRequest(explanations=message)


def _explanation(explained: Explained) -> pb.Explanation:
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
