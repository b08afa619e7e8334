"""Alerts of what is live: releases, rollouts, fallbacks, and what is counted of them."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert
from headrace.slo.catalogue.processes import TARGET_DOWN
from headrace.slo.promql import grew

# Those of features have alerts of their own; that some entities have no row is usual.
_FALLBACKS = 'sum by (pipeline) (increase(headrace_router_fallback_rows_total{fallback!~"features/.+"}[10m]))'

RELEASES = (
    Alert(
        "HeadracePipelineDown",
        PAGE,
        'max by (pipeline) (headrace_router_quarantined_documents{serves="nothing"} or '
        'headrace_ingress_quarantined_documents{serves="nothing"}) == 1',
        MINUTE_S,
        "pipeline {{ $labels.pipeline }} answers nothing: its release or document is broken, and no earlier one is kept",
        "headrace release history {{ $labels.pipeline }}",
    ),
    Alert(
        "HeadraceDocumentQuarantined",
        TICKET,
        'max by (pipeline) (headrace_router_quarantined_documents{serves="last_good"} or '
        'headrace_ingress_quarantined_documents{serves="last_good"}) == 1',
        MINUTE_S,
        "the newest release of {{ $labels.pipeline }} is broken; its last good one serves",
        "headrace release history {{ $labels.pipeline }}",
    ),
    Alert(
        "HeadraceReleaseWaiting",
        TICKET,
        "max by (pipeline) (headrace_router_waiting_releases) == 1",
        10 * MINUTE_S,
        "the newest release of {{ $labels.pipeline }} waits for its models",
        "headrace models list",
        follows=("HeadraceModelQuarantined",),
    ),
    Alert(
        "HeadraceRolledBack",
        TICKET,
        grew('headrace_rollout_changes_total{action="roll back"}', "pipeline", "15m"),
        0,
        "the rollout of {{ $labels.pipeline }} was rolled back: the new version did harm",
        "headrace rollout status {{ $labels.pipeline }}",
        failure="F2",
    ),
    Alert(
        "HeadraceWorseThanBefore",
        PAGE,
        "max by (pipeline) (headrace_outcomes_worse_than_before) == 1",
        0,
        "{{ $labels.pipeline }} is wrong more often than what was live before it, as outcomes say",
        "headrace release history {{ $labels.pipeline }}",
        failure="F2",
    ),
    Alert(
        "HeadraceRolloutFailing",
        TICKET,
        "sum by (kind) (increase(headrace_rollout_failures_total[15m])) >= 5",
        0,
        "the analyser of rollouts fails: {{ $labels.kind }}; rollouts stay where they are",
        "headrace logs monitoring",
    ),
    Alert(
        "HeadraceFallbacks",
        TICKET,
        f"{_FALLBACKS} / sum by (pipeline) (increase(headrace_router_rows_total[10m])) > 0.05 and {_FALLBACKS} >= 100",
        5 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the rows of {{ $labels.pipeline }} used a fallback of a model or a kept answer",
        "headrace status",
        follows=(TARGET_DOWN,),
    ),
    Alert(
        "HeadraceTelemetryLost",
        TICKET,
        grew("headrace_router_lost_exposures_total", "instance", "10m")
        + " or "
        + grew("headrace_monitoring_lost_exposures_total", "instance", "10m")
        + ' or sum by (instance) (increase(headrace_router_tick_reports_total{code!="OK"}[10m])) >= 30',
        0,
        "{{ $labels.instance }} loses counts or exposures: experiments and rollouts see less than there is",
        "headrace status",
        follows=(TARGET_DOWN, "HeadraceDiskWritesFailing"),
    ),
    Alert(
        "HeadraceAnswerStoreFailing",
        TICKET,
        "sum(increase(headrace_router_cache_store_failures_total[5m])) >= 10",
        MINUTE_S,
        "the shared store of kept answers fails; models answer instead",
        "headrace logs router",
    ),
)
