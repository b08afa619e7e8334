"""Alerts of models: errors, loading, backends, queues."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, TICKET, Alert
from headrace.slo.promql import grew, share_above

MODELS = (
    Alert(
        "HeadraceModelErrors",
        TICKET,
        share_above(
            'headrace_executor_rows_total{code!~"OK|CANCELLED|DEADLINE_EXCEEDED"}',
            "headrace_executor_rows_total",
            "model, version",
            "10m",
            0.001,
            10,
        ),
        2 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the rows of {{ $labels.model }}:{{ $labels.version }} fail",
        "headrace release show",
        failure="F2",
    ),
    Alert(
        "HeadraceColdStarts",
        TICKET,
        'sum by (model) (increase(headrace_executor_cold_starts_total{why="call"}[1h])) '
        "/ sum by (model) (increase(headrace_executor_rows_total[1h])) > 0.01 "
        'and sum by (model) (increase(headrace_executor_cold_starts_total{why="call"}[1h])) >= 3',
        0,
        "{{ $value | humanizePercentage }} of the rows of {{ $labels.model }} waited for it to be loaded",
        "headrace models list",
        failure="F3",
    ),
    Alert(
        "HeadraceBackendFailover",
        TICKET,
        grew("headrace_executor_failovers_total", "model, version, from, to", "10m"),
        0,
        "{{ $labels.model }}:{{ $labels.version }} moved from {{ $labels.from }} to {{ $labels.to }}",
        "headrace models list",
        failure="F5",
    ),
    Alert(
        "HeadraceModelQuarantined",
        TICKET,
        "max by (model, version) (headrace_executor_quarantined) == 1",
        MINUTE_S,
        "{{ $labels.model }}:{{ $labels.version }} should serve and can't be used",
        "headrace models list",
    ),
    Alert(
        "HeadraceQueueLong",
        TICKET,
        "sum by (model, version) (headrace_executor_queue_rows) > 512",
        5 * MINUTE_S,
        "{{ $value }} rows wait for {{ $labels.model }}:{{ $labels.version }}",
        "headrace status",
        failure="F1",
    ),
)
