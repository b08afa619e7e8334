"""Alerts of features: the store, and how old values are."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, TICKET, Alert
from headrace.slo.promql import grew, share_above

STORE_ERRORS = "HeadraceFeatureStoreErrors"

FEATURES = (
    Alert(
        STORE_ERRORS,
        TICKET,
        "sum by (kind) (increase(headrace_features_store_errors_total[5m])) >= 10",
        MINUTE_S,
        "reads of the feature store fail: {{ $labels.kind }}",
        "headrace features check",
        failure="F4",
    ),
    Alert(
        "HeadraceFeaturesStale",
        TICKET,
        share_above(
            'headrace_features_rows_total{source=~"stale|default|outside_max_age"}',
            "headrace_features_rows_total",
            "view",
            "10m",
            0.05,
            100,
        ),
        5 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the rows of view {{ $labels.view }} have old or default values",
        "headrace features check",
        follows=(STORE_ERRORS,),
        failure="F4",
    ),
    Alert(
        "HeadraceFeaturesMissing",
        TICKET,
        # Some entities are new to every store. Half of them: it came back empty, or is another one.
        share_above(
            'headrace_features_rows_total{source="not_found"}',
            "headrace_features_rows_total",
            "view",
            "10m",
            0.5,
            100,
        ),
        2 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the entities have no row in view {{ $labels.view }}: is the store empty?",
        "headrace features check",
        failure="F4",
    ),
    Alert(
        "HeadraceFeatureEventsRejected",
        TICKET,
        grew('headrace_features_events_total{outcome="rejected"}', "instance", "10m"),
        0,
        "{{ $value | humanize }} feature events were set aside within 10 minutes",
        "headrace logs features",
    ),
)
