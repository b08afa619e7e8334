"""Alerts of drift: what models get and answer is not what they learned from, or they err more than before."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert
from headrace.slo.promql import grew

# A shadow's answers reach nobody: never a page.
_SERVES = 'arm!~".+/shadow"'
_BY = "pipeline, arm, column, check"

DRIFT = (
    Alert(
        "HeadraceDriftSevere",
        PAGE,
        f"max by ({_BY}) (headrace_drift_level{{{_SERVES}}}) == 2",
        MINUTE_S,
        "{{ $labels.pipeline }} ({{ $labels.arm }}): column {{ $labels.column }} is far from what the model learned from "
        "({{ $labels.check }})",
        "headrace release history {{ $labels.pipeline }}",
        failure="F2",
    ),
    Alert(
        "HeadraceDrift",
        TICKET,
        # Not `>= 1`: what pages needs no ticket. Of a shadow it is a ticket at most.
        f"max by ({_BY}) (headrace_drift_level{{{_SERVES}}}) == 1 "
        f'or max by ({_BY}) (headrace_drift_level{{arm=~".+/shadow"}}) >= 1',
        5 * MINUTE_S,
        "{{ $labels.pipeline }} ({{ $labels.arm }}): column {{ $labels.column }} drifts ({{ $labels.check }})",
        "headrace release history {{ $labels.pipeline }}",
        failure="F2",
    ),
    Alert(
        "HeadraceConceptDrift",
        PAGE,
        f"max by (pipeline, arm) (headrace_drift_concept{{{_SERVES}}}) == 1",
        0,
        "{{ $labels.pipeline }} ({{ $labels.arm }}) errs more than it did at first",
        "headrace release history {{ $labels.pipeline }}",
        failure="F2",
    ),
    Alert(
        "HeadraceDriftBlind",
        TICKET,
        grew('headrace_drift_refused_batches_total{why!="series"}', "instance", "30m")
        + " or "
        + grew("headrace_monitoring_failed_observations_total", "instance", "30m"),
        0,
        "{{ $labels.instance }} does not count all predictions for drift: a baseline or a batch can't be used",
        "headrace logs monitoring",
    ),
    Alert(
        "HeadraceRetrainTriggered",
        TICKET,
        grew("headrace_retrain_triggers_total", "pipeline, cause", "1h"),
        0,
        "a retraining of {{ $labels.pipeline }} was triggered: {{ $labels.cause }}",
        "headrace release history {{ $labels.pipeline }}",
        failure="F2",
    ),
    Alert(
        "HeadraceRetrainFailing",
        TICKET,
        grew("headrace_retrain_failures_total", "pipeline", "1h"),
        0,
        "a retraining of {{ $labels.pipeline }} is due, and its command or webhook failed",
        "headrace logs monitoring",
    ),
)
