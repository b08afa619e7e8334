"""Reports as messages of the router's contract, and back."""

from __future__ import annotations

from datetime import UTC

from headrace.api.router.v1 import shadow_pb2 as pb
from headrace.columns import decode
from headrace.columns.column import BY_NUMBER, DType
from headrace.columns.wire import encode_into
from headrace.comparison.report import ComparisonReport, OutputComparison
from headrace.comparison.sketch import QuantileSketch
from headrace.comparison.worst import DifferentRow
from headrace.hop.errors import Fault


def write_report(report: ComparisonReport, message: pb.ShadowReport) -> None:
    """Writes the report into an empty message."""
    message.pipeline, message.release = report.pipeline, report.release
    message.arm, message.against, message.epoch = report.arm, report.against, report.epoch
    message.began_time.FromDatetime(report.began)
    message.both_answered_count, message.both_failed_count = report.both_answered, report.both_failed
    message.shadow_failed_count, message.live_failed_count = report.shadow_failed, report.live_failed
    _write_sketch(report.live_seconds, message.live_seconds)
    _write_sketch(report.shadow_seconds, message.shadow_seconds)
    message.dropped_rows.update(report.dropped)
    message.shadow_errors.update(report.errors)
    for name, output in report.outputs.items():
        added = message.outputs.add(
            name=name, data_type=output.dtype, row_count=output.rows, equal_count=output.equal
        )
        added.live_true_count, added.shadow_true_count = output.live_true, output.shadow_true
        _write_sketch(output.deltas, added.deltas)
    for row in report.worst.sorted():
        _write_row(row, message.worst.add())


def read_report(message: pb.ShadowReport) -> ComparisonReport:
    """The report of a message. Raises Fault INVALID_ARGUMENT for a malformed one."""
    report = ComparisonReport(
        message.pipeline,
        message.release,
        message.arm,
        message.against,
        message.epoch,
        message.began_time.ToDatetime(UTC),
        message.both_answered_count,
        message.shadow_failed_count,
        message.live_failed_count,
        message.both_failed_count,
        {o.name: _read_output(o) for o in message.outputs},
        _read_sketch(message.live_seconds),
        _read_sketch(message.shadow_seconds),
        dropped=dict(message.dropped_rows),
        errors=dict(message.shadow_errors),
    )
    for row in message.worst:
        report.worst.add(_read_row(row))
    return report


def _read_output(message: pb.OutputComparison) -> OutputComparison:
    return OutputComparison(
        BY_NUMBER.get(message.data_type, DType.BYTES),
        message.row_count,
        message.equal_count,
        message.live_true_count,
        message.shadow_true_count,
        _read_sketch(message.deltas),
    )


def _write_sketch(sketch: QuantileSketch, message: pb.QuantileSketch) -> None:
    message.buckets.update(sketch.buckets)
    message.zero_count, message.infinite_count = sketch.zeros, sketch.infinite
    message.sum, message.max = sketch.sum, sketch.max


def _read_sketch(message: pb.QuantileSketch) -> QuantileSketch:
    return QuantileSketch(
        dict(message.buckets), message.zero_count, message.infinite_count, message.sum, message.max
    )


def _write_row(row: DifferentRow, message: pb.DifferentRow) -> None:
    message.request_id, message.row, message.score = row.request_id, row.row, row.score
    message.shadow_error = row.error
    for output, live, shadow in row.values:
        message.values.add(output=output, live=live, shadow=shadow)
    if row.inputs is not None:
        encode_into(message.inputs, row.inputs)
    message.left_out.extend(row.left_out)


def _read_row(message: pb.DifferentRow) -> DifferentRow:
    try:
        inputs = decode(message.inputs) if message.HasField("inputs") else None
    except Fault:
        inputs = None
    return DifferentRow(
        message.request_id,
        message.row,
        message.score,
        [(v.output, v.live, v.shadow) for v in message.values],
        message.shadow_error,
        inputs,
        list(message.left_out),
    )
