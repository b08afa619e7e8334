"""Reports as messages of monitoring's contract."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.api.monitoring.v1 import shadow_pb2 as pb
from headrace.comparison.report import ComparisonReport

_QUANTILES = (0.5, 0.9, 0.99, 1.0)


def write_report(report: ComparisonReport, message: pb.ShadowReport) -> None:
    """Writes what was counted into a message."""
    message.both_answered_count, message.both_failed_count = report.both_answered, report.both_failed
    message.shadow_failed_count, message.live_failed_count = report.shadow_failed, report.live_failed
    message.shadow_errors.update(report.errors)
    for name, output in report.outputs.items():
        added = message.outputs.add(
            name=name, data_type=output.dtype, row_count=output.rows, equal_count=output.equal
        )
        added.live_true_count, added.shadow_true_count = output.live_true, output.shadow_true
        added.deltas.CopyFrom(quantiles(output.deltas))
    for row in report.worst:
        different = message.worst.add(
            prediction_id=row.prediction_id, score=row.score, shadow_error=row.error
        )
        for name, live, shadow in row.values:
            different.values.add(output=name, live=live, shadow=shadow)


def quantiles(parts: Sequence[NDArray[np.float64]]) -> pb.Quantiles:
    """Exact ones, each a value that is there, of the values of all parts, of which none is NaN."""
    values = np.concatenate([*parts, np.array([], np.float64)])
    if not len(values):
        return pb.Quantiles()
    p50, p90, p99, most = np.quantile(values, _QUANTILES, method="inverted_cdf").tolist()
    return pb.Quantiles(value_count=len(values), p50=p50, p90=p90, p99=p99, max=most)
