"""Alerts of what the door refuses: limits, overload, credentials."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, TICKET, Alert
from headrace.slo.catalogue.processes import TARGET_DOWN
from headrace.slo.promql import share_above

_FULL = (
    'sum(increase(headrace_ingress_requests_total{code=~"RESOURCE_EXHAUSTED|UNAVAILABLE",fault="ours"}[10m]))'
)

REFUSALS = (
    Alert(
        "HeadraceQuotaRefusals",
        TICKET,
        share_above(
            'headrace_ingress_requests_total{code="RESOURCE_EXHAUSTED",fault="caller"}',
            "headrace_ingress_requests_total",
            "tenant",
            "10m",
            0.05,
            20,
        ),
        5 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the requests of tenant {{ $labels.tenant }} are refused by its limits",
        "headrace tenants show {{ $labels.tenant }}",
        failure="F7",
    ),
    Alert(
        "HeadraceOverloaded",
        TICKET,
        # Not `refusals_total`: it lacks those that are repeated at once, which are most of them.
        f"{_FULL} / sum(increase(headrace_ingress_requests_total[10m])) > 0.01 and {_FULL} >= 20",
        2 * MINUTE_S,
        "{{ $value | humanizePercentage }} of the requests are refused because something here is full",
        "headrace status",
        follows=(TARGET_DOWN, "HeadraceCrashLoop"),
        failure="F7",
    ),
    Alert(
        "HeadraceAuthFailures",
        TICKET,
        'sum(increase(headrace_ingress_requests_total{code=~"UNAUTHENTICATED|PERMISSION_DENIED"}[10m])) '
        "/ sum(increase(headrace_ingress_requests_total[10m])) > 0.2 "
        "and sum(increase(headrace_ingress_security_events_total[10m])) >= 50",
        MINUTE_S,
        "{{ $value | humanizePercentage }} of the requests have no valid credential, or not the right",
        "headrace security",
        failure="F6",
    ),
    Alert(
        "HeadraceTenantsBroken",
        TICKET,
        "max(headrace_ingress_tenants_broken) == 1",
        MINUTE_S,
        "a tenant or key can't be used as control has it; the last good one is in force, so its changes do not happen",
        "headrace tenants list",
        failure="F6",
    ),
    Alert(
        "HeadraceQuotasLocal",
        TICKET,
        "max(headrace_quota_alone) == 1 or max(headrace_quota_refused_tenants) > 0",
        2 * MINUTE_S,
        "doors do not share limits of tenants: each has its part of them, whatever the demand",
        "headrace status",
        failure="F7",
    ),
)
