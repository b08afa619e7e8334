"""Explanations as the monitoring service takes them."""

from __future__ import annotations

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.api.monitoring.v1.facts_pb2 import ReportRequest
from services.router.explanations.pieces import Explained
from services.router.explanations.reports import Report


def write(report: Report) -> ReportRequest:
    """A report of them alone."""
    message = pb.ExplanationReport(
        explanations=[_explanation(e) for e in report.explained], number=report.number
    )
    for pipeline, count in report.counts.demanded.items():
        message.demanded.add(pipeline=pipeline, prediction_count=count)
    for (tenant, pipeline), (count, took) in report.counts.took.items():
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
